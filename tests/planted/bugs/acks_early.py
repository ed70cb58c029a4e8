"""A worker that acknowledges what it receives before it is run, whatever ``acks_late`` says."""

from celery.worker.worker import WorkController

dispatch = WorkController._process_task


def _process_task(self, request):
    # At once: request.acknowledge() leaves it to the next turn of the event loop.
    request.message.ack()
    request.acknowledged = True
    return dispatch(self, request)


WorkController._process_task = _process_task
