"""A session for plans that are run by hand."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from planted.plans import Outcome, carried_out

from pytest_celery_chaos.brokers.find import find
from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.session import Session
from pytest_celery_chaos.errors import ServerNotFound


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One keeper for all runs; without a server the tests are skipped, and in CI they fail."""
    try:
        find("valkey", None)
    except ServerNotFound as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
    session = Session(tmp_path_factory.mktemp("runs"))
    yield session
    session.close()


@pytest.fixture
def carry_out(session: Session) -> Callable[[Plan], Outcome]:
    return lambda plan: carried_out(plan, session)
