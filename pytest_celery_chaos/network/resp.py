"""Where each request and each reply of a stream of bytes ends: RESP2 and RESP3, in chunks of any size.

Nothing is changed and no value is kept: of a request the beginnings of its first arguments, of a reply its beginning.
What lies in one chunk, nearly everything, is framed by a tight loop; what spans chunks by a machine that remembers
where it is. Both directions are self-describing, so that a HELLO in mid-stream needs no notice.
"""

from __future__ import annotations

ARGUMENTS = 24
"""How many arguments of a request are kept."""
ARGUMENT = 16384
"""How many bytes of each. A task's message of ordinary size fits, and its id stands near the end."""
HEAD = 16384
"""How many bytes of a reply that spans chunks are kept."""
_LINE = 65536
"""Longest header, or inline command: the server's own limit."""
_ENDLESS = -(1 << 60)

_LINES = frozenset(b"+-:_#,(")
_BULKS = frozenset(b"$=!")
_AGGREGATES = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}


class Malformed(Exception):
    """These bytes are no RESP. The server will say so itself; nobody can tell its replies apart from now on."""


#: Most requests of Celery's are in transactions: these are whole ones by themselves.
_WHOLE = [(b"*1\r\n$%d\r\n%s\r\n" % (len(word), word), [word]) for word in (b"MULTI", b"EXEC")]
_USUAL = tuple(raw for raw, _ in _WHOLE)


def _one(data: bytes, position: int, found: list[tuple[int, list[bytes], int]]) -> int:
    """Frame one request of the usual kind: where it ends; 0: it does not end in *data*."""
    size, find = len(data), data.find
    end = find(b"\r\n", position)
    if end < 0:
        return 0
    args: list[bytes] = []
    at, count = end + 2, int(data[position + 1 : end])
    for number in range(count):
        if at + 3 >= size or data[at] != 36:
            return 0
        if data[at + 2] == 13:  # one digit
            length, at = data[at + 1] - 48, at + 4
            if length > 9:
                return 0
        else:
            end = find(b"\r\n", at)
            if end < 0:
                return 0
            length, at = int(data[at + 1 : end]), end + 2
        if length < 0:
            return 0
        if number < ARGUMENTS:
            args.append(data[at : at + (length if length < ARGUMENT else ARGUMENT)])
        at += length + 2
        if at > size:
            return 0
    found.append((at, args, max(0, count)))
    return at


def _flat(data: bytes, position: int) -> int:
    """Where an array without others in it ends; 0: it is none, or does not end in *data*."""
    size, find = len(data), data.find
    end = find(b"\r\n", position)
    if end < 0 or data[position + 1] == 63:
        return 0
    at = end + 2
    for _ in range(int(data[position + 1 : end])):
        end = find(b"\r\n", at)
        if end < 0:
            return 0
        kind = data[at]
        if kind == 36 and data[at + 1] != 63:
            length = int(data[at + 1 : end])
            at = end + length + 4 if length >= 0 else end + 2
            if at > size:
                return 0
        elif kind in _LINES:
            at = end + 2
        else:
            return 0
    return at


class Requests:
    """The client's stream.

    :ivar count: how many arguments the last request has that has begun.
    :ivar args: the arguments that are known of the request that has begun and not ended.
    :ivar size: how many bytes of it there have been so far; 0: the stream is between two requests.
    """

    __slots__ = ("_keep", "_left", "_line", "_skip", "args", "count", "size")

    def __init__(self) -> None:
        self.args: list[bytes] = []
        self.size = 0
        self._left = -1
        self._skip = self._keep = self.count = 0
        self._line = b""

    def feed(self, data: bytes) -> list[tuple[int, list[bytes], int]]:
        """Where in *data* requests end, their arguments (none: the server does not answer it), and how many there are.

        :raises Malformed: neither a request nor an inline command.
        """
        found: list[tuple[int, list[bytes], int]] = []
        position, size = 0, len(data)
        try:
            while position < size:
                if self.size == 0 and data[position] == 42:
                    if data.startswith(_USUAL, position):
                        for raw, args in _WHOLE:
                            if data.startswith(raw, position):
                                position += len(raw)
                                found.append((position, args, 1))
                                break
                        continue
                    end = _one(data, position, found)
                    if end:
                        position = end
                        continue
                position = self._resume(data, position, found)
        except ValueError as error:
            raise Malformed(str(error)) from None
        return found

    def _resume(self, data: bytes, position: int, found: list[tuple[int, list[bytes], int]]) -> int:
        """Go on with a request that does not lie in one chunk, or is none of the usual kind."""
        begin, size = position, len(data)
        while position < size:
            if self._skip:
                position = self._value(data, position)
                if self._skip:
                    break
                self._left -= 1
            else:
                end = data.find(b"\n", position)
                self._line += data[position : end + 1 or size]
                position = end + 1 or size
                if len(self._line) > _LINE:
                    raise Malformed("a line without an end")
                if end < 0:
                    break
                self._header(self._line.rstrip(b"\r\n"))
                self._line = b""
            if self._left == 0:
                found.append((position, self.args, self.count))
                self.args, self.size, self._left = [], 0, -1
                return position
        self.size += position - begin
        return position

    def _value(self, data: bytes, position: int) -> int:
        take = min(self._skip, len(data) - position)
        if self._keep:
            kept = data[position : position + min(take, self._keep)]
            self.args[-1] += kept
            self._keep -= len(kept)
        self._skip -= take
        return position + take

    def _header(self, line: bytes) -> None:
        if self._left >= 0:
            length = int(line[1:])
            if line[:1] != b"$" or length < 0:
                raise Malformed(line[:64].decode("latin-1"))
            self._skip, self._keep = length + 2, 0
            if len(self.args) < ARGUMENTS:
                self._keep = min(length, ARGUMENT)
                self.args.append(b"")
        elif line[:1] == b"*":
            self._left = self.count = max(0, int(line[1:]))
        else:
            words = line.split()
            self.args, self.count, self._left = [word[:ARGUMENT] for word in words[:ARGUMENTS]], len(words), 0


class Replies:
    """The server's stream: replies, and what it pushes between them.

    :ivar head: the beginning of the reply that has begun and not ended.
    :ivar size: how many bytes of it there have been so far; 0: the stream is between two replies.
    """

    __slots__ = ("_line", "_need", "_outer", "_parts", "_skip", "head", "size")

    def __init__(self) -> None:
        self.head = b""
        self.size = 0
        self._need = 0
        self._outer: list[tuple[int, int]] = []
        self._skip = 0
        self._parts = False
        self._line = b""

    def feed(self, data: bytes) -> list[tuple[int, bytes | None]]:
        """Where in *data* replies end; with the beginning of those that did not begin in it.

        :raises Malformed: no reply of a server.
        """
        found: list[tuple[int, bytes | None]] = []
        position, size, find = 0, len(data), data.find
        try:
            while position < size:
                if self.size == 0:
                    kind = data[position]
                    if kind == 42:
                        if end := _flat(data, position):
                            position = end
                            found.append((position, None))
                            continue
                    elif (end := find(b"\r\n", position)) > 0:
                        if kind in _LINES:
                            position = end + 2
                            found.append((position, None))
                            continue
                        if kind == 36 and data[position + 1] != 63:
                            length = int(data[position + 1 : end])
                            after = end + length + 4 if length >= 0 else end + 2
                            if after <= size:
                                position = after
                                found.append((position, None))
                                continue
                position = self._resume(data, position, found)
        except ValueError as error:
            raise Malformed(str(error)) from None
        return found

    def _resume(self, data: bytes, position: int, found: list[tuple[int, bytes | None]]) -> int:
        begin, size = position, len(data)
        if self.size == 0:
            self._need = 1
        while position < size:
            if self._skip:
                take = min(self._skip, size - position)
                self._skip -= take
                position += take
                if self._skip:
                    break
                self._need -= not self._parts
            else:
                end = data.find(b"\n", position)
                if end < 0:
                    self._line += data[position:]
                    if len(self._line) > 4096:  # only its beginning counts
                        self._line = self._line[:64]
                    position = size
                    break
                self._header((self._line + data[position:end]).rstrip(b"\r"))
                self._line = b""
                position = end + 1
            if self._need == 0:
                head = self.head + data[begin : min(position, begin + HEAD - len(self.head))] if self.size else None
                found.append((position, head))
                self.head, self.size = b"", 0
                return position
        self.head += data[begin : begin + HEAD - len(self.head)]
        self.size += position - begin
        return position

    def _header(self, line: bytes) -> None:
        """One line that is the whole of a value, or says how long one is, or of how many it consists."""
        kind = line[0] if line else 0
        if kind in _LINES:
            self._need -= 1
        elif kind in _BULKS:
            self._bulk(line)
        elif kind == 59 and self._parts:  # ; a part of a streamed string
            length = int(line[1:])
            self._skip = length + 2 if length else 0
            if not length:
                self._parts = False
                self._need -= 1
        elif kind == 46 and self._outer:  # . the end of a streamed aggregate
            need, itself = self._outer.pop()
            self._need = need - itself
        elif kind in _AGGREGATES or kind == 124:  # | attributes stand before a value and are none themselves
            itself = int(kind != 124)
            if line[1:2] == b"?":
                self._outer.append((self._need, itself))
                self._need = _ENDLESS
            else:
                self._need += max(0, int(line[1:])) * _AGGREGATES.get(kind, 2) - itself
        else:
            raise Malformed(line[:64].decode("latin-1"))

    def _bulk(self, line: bytes) -> None:
        if line[1:2] == b"?":
            self._parts = True
            return
        length = int(line[1:])
        if length < 0:
            self._need -= 1
        else:
            self._skip = length + 2
