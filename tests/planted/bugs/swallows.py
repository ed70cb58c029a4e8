"""A worker that acknowledges its second message without running it, and counts it as done."""

from celery.worker import state
from celery.worker.worker import WorkController

dispatch = WorkController._process_task
received = []


def _process_task(self, request):
    received.append(request.id)
    if len(received) != 2:
        return dispatch(self, request)
    request.acknowledge()
    state.task_ready(request)
    getattr(self, "_quick_release", lambda: None)()
    return None


WorkController._process_task = _process_task
