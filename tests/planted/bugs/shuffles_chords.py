"""A worker that gives the body of a chord the results of its parts in the opposite order."""

from celery.canvas import Signature

delay = Signature.delay


def backwards(self, *args, **kwargs):
    given = [each[::-1] if isinstance(each, list) else each for each in args]
    return delay(self, *given, **kwargs)


Signature.delay = backwards
