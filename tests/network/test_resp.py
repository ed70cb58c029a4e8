"""Where requests and replies end, however the bytes are cut; nothing of a value is kept but its beginning."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_celery_chaos.network import resp
from pytest_celery_chaos.network.resp import Malformed, Replies, Requests

from . import frames


def ends(framer: Any, chunks: list[bytes]) -> tuple[list[int], list[Any]]:
    """Where frames end in the whole stream, and what comes with each."""
    found, kept, before = [], [], 0
    for chunk in chunks:
        for end, what, *count in framer.feed(chunk):
            found.append(before + end)
            kept.append(what)
            assert not count or count[0] >= len(what)
        before += len(chunk)
    return found, kept


def sums(parts: list[bytes]) -> list[int]:
    total, found = 0, []
    for part in parts:
        found.append(total := total + len(part))
    return found


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_requests_end_where_they_end_however_they_are_cut(data: st.DataObject) -> None:
    sent = data.draw(st.lists(frames.requests, max_size=8))
    stream = b"".join(raw for raw, _ in sent)
    framer = Requests()
    found, args = ends(framer, data.draw(frames.cut(stream)))
    assert found == sums([raw for raw, _ in sent])
    assert args == [args for _, args in sent]
    assert framer.size == 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_replies_end_where_they_end_however_they_are_cut(data: st.DataObject) -> None:
    sent = data.draw(st.lists(frames.replies, max_size=8))
    stream = b"".join(sent)
    framer, chunks = Replies(), data.draw(frames.cut(stream))
    found, heads = ends(framer, chunks)
    assert found == sums(sent)
    assert framer.size == 0
    borders = {0, *sums(chunks)}
    for reply, end, head in zip(sent, found, heads, strict=True):
        begin = end - len(reply)
        spans = any(begin < border < end for border in borders)
        assert head == (reply[: resp.HEAD] if spans else None)


@settings(max_examples=40, deadline=None)
@given(st.lists(frames.replies, min_size=1, max_size=4), st.lists(frames.requests, min_size=1, max_size=4))
def test_byte_by_byte_is_no_different(replies: list[bytes], requests: list[tuple[bytes, list[bytes]]]) -> None:
    stream = b"".join(replies)
    assert ends(Replies(), [bytes([each]) for each in stream])[0] == sums(replies)
    stream = b"".join(raw for raw, _ in requests)
    found, args = ends(Requests(), [bytes([each]) for each in stream])
    assert (found, args) == (sums([raw for raw, _ in requests]), [args for _, args in requests])


@pytest.mark.parametrize(
    ("framer", "before", "after"),
    [
        (Requests, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$104857600\r\n", b"\r\n"),
        (Replies, b"*2\r\n$5\r\nqueue\r\n$104857600\r\n", b"\r\n"),
        (Replies, b"+", b"\r\n"),
    ],
)
def test_of_a_value_of_100_mb_only_the_beginning_is_kept(framer: Any, before: bytes, after: bytes) -> None:
    chunk, made = bytes(65536), framer()
    made.feed(before)
    tracemalloc.start()
    for _ in range(1600):
        assert not made.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 18, peak
    [(end, *_)] = made.feed(after)
    assert end == 2
    assert made.size == 0


def test_many_long_arguments_are_kept_by_their_beginnings_alone() -> None:
    args = [b"x" * (resp.ARGUMENT + 10)] * (resp.ARGUMENTS + 10)
    for chunks in ([frames.command(*args)], [frames.command(*args)[:100], frames.command(*args)[100:]]):
        _, [kept] = ends(Requests(), chunks)
        assert [len(each) for each in kept] == [resp.ARGUMENT] * resp.ARGUMENTS


def test_an_unfinished_request_shows_what_is_known_of_it() -> None:
    framer = Requests()
    raw = frames.command(b"SETEX", b"celery-task-meta-1", b"86400", b"x" * 100)
    framer.feed(raw[:-50])
    assert framer.args[:3] == [b"SETEX", b"celery-task-meta-1", b"86400"]
    assert framer.size == len(raw) - 50


def test_deep_nesting_takes_no_stack() -> None:
    depth = sys.getrecursionlimit() * 3
    raw = b"*1\r\n" * depth + b":1\r\n"
    assert ends(Replies(), [raw])[0] == [len(raw)]


@pytest.mark.parametrize("raw", [b"*1\r\n+OK\r\n", b"*1\r\n$-5\r\n", b"*x\r\n", b"*1\r\n$x\r\n", b"x" * 70000])
def test_what_is_no_request_is_told(raw: bytes) -> None:
    with pytest.raises(Malformed):
        Requests().feed(raw)


@pytest.mark.parametrize("raw", [b"hello\r\n", b"$x\r\n", b"*2\r\nx\r\n", b".\r\n", b";3\r\n", b"\r\n"])
def test_what_is_no_reply_is_told(raw: bytes) -> None:
    with pytest.raises(Malformed):
        Replies().feed(raw)
