"""Workers that acknowledge one message in so many without running it, counted over all of them, and say it is done."""

import os

from celery.worker import state
from celery.worker.worker import WorkController

dispatch = WorkController._process_task
EVERY = int(os.environ["SWALLOW_EVERY"])


def _process_task(self, request):
    counter = os.open(os.environ["SWALLOW_COUNTER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(counter, b".")
        number = os.lseek(counter, 0, os.SEEK_CUR)  # where O_APPEND has put this byte, whoever else writes
    finally:
        os.close(counter)
    if number % EVERY:
        return dispatch(self, request)
    request.acknowledge()
    state.task_ready(request)
    getattr(self, "_quick_release", lambda: None)()
    return None


WorkController._process_task = _process_task
