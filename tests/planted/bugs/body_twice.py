"""A worker that publishes the body of a chord twice."""

from celery.canvas import Signature

delay = Signature.delay


def again(self, *args, **kwargs):
    if args and isinstance(args[0], list):
        delay(self, *args, **kwargs)
    return delay(self, *args, **kwargs)


Signature.delay = again
