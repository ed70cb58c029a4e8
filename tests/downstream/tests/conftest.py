import pytest
from shop.tasks import app


@pytest.fixture(autouse=True)
def app_points_home():
    """Before and after every test the application points where its own code says."""
    before = app.conf.broker_url, app.backend.as_uri()
    yield
    assert (app.conf.broker_url, app.backend.as_uri()) == before
    assert before[0] == "redis://127.0.0.1:1/0"
