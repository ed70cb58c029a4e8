"""A file that is written through memory: what is put there is the file's at once, without a call of the system.

Whoever reads the file with ``read(2)`` on the same machine sees it, also after a SIGKILL of the writer, since both
have the same pages. Behind its last line the file holds NULs, of which no line has one: a reader that finds a NUL has
found what is not written yet, in whatever order a processor makes bytes visible to another.
"""

from __future__ import annotations

import mmap
import os

#: Of the file, so much can be written through memory: that is address space, not memory and not disk.
SPACE = 1 << 26
#: So much of the disk is taken at a time. A full disk refuses it, where a write through memory would be a SIGBUS.
STEP = 1 << 16

#: Never let go of: each holds a file number of its own (Python < 3.13), and would close it, whosever it is by then.
_kept: list[mmap.mmap] = []


class Mapped:
    """The memory of one file that is new and empty.

    :param file: its number, opened for reading and writing.
    :raises OSError: it cannot be written through memory (the file system cannot, no address space, no disk).

    :ivar memory: the file from its start.
    :ivar at: where the next line begins.
    :ivar room: up to here the file has its disk; no further must anybody write.
    """

    def __init__(self, file: int) -> None:
        os.ftruncate(file, SPACE)  # mmap looks at the size, once
        try:
            self.memory = mmap.mmap(file, SPACE)
        except ValueError as error:
            raise OSError(str(error)) from error
        finally:
            os.ftruncate(file, 0)
        _kept.append(self.memory)
        self.at = self.room = 0
        self.grow(file, 1)

    def grow(self, file: int, size: int) -> None:
        """Take disk for *size* bytes more.

        :raises OSError: there is no disk, or the space is used up.
        """
        room = self.room
        more = max(STEP, size)
        if room + more > SPACE:
            raise OSError("the space is used up")
        os.posix_fallocate(file, room, more)
        self.room = room + more

    def finish(self) -> None:
        """Fill what is left with a blank line, so that lines can follow by ``write(2)``."""
        at, self.at = self.at, self.room
        if at < self.room:
            self.memory[at : self.room] = b" " * (self.room - at - 1) + b"\n"
