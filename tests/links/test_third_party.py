"""A fault of an installed package, found by its entry point, breaks a link that a file declares by using it."""

from __future__ import annotations

from pathlib import Path

import pytest
from extras import need_server
from started import COMMAND, clean_environment, run

FAULT = '''
from __future__ import annotations

from pytest_celery_chaos.engine.run import Heal
from pytest_celery_chaos.values import LinkRef


def hiccup(run, *, link: LinkRef) -> Heal:
    """Hold a link's breath.

    :param link: the link.
    """
    proxy, names = run.links.proxy, run.links.known([link])
    proxy.freeze(links=names, new=True)
    return lambda: proxy.thaw(links=names)
'''
SCENARIO = """
scenario: A hiccup
profile: fast
workers: {a: {pool: solo}}
steps:
  - hiccup: {link: a-broker}
    name: short
    for: 500ms
  - send: {task: count, times: 3}
    name: job
  - wait: {healed: short}
expect:
  - completed: {task: job}
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of installed packages with one that brings a fault."""
    need_server()
    site = tmp_path / "site"
    about = site / "hiccups-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "hiccups.py").write_text(FAULT)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hiccups\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[pytest_celery_chaos.faults]\nhiccup = hiccups:hiccup\n")
    return site


def test_it_works_from_yaml(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "hiccup.chaos.yaml").write_text(SCENARIO)
    without = run(*COMMAND, "lint", "hiccup.chaos.yaml", cwd=tmp_path)
    assert without.returncode == 2
    assert "unknown key 'hiccup' in step" in without.stdout + without.stderr
    ran = run(*COMMAND, "run", "hiccup.chaos.yaml", cwd=tmp_path, env=clean_environment(PYTHONPATH=str(installed)))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    (history,) = tmp_path.glob(".celery-chaos/runs/*/history.ndjson")
    told = history.read_text()
    assert '"verb":"hiccup"' in told
    assert '"source":"link:a-broker"' in told
