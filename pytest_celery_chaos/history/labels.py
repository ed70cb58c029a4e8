"""Ids that say where a message belongs: which step published it, which part of a group, chord or chain it is.

The ids of one step begin with eight hex digits of its own. Those of a canvas (group, chord, chain, map) go on with the
part's role and its number, so that both can be read off the id, and a part can be meant before it is published:
``c`` all of a chord, ``c.header`` and ``c.body`` its halves, ``c.header.3`` one part (from 0), ``g.3`` a member of a
group, ``f.link0`` the first link of a chain.
"""

from __future__ import annotations

import re
from typing import Final

#: Role of a part → the four hex digits behind the step's prefix. A link's own number is in them: ``c000``, ``c001`` …
MEMBER: Final = "0000"
HEADER: Final = "a000"
BODY: Final = "b000"
#: The group of a canvas itself: not a message, but keys of the result backend bear its id.
GROUP: Final = "f000"
#: A chain has at most so many links.
MOST_LINKS: Final = 0x1000

_ID: Final = re.compile(r"[0-9a-f]{8}-[0abcf][0-9a-f]{3}(?:-[0-9a-f]{4}){2}-0{12}")
_PART: Final = re.compile(r"(?:(?P<role>header|body|link(?P<link>\d{1,4}))(?:\.(?P<of>\d{1,9}))?|(?P<member>\d{1,9}))")


def link(number: int) -> str:
    """The role of the *number*-th link of a chain, from 0."""
    return f"c{number:03x}"


def part_id(prefix: str, role: str, number: int = 0) -> str:
    """The id of one part.

    :param prefix: of the step: eight hex digits and a dash.
    :param number: of the part among those of its role, from 0.
    """
    return f"{prefix}{_numbered(role, number)}000000000000"


def part_prefix(part: str) -> str | None:
    """How the ids of *part* (``body``, ``header.3``, ``link0``, ``3``) go on behind the step's; None: it is no part."""
    found = _PART.fullmatch(part)
    if found is None:
        return None
    if found["member"] is not None:
        return _numbered(MEMBER, int(found["member"]))
    if found["link"] is not None:
        if int(found["link"]) >= MOST_LINKS:
            return None
        role = link(int(found["link"]))
    else:
        role = HEADER if found["role"] == "header" else BODY
    return f"{role}-" if found["of"] is None else _numbered(role, int(found["of"]))


def is_part(one: str) -> bool:
    """Whether *one* is an id of :func:`part_id`: then ids of one step are in the order of definition."""
    return _ID.fullmatch(one) is not None


def of_part(name: str) -> tuple[str, str] | None:
    """The step's name and :func:`part_prefix` of a name like ``c.body``; None: it is not of that form."""
    step, dot, part = name.partition(".")
    prefix = part_prefix(part) if dot else None
    return None if prefix is None else (step, prefix)


def _numbered(role: str, number: int) -> str:
    digits = f"{number:08x}"
    return f"{role}-{digits[:4]}-{digits[4:]}-"
