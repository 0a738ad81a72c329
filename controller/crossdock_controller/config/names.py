"""Names of files in a tree: plain on Linux, Windows and macOS alike, and never a way out of the tree's folder.

A tree may come from a Windows machine, be stored on Linux and be pulled on a third: a name that means something else
there (`..`, `C:`, `nul.yaml`, a blank at its end) is refused everywhere.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

MAX_NAME = 200  # characters, the folders included
MAX_PARTS = 8
NO_PATH = "is not a relative path with forward slashes"

_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(10)), *(f"lpt{n}" for n in range(10))}
_FORBIDDEN = set('<>:"|?*\\')


def wrong(name: str) -> str:
    """What is wrong with *name* as a path in a tree, as a message; empty when nothing is."""
    parts = name.split("/")
    if not name or name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return NO_PATH
    if len(name) > MAX_NAME or len(parts) > MAX_PARTS:
        return f"is a longer name than {MAX_NAME} characters, or lies more than {MAX_PARTS} folders deep"
    if any(c in _FORBIDDEN or unicodedata.category(c) in ("Cc", "Cs", "Cf") for c in name):
        return "has a character in its name that not every system allows"
    for part in parts:
        if part != part.strip() or part.endswith(".") or part.split(".")[0].strip().lower() in _RESERVED:
            return f"has a name that Windows does not allow: {part!r}"
    return ""


def shown(name: str) -> str:
    """*name* for a message: no control characters, not too long."""
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= MAX_NAME else plain[: MAX_NAME - 1] + "…"


def collisions(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs (name, other) of different names that are one file where capitals, or forms of a letter, do not count."""
    first: dict[str, str] = {}
    for name in sorted(names):
        other = first.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            yield name, other
