"""A keeper that was asked to stay outlives its owner with all that it keeps, and ends by a signal of the user's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

from pytest_celery_chaos.system import wait

from .conftest import processes_with, state_of

STAYS = """
import os, sys
from pathlib import Path
from pytest_celery_chaos.system.keeper import Keeper
keeper = Keeper(watch=[os.getppid()])
temp = keeper.temp_folder()
child = keeper.spawn("s", ["sleep", "30"], env=dict(os.environ), cwd=Path("/"), log=Path("/dev/null"))
child.signal(19)
keeper.stay()
keeper.close()
print(keeper.pid, child.pid, temp, flush=True)
"""


def test_what_stays_outlives_its_owner_until_the_keeper_gets_sigterm() -> None:
    token = uuid.uuid4().hex
    environment = {**os.environ, "T": token}
    owner = subprocess.run(
        [sys.executable, "-W", "error", "-c", STAYS], env=environment, capture_output=True, text=True, check=True
    )
    assert owner.stderr == ""
    keeper, child, temp = owner.stdout.split()
    assert len(processes_with(token)) == 2
    assert state_of(child) == "T"
    assert Path(temp).is_dir()
    for harmless in (signal.SIGINT, signal.SIGHUP):
        os.kill(int(keeper), harmless)
    os.kill(int(keeper), signal.SIGTERM)
    wait.until(lambda: not processes_with(token), what="keeper and child to be gone", timeout=2)
    assert not Path(temp).exists()
