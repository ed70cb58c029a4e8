"""Real Celery workers, and the recorder that runs inside them."""
