"""Applications that set their configuration in every way that Celery knows, each against what is laid over it.

Every one names a broker and a backend that nobody serves, `acks_late` and `track_started` false, prefetch 9, and
transport options of which one key is its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BROKER, BACKEND = "redis://127.0.0.1:1/5", "redis://127.0.0.1:1/6"
THEIRS = {
    "broker_url": BROKER,
    "result_backend": BACKEND,
    "task_acks_late": False,
    "task_track_started": False,
    "worker_prefetch_multiplier": 9,
    "broker_transport_options": {"visibility_timeout": 1111, "unacked_restore_limit": 7},
}
#: Laid over; the transport options are merged.
OURS = {
    "task_acks_late": True,
    "task_track_started": True,
    "worker_prefetch_multiplier": 1,
    "broker_transport_options": {"visibility_timeout": 33},
}


@dataclass(frozen=True)
class Style:
    """One application.

    :param files: name → text; the application is ``proj`` unless *app* says otherwise.
    """

    files: Mapping[str, str]
    app: str = "proj"
    env: Mapping[str, str] = field(default_factory=dict)


_TASK = """
@app.task
def add(x, y):
    return x + y
"""
_UPDATE = f"conf.update({THEIRS!r})"


def _module(body: str, task: str = _TASK) -> Style:
    return Style({"proj.py": f"from celery import Celery, signals\n{body}\n{task}"})


def _assignments(prefix: str = "", *, upper: bool = False) -> str:
    names = {name: prefix + (name.upper() if upper else name) for name in THEIRS}
    return "\n".join(f"{names[name]} = {value!r}" for name, value in THEIRS.items())


_ATTRIBUTES = "\n".join(f"app.conf.{name} = {value!r}" for name, value in THEIRS.items())
_HANDLER = f"def set_up(*args, **kwargs):\n    app.{_UPDATE}\n"
_OLD = {
    "BROKER_URL": BROKER,
    "CELERY_RESULT_BACKEND": BACKEND,
    "CELERY_ACKS_LATE": False,
    "CELERY_TRACK_STARTED": False,
    "CELERYD_PREFETCH_MULTIPLIER": 9,
    "BROKER_TRANSPORT_OPTIONS": THEIRS["broker_transport_options"],
}
_DJANGO_SETTINGS = f"SECRET_KEY = 'x'\nUSE_TZ = True\n{_assignments('CELERY_', upper=True)}\n"

STYLES: Mapping[str, Style] = {
    "arguments": _module(f"app = Celery('proj', broker={BROKER!r}, backend={BACKEND!r})\n{_ATTRIBUTES}"),
    "conf_update": _module(f"app = Celery('proj')\napp.{_UPDATE}"),
    "config_object": _module(
        f"class Config:\n    {_assignments().replace(chr(10), chr(10) + '    ')}\n"
        "app = Celery('proj')\napp.config_from_object(Config)"
    ),
    "config_module": Style(
        {
            "proj.py": f"from celery import Celery\napp = Celery('proj')\napp.config_from_object('settings')\n{_TASK}",
            "settings.py": _assignments(),
        }
    ),
    "config_envvar": Style(
        {
            "proj.py": f"from celery import Celery\napp = Celery('proj')\napp.config_from_envvar('SETTINGS')\n{_TASK}",
            "settings.py": _assignments(),
        },
        env={"SETTINGS": "settings"},
    ),
    "namespace": Style(
        {
            "proj.py": "from celery import Celery\napp = Celery('proj')\n"
            f"app.config_from_object('settings', namespace='CELERY')\n{_TASK}",
            "settings.py": _assignments("CELERY_", upper=True),
        }
    ),
    "old_names": _module(f"app = Celery('proj')\napp.conf.update({_OLD!r})"),
    "on_configure": _module(
        f"class Own(Celery):\n    def on_configure(self):\n        self.conf.update({THEIRS!r})\napp = Own('proj')"
    ),
    "on_after_configure": _module(f"app = Celery('proj')\n@app.on_after_configure.connect\n{_HANDLER}"),
    "on_after_finalize": _module(f"app = Celery('proj')\n@app.on_after_finalize.connect\n{_HANDLER}"),
    "worker_init": _module(f"app = Celery('proj')\n@signals.worker_init.connect\n{_HANDLER}"),
    "celeryd_init": _module(f"app = Celery('proj')\n@signals.celeryd_init.connect\n{_HANDLER}"),
    "set_default_late": _module(
        "import celery\nfirst = Celery('first')\napp = Celery('proj')\napp.set_default()\n"
        f"{_ATTRIBUTES}\napp.conf.task_acks_late"
    ),
    "factory": Style(
        {
            "factory.py": "from celery import Celery\ndef make():\n    app = Celery('proj')\n"
            f"    app.{_UPDATE}\n    return app\n",
            "proj.py": f"from factory import make\napp = make()\n{_TASK}",
        }
    ),
    "environment": Style(
        {"proj.py": f"from celery import Celery\napp = Celery('proj')\n{_ATTRIBUTES}\n{_TASK}"},
        env={"CELERY_BROKER_URL": BROKER, "CELERY_RESULT_BACKEND": BACKEND},
    ),
    "read_and_write_urls": _module(
        f"app = Celery('proj')\n{_ATTRIBUTES}\n"
        f"app.conf.broker_read_url = {BROKER!r}\napp.conf.broker_write_url = {BROKER!r}"
    ),
    "environment_read_url": Style(
        {"proj.py": f"from celery import Celery\napp = Celery('proj')\n{_ATTRIBUTES}\n{_TASK}"},
        env={"CELERY_BROKER_READ_URL": BROKER, "CELERY_BROKER_WRITE_URL": BROKER},
    ),
    "backend_touched": _module(f"app = Celery('proj')\n{_ATTRIBUTES}\napp.backend, app.tasks"),
    "options_in_place": _module(
        f"app = Celery('proj')\n{_ATTRIBUTES}\n"
        "app.conf.broker_transport_options['unacked_restore_limit'] = 7\n"
        "app.conf.broker_transport_options.update(visibility_timeout=2222)"
    ),
    "package": Style(
        {
            "proj/__init__.py": "from .celery import app\n__all__ = ('app',)\n",
            "proj/celery.py": "from celery import Celery\napp = Celery('proj')\n"
            f"app.{_UPDATE}\napp.autodiscover_tasks(['proj'])\n",
            "proj/tasks.py": "from celery import shared_task\n@shared_task\ndef add(x, y):\n    return x + y\n",
        }
    ),
    "django": Style(
        {
            "proj/__init__.py": "from .celery import app as celery_app\n__all__ = ('celery_app',)\n",
            "proj/settings.py": _DJANGO_SETTINGS,
            "proj/celery.py": "import os\nfrom celery import Celery\n"
            "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'proj.settings')\napp = Celery('proj')\n"
            "app.config_from_object('django.conf:settings', namespace='CELERY')\napp.autodiscover_tasks(['proj'])\n",
            "proj/tasks.py": "from celery import shared_task\n@shared_task\ndef add(x, y):\n    return x + y\n",
        },
    ),
}
