"""A worker that puts its second message back whenever it gets it."""

from celery.worker import state
from celery.worker.worker import WorkController

dispatch = WorkController._process_task
received = []


def _process_task(self, request):
    if request.id not in received:
        received.append(request.id)
    if request.id != received[-1] or len(received) != 2:
        return dispatch(self, request)
    request.message.reject(requeue=True)
    request.acknowledged = True
    state.task_ready(request)
    getattr(self, "_quick_release", lambda: None)()
    return None


WorkController._process_task = _process_task
