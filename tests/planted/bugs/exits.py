"""A worker that is gone when its second message comes."""

import os

from celery.worker.worker import WorkController

dispatch = WorkController._process_task
received = []


def _process_task(self, request):
    received.append(request.id)
    if len(received) == 2:
        os._exit(0)
    return dispatch(self, request)


WorkController._process_task = _process_task
