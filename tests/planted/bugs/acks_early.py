"""A worker that acknowledges what it receives before it is run, whatever ``acks_late`` says."""

from celery.worker.worker import WorkController

dispatch = WorkController._process_task


def _process_task(self, request):
    request.acknowledge()
    return dispatch(self, request)


WorkController._process_task = _process_task
