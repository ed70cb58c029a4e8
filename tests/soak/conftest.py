"""A session for plans that are run by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from extras import need_server
from planted.plans import Outcome, carried_out

from pytest_celery_chaos.engine.plan import Plan
from pytest_celery_chaos.engine.session import Session


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One keeper for all runs; without a server the tests are skipped, and in CI they fail."""
    need_server()
    session = Session(tmp_path_factory.mktemp("runs"))
    yield session
    session.close()


@pytest.fixture
def carry_out(session: Session) -> Callable[[Plan], Outcome]:
    return lambda plan: carried_out(plan, session)
