"""A file that comes with a marker is complete when the marker is there, whichever of the two came first.

A marker is never data. It goes with its file, and before it: after a crash between the two there is a file without its
marker, which nobody takes, and never a marker that would declare tomorrow's half-written file complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from loguru import logger

from crossdock_agent.drops.patterns import globbed, matcher

OVERDUE_SECONDS = 900.0  # a marker without its file, or a file without its marker, for this long is for a person
_PART = re.compile(r"\{(name|stem)\}")


class Markers:
    """*template* is the marker's name in the directory of its file: `{name}` is the file's name, `{stem}` the same
    without its last suffix. Raises ValueError for a template that names no file."""

    def __init__(self, template: str) -> None:
        if not _PART.search(template) or "/" in template or "\\" in template:
            raise ValueError(
                f"marker {template!r} must be a file name with {{name}} or {{stem}}, such as {{name}}.done"
            )
        if template in ("{name}", "{stem}"):
            raise ValueError(f"marker {template!r} would be the file itself; for example {{name}}.done")
        self._template = template
        parts = [re.escape(os.path.normcase(text)) for text in _PART.split(template)[::2]]
        kinds = _PART.findall(template)
        self._of_name = kinds[0] == "name"
        grouped = parts[0] + "".join(("(.+)" if i == 0 else ".+") + part for i, part in enumerate(parts[1:]))
        self._expression = re.compile(grouped, re.DOTALL)

    def is_marker(self, base: str) -> bool:
        return self._expression.fullmatch(os.path.normcase(base)) is not None

    def of(self, name: str) -> str:
        """The marker of the file *name*, a path under the directory."""
        directory, slash, base = name.rpartition("/")
        stem = base[: base.rindex(".")] if "." in base[1:] else base
        return directory + slash + _PART.sub(lambda part: base if part[1] == "name" else stem, self._template)

    def comparable(self, name: str) -> str:
        """A marker's path as it is compared: by the case rules of the platform, with forward slashes."""
        return os.path.normcase(name).replace(os.sep, "/")

    def belongs(self, pattern: str) -> Callable[[str], bool]:
        """Whether a marker, a path, can be one of a file that matches *pattern* (its last part): markers of other
        sources lie in the same directory."""
        name = globbed(pattern)
        fits = matcher((name if self._of_name else PurePosixPath(name).stem,))

        def belongs(marker: str) -> bool:
            found = self._expression.fullmatch(os.path.normcase(marker.rpartition("/")[2]))
            return found is not None and fits(found[1])

        return belongs


class Overdue:
    """What has been waiting for too long, by our own clock; each is said once."""

    def __init__(self, what: str, monotonic: Callable[[], float]) -> None:
        self._what = what
        self._monotonic = monotonic
        self._since: dict[str, float] = {}
        self._said: set[str] = set()

    def count(self, waiting: Iterable[str], source: str) -> int:
        """How many of *waiting* have been waiting too long; those that no longer wait are forgotten."""
        now = self._monotonic()
        self._since = {name: self._since.get(name, now) for name in waiting}
        late = {name for name, since in self._since.items() if now - since >= OVERDUE_SECONDS}
        if fresh := late - self._said:
            self._say(fresh, source)
        self._said = late
        return len(late)

    def _say(self, fresh: Collection[str], source: str) -> None:
        first = os.fsencode(min(fresh)).decode("utf-8", "backslashreplace")
        more = f" and {len(fresh) - 1} more" if len(fresh) > 1 else ""
        logger.bind(source=source).warning("{} for {:g} s: {}{}", self._what, OVERDUE_SECONDS, first, more)
