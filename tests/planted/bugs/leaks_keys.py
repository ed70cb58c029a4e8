"""A worker that leaves a key without expiry for its second message: a reply to a question that nobody waits for."""

from uuid import uuid4

from celery.worker.worker import WorkController

dispatch = WorkController._process_task
received = []


def _process_task(self, request):
    received.append(request.id)
    if len(received) == 2:
        with self.app.connection_for_write() as connection:
            connection.default_channel.client.lpush(f"{uuid4()}.reply.celery.pidbox", "{}")
    return dispatch(self, request)


WorkController._process_task = _process_task
