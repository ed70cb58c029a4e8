"""Stands for pytest: starts a keeper and everything under it, and waits to be killed.

Run: ``python owner.py RUN_FOLDER TOKEN [WATCHED_PID]``. ``RUN_FOLDER/up`` appears when all is up.
"""

import os
import signal
import socket
import sys
from pathlib import Path

from pytest_celery_chaos.system.keeper import Keeper

folder, token, *watch = sys.argv[1:]
run = Path(folder)
keeper = Keeper(watch=[int(pid) for pid in watch])
keeper.run_begun(run)
(run / "run.json").write_text('{"id": "r1", "status": "running", "started": 5}')
temp = keeper.temp_folder()
listener = socket.socket(socket.AF_UNIX)
listener.bind(str(temp / "socket"))
(temp / "data" / "deep").mkdir(parents=True)
(temp / "data" / "deep" / "dump.rdb").write_text("x")
(temp / "data" / "link").symlink_to("/etc")

env = {"PATH": os.environ["PATH"], "TOKEN": token}
family = str(Path(__file__).with_name("survivor.py"))
for number in range(2):
    keeper.spawn(f"f{number}", [sys.executable, "-I", "-S", family, token], env=env, cwd=run, log=run / "log")
frozen = keeper.spawn("frozen", ["sleep", "30"], env=env, cwd=run, log=run / "log")
frozen.signal(signal.SIGSTOP)
(run / "up").touch()
while True:
    signal.pause()
