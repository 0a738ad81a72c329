"""A hint is the next step of a person who mistyped a name. It only ever shows names, never values."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped *word*: the nearest known one, or all of them when there are few, or nothing."""
    names = sorted(known)
    near = nearest(word, names)
    if near:
        return near
    return f"known: {', '.join(names)}" if 0 < len(names) <= 20 else ""


def nearest(word: str, known: Iterable[str]) -> str:
    """The same, where the message itself lists what is known: the nearest one, or nothing."""
    near = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""
