"""Whatever ends the process that owns a keeper, two seconds later nothing is left of what it had started."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from started import heed_signals

from pytest_celery_chaos.system import wait

from .conftest import processes_with, state_of

GONE_SECONDS = 2.0


class Owner:
    """A running owner.py."""

    def __init__(self, folder: Path, *watch: int) -> None:
        self.token = uuid.uuid4().hex
        self.temp = folder / self.token[:6]
        self.run = self.temp / "run"
        self.run.mkdir(parents=True)
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("owner.py"), self.run, self.token, *map(str, watch)],
            env={**os.environ, "TMPDIR": str(self.temp), "TOKEN": self.token},  # the keeper inherits the token
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=heed_signals,
        )
        self.born = time.monotonic()

    def up(self) -> Owner:
        wait.until(lambda: (self.run / "up").exists(), what="the owner to be up", timeout=10)
        return self

    def status(self) -> dict[str, object] | None:
        path = self.run / "run.json"
        return json.loads(path.read_text()) if path.exists() else None

    def left(self) -> list[str]:
        """What is there beside the run's own folder: processes and temporary folders."""
        return processes_with(self.token) + [str(path) for path in self.temp.iterdir() if path != self.run]

    def leaves_nothing(self) -> None:
        """Wait until it is gone with all its own."""
        self.process.wait(GONE_SECONDS)
        wait.until(
            lambda: not self.left(), what="everything to be gone", timeout=GONE_SECONDS, last=lambda: str(self.left())
        )


@pytest.fixture
def owners(short_folder: Path) -> Iterator[Callable[..., Owner]]:
    started: list[Owner] = []

    def start(*watch: int) -> Owner:
        started.append(Owner(short_folder, *watch))
        return started[-1]

    yield start
    for owner in started:
        if owner.process.poll() is None:
            owner.process.kill()
            owner.process.wait()


def test_the_family_of_survivors_is_what_it_says(owners: Callable[..., Owner]) -> None:
    """The tests below prove nothing if their processes would have ended anyway."""
    owner = owners().up()

    def kinds() -> bool:
        members = processes_with(owner.token)
        return len(members) > 30 and sum(state_of(line.split()[0]) == "T" for line in members) >= 5

    wait.until(kinds, what="more than 30 processes, 5 of them stopped", timeout=5)
    os.kill(owner.process.pid, signal.SIGKILL)
    owner.leaves_nothing()


@pytest.mark.parametrize("batch", range(6))
def test_kill_9_at_a_random_moment_leaves_nothing(batch: int, owners: Callable[..., Owner]) -> None:
    seed = random.SystemRandom().getrandbits(32)
    moments = random.Random(seed)
    running = [owners() for _ in range(5)]
    # The first are killed while their keeper starts, the last when their trees are growing.
    plan = sorted(((owner.born + moments.uniform(0.02, 0.6), owner) for owner in running), key=lambda pair: pair[0])
    for moment, owner in plan:
        reached = partial(lambda moment: time.monotonic() >= moment, moment)
        wait.until(reached, what="the moment", timeout=2, every=0.001)
        os.kill(owner.process.pid, signal.SIGKILL)
    for owner in running:
        owner.leaves_nothing()
        status = owner.status()
        assert status is None or status["status"] == "interrupted", f"seed {seed}: {status}"


def test_a_killed_owners_run_says_interrupted_and_keeps_what_it_said_before(owners: Callable[..., Owner]) -> None:
    owner = owners().up()
    os.kill(owner.process.pid, signal.SIGKILL)
    owner.leaves_nothing()
    assert owner.status() == {
        "id": "r1",
        "status": "interrupted",
        "started": 5,
        "ended_by": f"the owner (pid {owner.process.pid}) ended",
    }


def test_a_stopped_owner_that_is_killed_leaves_nothing(owners: Callable[..., Owner]) -> None:
    owner = owners().up()
    os.kill(owner.process.pid, signal.SIGSTOP)
    os.kill(owner.process.pid, signal.SIGKILL)
    owner.leaves_nothing()


@pytest.mark.parametrize("signals", [("TERM",), ("HUP",), ("INT",), ("INT", "INT"), ("QUIT",)], ids="-".join)
def test_a_signal_to_the_owners_group_leaves_nothing(signals: tuple[str, ...], owners: Callable[..., Owner]) -> None:
    owner = owners().up()
    for name in signals:
        os.killpg(owner.process.pid, signal.Signals["SIG" + name])
    owner.leaves_nothing()
    status = owner.status()
    assert status is not None
    assert status["status"] == "interrupted"


def test_a_watched_process_that_dies_takes_the_owner_with_it(owners: Callable[..., Owner]) -> None:
    with subprocess.Popen(["sleep", "30"]) as controller:
        owner = owners(controller.pid).up()
        controller.kill()
    owner.leaves_nothing()
    assert owner.process.returncode == -signal.SIGKILL
    status = owner.status()
    assert status is not None
    assert status["ended_by"] == f"watched process {controller.pid} ended"


def test_a_watched_process_that_dies_takes_a_stopped_owner_with_it(owners: Callable[..., Owner]) -> None:
    with subprocess.Popen(["sleep", "30"]) as controller:
        owner = owners(controller.pid).up()
        os.kill(owner.process.pid, signal.SIGSTOP)
        controller.kill()
    owner.leaves_nothing()


HOLDS_THE_PIPE = """
import os, sys, time
from pathlib import Path
from pytest_celery_chaos.system.keeper import Keeper
keeper = Keeper()
if sys.argv[1] == "fork":
    if os.fork() == 0:
        try:
            keeper.temp_folder()
        except Exception as error:
            os.write(1, f"{type(error).__name__}\\n".encode())
        keeper.close()
        os.execvp("sleep", ["sleep", "30"])
else:  # a fork that Python does not know of keeps the file open
    import subprocess
    subprocess.Popen(["sleep", "30"], pass_fds=[keeper._connection.fileno()])
    os.write(1, b"UsageError\\n")
keeper.spawn("s", ["sleep", "30"], env=dict(os.environ), cwd=Path("/"), log=Path("/dev/null"))
os.write(1, f"{keeper.pid}\\n".encode())
time.sleep(30)
"""


@pytest.mark.parametrize("how", ["fork", "inherited"])
def test_a_fork_of_the_owner_does_not_keep_the_keeper(how: str) -> None:
    token = uuid.uuid4().hex
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLDS_THE_PIPE, how], env={**os.environ, "T": token}, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    said = sorted([owner.stdout.readline().strip(), owner.stdout.readline().strip()])
    assert said[1] == "UsageError", "a fork may not use the keeper of its parent"
    wait.until(lambda: len(processes_with(token)) == 4, what="owner, fork, keeper and child", timeout=5)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait.until(lambda: len(processes_with(token)) == 1, what="only the fork to be left", timeout=GONE_SECONDS)
    (fork,) = processes_with(token)
    os.kill(int(fork.split()[0]), signal.SIGKILL)


IS_STOPPED = """
import os, signal
from pathlib import Path
from pytest_celery_chaos.system.keeper import Keeper
keeper = Keeper()
os.mkfifo("gate")
options = {"env": {"T": os.environ["T"]}, "cwd": Path.cwd(), "log": Path("log")}
children = [keeper.spawn("c", ["cat", "gate"], **options) for number in range(500)]
print("up", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print([child.wait(5).code for child in children] == [0] * 500, keeper.spawn("c", ["true"], **options).wait(5))
"""


def test_an_owner_that_was_stopped_hears_of_all_exits_when_it_goes_on(tmp_path: Path) -> None:
    """As by Ctrl-Z: more reports than the socket takes, so the keeper holds them back, and does not wait for them."""
    token = uuid.uuid4().hex
    owner = subprocess.Popen(
        [sys.executable, "-c", IS_STOPPED],
        env={**os.environ, "T": token},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None

    def released() -> bool:
        """Open and close the gate, so that all who have it open by now read its end and exit."""
        with contextlib.suppress(OSError):  # nobody has
            os.close(os.open(tmp_path / "gate", os.O_WRONLY | os.O_NONBLOCK))
        return len(processes_with(token)) == 2

    try:
        assert owner.stdout.readline() == "up\n"
        wait.until(lambda: state_of(owner.pid) == "T", what="the owner to be stopped", timeout=5)
        wait.until(released, what="only owner and keeper to be left", timeout=10)
        owner.send_signal(signal.SIGCONT)
        assert owner.communicate(timeout=10)[0] == "True exit code 0\n"
    finally:
        owner.kill()
        owner.communicate()
