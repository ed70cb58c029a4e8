"""A worker that opens a connection for each message, and keeps it."""

from celery.worker.worker import WorkController

dispatch = WorkController._process_task
opened = []


def _process_task(self, request):
    connection = self.app.connection_for_write()
    connection.default_channel.client.ping()
    opened.append(connection)
    return dispatch(self, request)


WorkController._process_task = _process_task
