"""Settings laid over an application's own, at the one place where Celery reads them.

Whatever way the application sets its configuration, and however late, ``Settings.__getitem__`` answers from here
first. Dictionaries are merged into the application's. What this cannot override: a value given on a task, on the
command line, or to an explicit connection; :mod:`in_force` reports those.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from .patches import put
from .record import emit

#: Read from here by Settings before it looks at the configuration: each is a property of its own.
_FROM_ENVIRONMENT = ("broker_url", "broker_read_url", "broker_write_url", "result_backend")


class Merged(dict[str, Any]):
    """The application's dict with ours laid over it: what the application changes later reaches its own, too."""

    def __init__(self, theirs: dict[str, Any], ours: Mapping[str, Any]) -> None:
        super().__init__(merged(theirs, ours))
        self._theirs, self._ours = theirs, ours

    def _again(self) -> None:
        super().clear()
        super().update(merged(self._theirs, self._ours))

    def __setitem__(self, key: str, value: Any) -> None:
        self._theirs[key] = value
        self._again()

    def __delitem__(self, key: str) -> None:
        del self._theirs[key]
        self._again()

    def update(self, *args: Any, **kwargs: Any) -> None:
        self._theirs.update(*args, **kwargs)
        self._again()

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str, *default: Any) -> Any:
        value = super().pop(key, *default)
        self._theirs.pop(key, None)
        self._again()
        return value

    def clear(self) -> None:
        self._theirs.clear()
        self._again()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def merged(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """*ours* over *theirs*, dicts inside merged likewise; neither is changed."""
    result = dict(theirs)
    for key, value in ours.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


class Layer:
    """One table of settings.

    :param settings: by Celery's new (lower case) or old names. ``broker_url`` covers the read and write URLs.
    :param apps: the applications that they hold for; None: all of the process.
    """

    def __init__(self, settings: Mapping[str, Any], apps: Iterable[Any] | None) -> None:
        self.apps = None if apps is None else list(apps)
        self.given: dict[str, Any] = {_new_name(key): value for key, value in settings.items()}
        if "broker_url" in self.given:
            for name in ("broker_read_url", "broker_write_url"):
                self.given.setdefault(name, self.given["broker_url"])
        self._names: dict[tuple[str | None, str], str | None] = {}

    def covers(self, conf: Any) -> bool:
        """Whether *conf* belongs to an application that this layer holds for."""
        return self.apps is None or any(getattr(app, "_conf", None) is conf for app in self.apps)

    def name(self, key: Any, prefix: str | None) -> str | None:
        """The setting that *key* means if it is laid over: a new, upper-case, old or prefixed name of it."""
        try:
            return self._names[prefix, key]
        except KeyError:
            pass
        except TypeError:
            return None
        found = None
        if isinstance(key, str):
            plain = key[len(prefix) :] if prefix and key.upper().startswith(prefix.upper()) else key
            found = next((n for n in (_new_name(key), _new_name(plain)) if n in self.given), None)
        self._names[prefix, key] = found
        return found


_layer: Layer | None = None


def lay(settings: Mapping[str, Any], apps: Iterable[Any] | None = None) -> None:
    """Lay *settings* over those of *apps* (None: of every application in the process), in place of earlier ones."""
    global _layer
    _layer = Layer(settings, apps)


def clear() -> None:
    """Lay nothing over any more."""
    global _layer
    _layer = None


def laid() -> Mapping[str, Any]:
    """What is laid over now, by new names."""
    return _layer.given if _layer is not None else {}


def _new_name(key: str) -> str:
    defaults = sys.modules.get("celery.app.defaults")
    to_new = getattr(defaults, "_TO_NEW_KEY", {})
    return str(to_new.get(key) or to_new.get(key.upper()) or key.lower())


def _getitem(original: Callable[..., Any]) -> Callable[..., Any]:
    def __getitem__(self: Any, key: Any) -> Any:
        # The original comes first: the first read is what makes Celery load the configuration.
        try:
            theirs, missing = original(self, key), None
        except KeyError as error:
            theirs, missing = None, error
        layer = _layer
        name = layer.name(key, getattr(self, "prefix", None)) if layer is not None else None
        if layer is None or name is None or not layer.covers(self):
            if missing is not None:
                raise missing
            return theirs
        ours = layer.given[name]
        if isinstance(ours, Mapping):
            return Merged(theirs, ours) if isinstance(theirs, dict) else dict(ours)
        return ours

    return __getitem__


def _property(name: str, original: property) -> property:
    def read(self: Any) -> Any:
        value = original.fget(self)  # type: ignore[misc]
        layer = _layer
        return layer.given[name] if layer is not None and name in layer.given and layer.covers(self) else value

    return property(read, original.fset, original.fdel, original.__doc__)


def patch(module: ModuleType) -> None:
    """Change ``celery.app.utils.Settings``.

    Where it cannot be changed and something is to be laid over, the process ends: it would go on to the broker that
    the application names, which is somebody's own.
    """
    try:
        settings = module.Settings
        put(settings, "__getitem__", wraps(settings.__getitem__)(_getitem(settings.__getitem__)))
        for name in _FROM_ENVIRONMENT:
            original = getattr(settings, name, None)
            if isinstance(original, property):
                put(settings, name, _property(name, original))
        lay_from_environment()
    except Exception as error:
        emit("hook_failed", hook="celery.app.utils:Settings", error=repr(error))
        if _is_recorded():
            raise SystemExit(f"celery-chaos: the settings of this run cannot be laid over: {error!r}") from error


def lay_from_environment() -> None:
    """:func:`lay` what the harness put into the environment, if it did, and nothing is laid over yet."""
    text = os.environ.get("CELERY_CHAOS_SETTINGS")
    if text and _layer is None:
        lay(json.loads(text))


def _is_recorded() -> bool:
    """Whether this is a process of the harness's, and not a test that has the recorder in it."""
    return "CELERY_CHAOS_LEDGERS" in os.environ
