"""What runs inside the recorded processes: this folder goes first on their PYTHONPATH.

Nothing here imports the rest of the package: the interpreter may be another one, with another Celery, and no
pytest. Standard library, celery and kombu only.
"""
