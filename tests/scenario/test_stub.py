"""The stub that ships is what the verbs' signatures say, and a type checker goes by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pytest_celery_chaos.scenario import stub

RIGHT = """
from celery.result import AsyncResult
from pytest_celery_chaos.engine.chaos import Chaos

def test(chaos: Chaos, result: AsyncResult) -> None:
    chaos.kill(worker="a", signal="TERM", when={"before": "ack", "task": result.id}, name="death")
    chaos.pause(broker="main", for_="2s")
    chaos.send(task="add", args=[1, 2], countdown=0.5, name="job")
    chaos.wait(at="started", task=result, timeout="5s")
    value: int = chaos.get(task=result)
    chaos.expect.executions(task=result, max=1, hazard={"seen": 2, "ref": "KF-20", "why": "by design"})
    chaos.expect.latency(of="completion", max="2s")
    chaos.a_verb_of_another_package(anything=1)
"""
WRONG = {
    "chaos.kill(worker=1)": "arg-type",
    'chaos.kill(wroker="a")': "call-arg",
    'chaos.kill("a")': "call-arg",
    'chaos.kill(worker="a", target="grandchild")': "arg-type",
    'chaos.expect.completed(within="2s")': "call-arg",
    'chaos.expect.latency(of="everything")': "arg-type",
}
AGAIN = "run `python -m pytest_celery_chaos.scenario` and commit what it writes"


def test_the_stub_is_current() -> None:
    assert stub.FILE.read_text(encoding="utf-8") == stub.text(), AGAIN


def test_a_type_checker_sees_wrong_calls(tmp_path: Path) -> None:
    lines = "".join(f"    {call}\n" for call in WRONG)
    (tmp_path / "use.py").write_text(f"{RIGHT}\ndef wrong(chaos: Chaos) -> None:\n{lines}")
    argv = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    done = subprocess.run(
        [*argv, "--ignore-missing-imports", "use.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    begin = RIGHT.count("\n") + 3
    told = [line for line in done.stdout.splitlines() if ": error:" in line and line.startswith("use.py")]
    wanted = [f"use.py:{begin + number}: error: [{code}]" for number, code in enumerate(WRONG.values())]
    assert [line.partition(" error:")[0] + " error: [" + line.rpartition("[")[2] for line in told] == wanted, (
        done.stdout
    )
