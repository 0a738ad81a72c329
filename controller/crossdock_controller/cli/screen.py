"""The look of every answer to a person: one table style, states that carry a word with their colour, a spinner for
what takes long. Width 80 is enough, and without a terminal the same words come as plain lines.

Much of what is shown was said by others (an agent's host name, a sink's error, a record): a cell of a table is text
and no markup, and whatever could command a terminal is shown as a sign.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.errors import MarkupError
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 100  # columns when nobody says how wide the screen is

_GOOD = {"connected", "applied", "done", "running", "delivered", "up", "balanced", "ok", "retried", "unchanged"}
_CALM = {
    "waiting",
    "idle",
    "pending",
    "starting",
    "applying",
    "enrolled",
    "discarded",
    "superseded",
    "cancelled",
    "ignored",
    "duplicate",
}
_WARN = {"retrying", "unknown", "held", "behind", "silent", "paused", "draining", "older", "filling", "low"}
_BAD = {
    "dead", "offline", "down", "failing", "failed", "revoked", "blocked", "open", "lost", "doubled", "rejected",
    "stopped", "unbalanced", "full", "stuck", "damaged", "unreadable",
}  # fmt: skip


# C0 but for the newline, DEL, C1, and what turns the direction of writing around.
_COMMANDS = (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SHOWN = {code: chr(0x2400 + code) if code < 0x20 else "\ufffd" for code in _COMMANDS}


def harmless(text: str) -> str:
    """*text* with a sign in place of every character that a terminal would obey; newlines stay."""
    return text.translate(_SHOWN)


class _Screen(Console):
    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(harmless(segment.text), segment.style)

    def render_str(self, text: str, **options: Any) -> Text:
        try:
            return super().render_str(text, **options)
        except MarkupError:  # then it was none
            return super().render_str(text, **{**options, "markup": False})


class _Table(Table):
    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)


@cache
def screen() -> Console:
    return _console(stderr=False)


@cache
def side() -> Console:
    """stderr: progress and notes that must not mix with an answer in a pipe."""
    return _console(stderr=True)


def plain_output() -> None:
    """A terminal that cannot show a character shows another: an answer never ends in an encoding error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def table(*columns: str, title: str = "") -> Table:
    """A table. A column whose name begins with ">" stands right (numbers), one with "~" may break into several lines;
    the others are never broken."""
    found = _Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        breaks = column.startswith("~")
        found.add_column(
            column.lstrip(">~"), justify=justify, overflow="fold" if breaks else "ellipsis", no_wrap=not breaks
        )
    return found


def style_of(word: str) -> str:
    """The colour of a state; unknown states have none."""
    if word in _GOOD:
        return "green"
    if word in _CALM:
        return "cyan"
    if word in _WARN:
        return "yellow"
    return "bold red" if word in _BAD else ""


def state(word: str, shown: str = "") -> Text:
    """*word* in its colour (as *shown*, when another text is said): the word is always there, the colour is a help."""
    return Text(shown or word, style=style_of(word))


def number(n: int, style_if_any: str = "") -> Text:
    """A count with separators; zero is faint, so that what is there stands out."""
    return Text(f"{n:,}", style=(style_if_any if n else "dim"))


def next_steps(steps: Sequence[str]) -> None:
    """What to do now, one line each; nothing when there is nothing to do."""
    for step in steps:
        screen().print(Text.assemble(("  next: ", "yellow"), step), soft_wrap=True)


@contextmanager
def working(text: str) -> Iterator[None]:
    """A spinner beside *text* until the block ends; without a terminal, nothing: the answer says it."""
    if not side().is_terminal:
        yield
        return
    with side().status(text, spinner="dots"):
        yield


def _console(*, stderr: bool) -> Console:
    plain_output()
    stream = sys.stderr if stderr else sys.stdout
    told = os.environ.get("COLUMNS", "")
    width = int(told) if told.isdecimal() else None if stream.isatty() else PIPE_WIDTH
    return _Screen(stderr=stderr, highlight=False, width=width, soft_wrap=False)
