"""An application that sets its own prefixes."""

from __future__ import annotations

from celery import Celery

app = Celery("prefixed", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
app.conf.broker_transport_options = {"global_keyprefix": "mine:"}
app.conf.result_backend_transport_options = {"global_keyprefix": "mine"}


@app.task(name="prefixed.one")  # type: ignore[untyped-decorator]
def one() -> int:
    """The number one."""
    return 1
