"""What a name tells about rotation: which files are generations of one log, and which of two is the older.

Names decide only the order of reading and when a file counts as rotated; which file is which is decided by content.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PACKED = re.compile(r"\.gz$", re.IGNORECASE)
_OLD = re.compile(r"\.(?:old|prev)$", re.IGNORECASE)
_NUMBER = re.compile(r"\.(\d{1,5})$")
_DATE = re.compile(
    r"[-_.]?(?<!\d)((?:19|20)\d\d)(?P<s>[-_.]?)(0[1-9]|1[0-2])(?P=s)(0[1-9]|[12]\d|3[01])"
    r"(?:[-_T.]?([01]\d|2[0-3])(?:[-_.:]?([0-5]\d)(?:[-_.:]?([0-5]\d))?)?)?(?!\d)"
)


class Rotation(NamedTuple):
    """*family* is the name without its rotation; *rank* sorts the generations of a family, oldest first."""

    family: str
    rank: tuple[int, str, int]


_LIVE = (1, "", 0)


def rotation(name: str) -> Rotation:
    """`x.log` is newer than `x.log.1`, that than `x.log.2.gz`; `x-20261126.log` is newer than `x-20261125.log`."""
    directory, slash, base = name.rpartition("/")
    plain = _PACKED.sub("", base)
    number, date = 0, ""
    if _OLD.search(plain):
        plain, number = _OLD.sub("", plain), 1
    elif (found := _NUMBER.search(plain)) and not _DATE.search(plain[found.start() - 8 :]):
        plain, number = plain[: found.start()], int(found[1])
    if found := _DATE.search(plain):
        date = "".join(part for part in found.group(1, 3, 4, 5, 6, 7) if part)
        plain = plain[: found.start()] + plain[found.end() :]
    family = directory + slash + plain
    return Rotation(family, (0, date, -number) if date or number else _LIVE)


def is_packed(name: str) -> bool:
    return _PACKED.search(name) is not None
