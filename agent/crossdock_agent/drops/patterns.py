"""Names with dates in them: `{yyyy}/{mm}/SHP*.csv` finds files, `done/{yyyy}/{mm}` says where they go.

Looking for files, a token stands for that many digits, whatever the day: late files are found too. Where a directory is
named, a token is part of the time a file was taken, in a stated zone.
"""

from __future__ import annotations

import datetime as dt
import fnmatch
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

_TOKENS = {  # how it is looked for, how it is written
    "yyyy": ("[0-9][0-9][0-9][0-9]", "%Y"),
    "yy": ("[0-9][0-9]", "%y"),
    "mm": ("[01][0-9]", "%m"),
    "dd": ("[0-3][0-9]", "%d"),
    "ddd": ("[0-3][0-9][0-9]", "%j"),
    "hh": ("[0-2][0-9]", "%H"),
}
_TOKEN = re.compile(r"\{([^{}]*)\}")
_ANY_DEPTH = "**"

Places = frozenset[int]  # indexes of the segments that may come next


class Pattern:
    """A path pattern, segment by segment, so that only directories that can match are entered.

    `*`, `?` and `[..]` never match a slash; a segment `**` stands for any number of directories. Case counts as it does
    on the platform. Raises ValueError for what can match nothing or would leave the directory.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        segments = text.split("/")
        if "\\" in text:
            raise ValueError(f"pattern {text!r} holds a backslash; directories are separated by / on every system")
        if any(segment in ("", ".", "..") for segment in segments) or ":" in segments[0]:
            raise ValueError(f"pattern {text!r} must be a path below 'directory', without '.', '..' or an empty part")
        if segments[-1] == _ANY_DEPTH:
            raise ValueError(f"pattern {text!r} ends with **; add the file name, for example **/*.csv")
        self._last = len(segments) - 1
        self._deep = [segment == _ANY_DEPTH for segment in segments]
        self._matches = [matcher((globbed(segment),)) for segment in segments]
        self.start = self._closed({0})
        self.file_name = segments[-1]

    @property
    def has_directories(self) -> bool:
        return self._last > 0

    def enter(self, places: Places, name: str) -> Places:
        """Where one stands in the directory *name*; empty when nothing below can match."""
        into = set()
        for place in places:
            if self._deep[place]:
                into.add(place)
            elif place < self._last and self._matches[place](name):
                into.add(place + 1)
        return self._closed(into)

    def is_file(self, places: Places, name: str) -> bool:
        return self._last in places and self._matches[self._last](name)

    def _closed(self, places: set[int]) -> Places:
        """`**` stands for no directory as well."""
        for place in sorted(places):
            while self._deep[place]:
                place += 1  # noqa: PLW2901 - the run of ** that begins here
                places.add(place)
        return frozenset(places)


def matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Whether a name matches any of *patterns*, by the case rules of the platform."""
    expression = re.compile("|".join(fnmatch.translate(os.path.normcase(pattern)) for pattern in patterns) or r"(?!)")
    return lambda name: expression.match(os.path.normcase(name)) is not None


def globbed(text: str) -> str:
    """*text* with digits in the place of its date tokens. Raises ValueError for an unknown one."""
    return _TOKEN.sub(lambda found: _token(text, found[1])[0], text)


def dated(text: str, taken_us: int, zone: dt.tzinfo) -> str:
    """*text* with its tokens filled in for the moment *taken_us*. Raises ValueError for an unknown one."""
    moment = dt.datetime.fromtimestamp(taken_us / 1e6, zone)
    return _TOKEN.sub(lambda found: moment.strftime(_token(text, found[1])[1]), text)


def undated(path: Path) -> Path:
    """The part of *path* above the first directory with a date in its name."""
    above = path
    for part in [path, *path.parents]:
        if _TOKEN.search(part.name):
            above = part.parent
    return above


def _token(text: str, name: str) -> tuple[str, str]:
    if name not in _TOKENS:
        known = ", ".join(f"{{{token}}}" for token in _TOKENS)
        raise ValueError(f"{{{name}}} in {text!r} is no date token; known: {known}. A brace in a name is written [{{]")
    return _TOKENS[name]
