"""A worker that gives its second message to the pool twice."""

from celery.worker.worker import WorkController

dispatch = WorkController._process_task
received = []


def _process_task(self, request):
    received.append(request.id)
    if len(received) == 2:
        dispatch(self, request)
    return dispatch(self, request)


WorkController._process_task = _process_task
