"""What is laid over wins in every style of application, and says so where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import UV_PIP_INSTALL

from pytest_celery_chaos.system import wait
from pytest_celery_chaos.workers.inside.celery_chaos_recorder import in_process, overlay
from pytest_celery_chaos.workers.runtime import cache_folder

from .conftest import missing
from .lab import FAST, INSIDE, VERSIONS, Lab, Process
from .styles import OURS, STYLES, Style

TASK_NAMES = {"package": "proj.tasks.add", "django": "proj.tasks.add"}
#: kombu reads the pace of its sweep from the transport options since 5.7.
BOTH_ENDS = ("5.3", "5.7")


def write(style: Style, folder: Path) -> None:
    for name, text in style.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def start(lab: Lab, version: str, name: str, folder: Path) -> Process:
    style = STYLES[name]
    write(style, folder)
    env = dict(style.env)
    if name == "django":
        env["PYTHONPATH"] = os.pathsep.join([str(INSIDE), str(folder), str(django())])
    return lab.worker(
        version, "solo", app=style.app, name=name, settings=OURS, env=env, path=folder, ready=False,
        options=[*FAST, "-Q", name],
    )  # fmt: skip


def django() -> Path:
    """A folder with Django alone, made once: this Python's Celery must not come along with it."""
    folder = cache_folder() / "tests" / "django"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary) / "django"
            command = [*UV_PIP_INSTALL, "--python", sys.executable, "--target", str(made), "django>=4.2,<6"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                missing(f"Django cannot be installed: {done.stderr[-300:]}")
            if not folder.exists():
                made.rename(folder)
    return folder


def judge(process: Process, lab: Lab, name: str) -> None:
    """The report says that all is in force, and a task really goes through our broker to our backend."""
    ready = process.until("ready").attrs
    assert ready["overlay"]
    assert all(ready["overlay"].values()), ready["overlay"]
    settings = ready["settings"]
    assert settings["broker_url"] == lab.server.url(0)
    assert settings["result_backend"] == lab.server.url(1)
    assert settings["worker_prefetch_multiplier"] == 1
    assert settings["visibility_timeout"] == 33
    assert settings["unacked_restore_limit"] == 7, "their own key stays"
    task = TASK_NAMES.get(name, "proj.add")
    assert ready["tasks"][task]["acks_late"] is True
    assert ready["tasks"][task]["track_started"] is True


def run_all(lab: Lab, version: str, names: list[str], tmp_path: Path) -> None:
    """All styles, a few at a time, each with one task."""
    for begin in range(0, len(names), 4):
        batch = names[begin : begin + 4]
        processes = {}
        for name in batch:
            (tmp_path / name).mkdir()
            processes[name] = start(lab, version, name, tmp_path / name)
        for name, process in processes.items():
            judge(process, lab, name)
        app, ids = lab.client(), {}
        for name in batch:
            ids[name] = f"{name}-1"
            app.send_task(TASK_NAMES.get(name, "proj.add"), (1, 2), task_id=ids[name], queue=name)
        for name in batch:
            result = wait.until(
                lambda task=ids[name]: lab.server.client(1).get(f"celery-task-meta-{task}"),  # type: ignore[misc]
                what=f"the result of {name}",
                timeout=10,
            )
            assert b'"SUCCESS"' in result or b'"STARTED"' in result
        for process in processes.values():
            process.kill()


@pytest.mark.parametrize("version", BOTH_ENDS)
def test_the_overlay_wins_in_every_style(lab: Lab, version: str, tmp_path: Path) -> None:
    run_all(lab, version, [name for name in STYLES if name != "django"], tmp_path)


@pytest.mark.parametrize("version", BOTH_ENDS)
def test_the_overlay_wins_over_a_django_project(lab: Lab, version: str, tmp_path: Path) -> None:
    run_all(lab, version, ["django"], tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in BOTH_ENDS])
def test_the_overlay_wins_in_every_style_on_the_versions_between(lab: Lab, version: str, tmp_path: Path) -> None:
    run_all(lab, version, list(STYLES), tmp_path)


def test_what_has_no_effect_is_reported(lab: Lab, tmp_path: Path) -> None:
    """The command line beats the configuration, and kombu before 5.7 does not read the pace of its sweep."""
    old = lab.worker(
        "5.3",
        "solo",
        options=[*FAST, "--prefetch-multiplier", "5"],
        settings={"broker_transport_options": {"unacked_restore_interval": 1}, "worker_prefetch_multiplier": 2},
    )
    ready = old.until("ready").attrs
    assert ready["overlay"]["worker_prefetch_multiplier"] is False
    assert ready["overlay"]["broker_transport_options.unacked_restore_interval"] is False
    assert ready["overlay"]["broker_url"] is True
    assert (ready["settings"]["unacked_restore_interval"], ready["settings"]["unacked_restore_throttle"]) == (10, 10)
    assert "unacked_restore_limit" not in ready["settings"] or ready["settings"]["unacked_restore_limit"] is None


def test_the_pace_of_the_sweep_is_in_force_from_5_7_on(lab: Lab) -> None:
    options = {"unacked_restore_interval": 1, "unacked_restore_throttle": 2}
    ready = lab.worker("5.7", "solo", settings={"broker_transport_options": options}).until("ready").attrs
    assert all(ready["overlay"].values())
    assert {name: ready["settings"][name] for name in options} == options


def test_a_password_never_reaches_a_ledger(lab: Lab) -> None:
    client = lab.server.client(0)
    client.acl_setuser("lab", enabled=True, passwords=["+s3cretword"], commands=["+@all"], keys=["*"], channels=["*"])
    try:
        broker = lab.server.url(0).replace("redis://", "redis://lab:s3cretword@")
        worker = lab.worker(
            "5.7",
            "solo",
            settings={"broker_url": broker, "result_backend": broker, "task_acks_late": True},
        )
        ready = worker.until("ready").attrs
        assert all(ready["overlay"].values())
        assert ready["settings"]["broker_url"] == broker.replace("s3cretword", "***")
        worker.kill()
        assert not [path for path in worker.folder.glob("*.ndjson") if b"s3cretword" in path.read_bytes()]
    finally:
        client.acl_deluser("lab")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[None]:
    """The recorder in this process."""
    in_process.install(str(tmp_path), "client:test")
    yield
    in_process.uninstall()


def make(**settings: Any) -> Any:
    from celery import Celery

    app = Celery("mine", set_as_current=False)
    app.conf.update(settings)
    return app


def test_every_name_of_a_setting_gives_what_is_laid_over(here: None) -> None:
    app = make(broker_url="redis://theirs", task_acks_late=False)
    overlay.lay({"broker_url": "redis://ours/0", "CELERY_ACKS_LATE": True})
    assert app.conf.broker_url == app.conf["broker_url"] == app.conf["BROKER_URL"] == "redis://ours/0"
    assert app.conf.broker_read_url == app.conf.broker_write_url == "redis://ours/0"
    assert app.conf.task_acks_late is app.conf["CELERY_ACKS_LATE"] is app.conf.get("task_acks_late") is True
    assert app.conf.first("task_acks_late") is True
    overlay.clear()
    assert app.conf.broker_url == "redis://theirs"
    assert app.conf.task_acks_late is False


def test_the_environment_of_celery_loses_as_well(here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        monkeypatch.setenv(f"CELERY_{name}", "redis://environment")
    app = make()
    overlay.lay({"broker_url": "redis://ours/0", "result_backend": "redis://ours/1"})
    assert app.conf.broker_read_url == app.conf.broker_write_url == app.conf.broker_url == "redis://ours/0"
    assert app.conf.result_backend == "redis://ours/1"
    overlay.clear()
    assert app.conf.broker_url == "redis://environment"


def test_dicts_are_merged_and_the_application_may_go_on_changing_its_own(here: None) -> None:
    theirs = {"visibility_timeout": 1, "own": {"a": 1}}
    app = make(broker_transport_options=theirs)
    overlay.lay({"broker_transport_options": {"visibility_timeout": 5, "own": {"b": 2}}})
    options = app.conf.broker_transport_options
    assert options == {"visibility_timeout": 5, "own": {"a": 1, "b": 2}}
    options["late"] = True
    options.update(visibility_timeout=9)
    options.setdefault("more", 1)
    assert app.conf.broker_transport_options == {
        "visibility_timeout": 5, "own": {"a": 1, "b": 2}, "late": True, "more": 1,
    }  # fmt: skip
    overlay.clear()
    assert app.conf.broker_transport_options is theirs
    assert theirs == {"visibility_timeout": 9, "own": {"a": 1}, "late": True, "more": 1}


def test_a_layer_for_one_application_leaves_the_others_alone(here: None) -> None:
    mine, other = make(broker_url="redis://mine"), make(broker_url="redis://other")
    overlay.lay({"broker_url": "redis://ours"}, [mine])
    assert mine.conf.broker_url == "redis://ours"
    assert other.conf.broker_url == "redis://other"


def test_reading_a_laid_setting_still_loads_the_configuration_first(here: None) -> None:
    from celery import Celery

    app, called = Celery("late", set_as_current=False), []
    app.on_after_configure.connect(lambda **_: called.append(1), weak=False)
    overlay.lay({"task_acks_late": True})
    assert app.conf.task_acks_late is True
    assert called == [1]
    assert app.configured


def test_a_setting_that_nobody_knows_is_still_missing(here: None) -> None:
    overlay.lay({"task_acks_late": True})
    app = make()
    with pytest.raises(KeyError):
        app.conf["no_such_setting"]
    with pytest.raises(AttributeError):
        _ = app.conf.no_such_setting


def test_a_process_that_cannot_take_the_overlay_ends_before_it_reaches_any_broker(lab: Lab) -> None:
    worker = lab.worker("5.7", "solo", env={"CELERY_CHAOS_SETTINGS": "{not json"}, ready=False)
    assert worker.child.wait(20).code == 1
    assert "cannot be laid over" in worker.log.read_text()
    assert worker.of("hook_failed")
