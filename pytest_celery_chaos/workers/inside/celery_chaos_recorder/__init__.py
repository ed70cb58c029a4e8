"""The recorder: writes down what a Celery worker or client does, and holds it where it is told to.

In a process of ours it enters by ``sitecustomize`` and :func:`imports.enter`. In the test process the harness calls
:func:`in_process.install` and :func:`in_process.uninstall` around one test.
"""
