"""What a spec is in redis.conf, and what is refused before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_celery_chaos.brokers import config
from pytest_celery_chaos.brokers.spec import BrokerSpec
from pytest_celery_chaos.errors import UsageError


def lines(**spec: Any) -> list[str]:
    text = config.text(
        BrokerSpec(**spec), port=7000, socket=Path("/tmp/a/7000.sock"), folder=Path('/data/a "b" c'), password=None
    )
    return text.splitlines()


def test_it_is_loopback_in_the_foreground_in_its_own_folder() -> None:
    assert {"bind 127.0.0.1", "port 7000", "daemonize no", 'dir "/data/a \\"b\\" c"'} <= set(lines())


def test_each_save_point_has_a_line_of_its_own_as_redis_6_wants_it() -> None:
    assert [line for line in lines(persistence="rdb", save="60 1 10 100") if line.startswith("save")] == [
        "save 60 1",
        "save 10 100",
    ]


def test_an_empty_option_is_quoted_and_one_of_several_words_is_not() -> None:
    found = lines(options={"notify-keyspace-events": "", "client-output-buffer-limit": "normal 1mb 512kb 60"})
    assert {'notify-keyspace-events ""', "client-output-buffer-limit normal 1mb 512kb 60"} <= set(found)


@pytest.mark.parametrize("option", [*config.RESERVED, "PORT", " port "])
def test_what_the_harness_sets_is_refused_with_what_to_use_instead(option: str) -> None:
    with pytest.raises(UsageError, match=r"broker main: option .* cannot be set\n  hint: \w+"):
        config.check(BrokerSpec(options={option: "1"}))


@pytest.mark.parametrize(
    "spec",
    [
        {"options": {"timeout": "0\nrequirepass known"}},
        {"options": {"timeout 0\nport": "1"}},
        {"options": {"": "1"}},
        {"options": {"loglevel debug\rport": "1"}},
        {"maxmemory": "1mb\nport 1"},
        {"save": "60 1"},
        {"save": "60 1", "persistence": "aof-always"},
        {"save": "60", "persistence": "rdb"},
        {"save": "often", "persistence": "rdb"},
        {"save": "", "persistence": "rdb"},
    ],
)
def test_what_cannot_be_meant_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="broker main"):
        config.check(BrokerSpec(**spec))
