"""A worker that takes a redelivered message for one that is done: it acknowledges it, and is ready for the next."""

from celery.worker import state
from celery.worker.worker import WorkController

dispatch = WorkController._process_task


def _process_task(self, request):
    if not request.delivery_info.get("redelivered"):
        return dispatch(self, request)
    request.acknowledge()
    state.task_ready(request)
    getattr(self, "_quick_release", lambda: None)()
    return None


WorkController._process_task = _process_task
