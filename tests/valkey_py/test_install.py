"""Registering: what it adds, what it leaves alone, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest
from kombu.exceptions import VersionMismatch

from pytest_celery_chaos import valkey
from pytest_celery_chaos.valkey import versions

#: In a process of its own: the tables of kombu and Celery are the process's.
FRESH = """
import sys
from celery.app.backends import BACKEND_ALIASES as backends
from kombu.transport import TRANSPORT_ALIASES as transports
before = dict(backends), dict(transports)
from pytest_celery_chaos import valkey
valkey.install()
valkey.install()
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", FRESH + code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_adds_addresses_and_changes_none() -> None:
    code = """
for now, then in zip((backends, transports), before):
    assert {k: now[k] for k in then} == then
    print(sorted(set(now) - set(then)))
"""
    assert run(code).splitlines() == ["['valkey', 'valkeys', 'valkeysentinel']"] * 2


def test_an_application_with_redis_keeps_its_classes() -> None:
    code = """
from celery import Celery
app = Celery(broker='valkey://', backend='valkey://')
app.backend, app.connection_for_write().transport
app = Celery(broker='redis://', backend='redis://')
transport = type(app.connection_for_write().transport)
print(type(app.backend).__module__, app.backend.redis.__name__, transport.__module__, transport.driver_name)
print({each.__module__ for each in transport.connection_errors} & {'redis.exceptions', 'valkey.exceptions'})
"""
    assert run(code).splitlines() == ["celery.backends.redis redis kombu.transport.redis redis", "{'redis.exceptions'}"]


def test_it_imports_nothing_of_the_harness() -> None:
    code = """
from celery import Celery
app = Celery(broker='valkey://', backend='valkey://')
app.backend, app.connection_for_write().transport
print(sorted(name for name in sys.modules if name.startswith('pytest')))
"""
    ours = [f"pytest_celery_chaos.valkey{rest}" for rest in ("", ".backend", ".client", ".transport", ".versions")]
    assert run(code) == str(["pytest_celery_chaos", *ours])


@pytest.mark.parametrize(
    ("name", "version"), [("kombu", "5.4.2"), ("kombu", "5.8.0"), ("celery", "5.4.0"), ("valkey", "6.0.2")]
)
def test_a_version_that_it_is_not_made_for_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    real = metadata.version
    monkeypatch.setattr(versions, "version", lambda each: version if each == name else real(each))
    with pytest.raises(VersionMismatch, match=rf"for {name} \S+ to below \S+, and {version[:3]} is installed"):
        valkey.install()


@pytest.mark.parametrize("name", ["valkey", "redis"])
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = metadata.version

    def version(each: str) -> str:
        if each == name:
            raise metadata.PackageNotFoundError(each)
        return real(each)

    monkeypatch.setattr(versions, "version", version)
    with pytest.raises(ImportError, match=rf"valkey:// needs {name}-py.*pip install"):
        valkey.install()
