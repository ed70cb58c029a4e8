"""Hypothesis strategies for what clients and servers send: each is the bytes of one whole request or reply."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

CRLF = b"\r\n"
_text = st.binary(max_size=12).map(lambda raw: raw.replace(b"\r", b".").replace(b"\n", b"."))
#: Values full of what could be taken for framing.
values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"$5\r\n", b"*2\r\n$", b"+OK\r\n", b":1\r\n", b"\n", b"x" * 300, b".\r\n"]),
)


def bulk(value: bytes, kind: bytes = b"$") -> bytes:
    return kind + str(len(value)).encode() + CRLF + value + CRLF


def command(*args: bytes) -> bytes:
    return b"*%d\r\n" % len(args) + b"".join(map(bulk, args))


arguments = st.lists(values, min_size=1, max_size=6)
_words = st.lists(st.text("abcXYZ019:.-", min_size=1, max_size=8).map(str.encode), min_size=1, max_size=4)

#: (bytes, arguments); no arguments: a request that is not answered.
requests = st.one_of(
    arguments.map(lambda args: (command(*args), args)),
    arguments.map(lambda args: (command(*args), args)),
    _words.map(lambda words: (b" ".join(words) + CRLF, words)),
    _words.map(lambda words: (b" ".join(words) + b"\n", words)),
    st.sampled_from([(b"\r\n", []), (b"*0\r\n", []), (b"*-1\r\n", [])]),
)


def _aggregate(kind: bytes, items: Sequence[bytes], count: int, streamed: bool) -> bytes:
    if streamed:
        return kind + b"?" + CRLF + b"".join(items) + b"." + CRLF
    return kind + str(count).encode() + CRLF + b"".join(items)


def _in_parts(parts: Sequence[bytes]) -> bytes:
    return b"$?\r\n" + b"".join(b";%d\r\n" % len(part) + part + CRLF for part in parts if part) + b";0\r\n"


_scalars = st.one_of(
    _text.map(lambda text: b"+" + text + CRLF),
    _text.map(lambda text: b"-ERR " + text + CRLF),
    st.integers().map(lambda number: b":%d\r\n" % number),
    st.integers(min_value=10**20, max_value=10**40).map(lambda number: b"(%d\r\n" % number),
    st.sampled_from([b",1.5\r\n", b",inf\r\n", b",-nan\r\n", b"#t\r\n", b"#f\r\n", b"_\r\n", b"$-1\r\n", b"*-1\r\n"]),
    values.map(bulk),
    values.map(lambda value: bulk(b"txt:" + value, b"=")),
    values.map(lambda value: bulk(b"ERR " + value, b"!")),
    st.lists(values, max_size=3).map(_in_parts),
)


def _nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    items = st.lists(inner, max_size=4)
    pairs = st.lists(st.tuples(inner, inner).map(b"".join), max_size=3)
    return st.one_of(
        st.builds(lambda kind, all, s: _aggregate(kind, all, len(all), s), st.sampled_from([b"*", b"~"]), items,
                  st.booleans()),
        st.builds(lambda all, s: _aggregate(b"%", all, len(all), s), pairs, st.booleans()),
        st.builds(lambda all, value: _aggregate(b"|", all, len(all), False) + value, pairs, inner),
    )  # fmt: skip


_plain = st.recursive(_scalars, _nested, max_leaves=8)
pushes = st.lists(_plain, min_size=1, max_size=3).map(lambda items: _aggregate(b">", items, len(items), False))
replies = st.one_of(_plain, _plain, _plain, pushes)


@st.composite
def cut(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream in chunks of any size."""
    places = draw(st.lists(st.integers(0, len(stream)), max_size=12).map(sorted))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True) if b > a]
