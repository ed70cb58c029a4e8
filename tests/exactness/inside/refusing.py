"""A task that gives its message back, for a worker that is started with ``--include refusing``."""

from celery.exceptions import Reject
from celery_chaos_tasks import _append, app


@app.task(name="refuse", bind=True)
def refuse(self):
    """Leave a line as ``count`` does, then reject the message and ask for it to be queued again."""
    _append(f"{self.request.id} refused")
    raise Reject("not now", requeue=True)
