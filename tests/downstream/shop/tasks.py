"""The application under test: its broker is set in code, and nobody listens there."""

from celery import Celery

app = Celery("shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
app.conf.broker_transport_options = {
    "visibility_timeout": 2,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}


@app.task(acks_late=True)
def charge(amount):
    return amount


@app.task
def greet(name):
    return f"hello {name}"


@app.task
def receipt(amounts):
    return amounts


elsewhere = Celery("elsewhere", broker="redis://127.0.0.1:1/5")


@elsewhere.task
def stray():
    return None
