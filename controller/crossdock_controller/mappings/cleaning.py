"""Texts made fit before anything else looks at them: a prefix taken off, a part taken out, zeros put in front.

In this order: `extract`, `strip_prefix`, `strip_suffix`, `substring`, `case`, `pad`. What is blank then is blank.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from crossdock.errors import ConfigError, Rejected
from crossdock_controller.formats.base import BLANK
from crossdock_controller.mappings.converters import as_text, shown
from crossdock_controller.mappings.model import Cleaning

MAX_EXTRACT = 4096  # characters that a pattern is tried on: the time some patterns take grows with the text

Clean = Callable[[object], str]


def cleaner(spec: Cleaning) -> Clean | None:
    """None when *spec* asks for nothing. It raises Rejected. Raises ConfigError for what cannot be done."""
    steps: list[Callable[[str], str]] = []
    if spec.extract is not None:
        steps.append(_extract(spec.extract))
    if spec.strip_prefix:
        steps.append(lambda text: _without(text, spec.strip_prefix, str.removeprefix))
    if spec.strip_suffix:
        steps.append(lambda text: _without(text, spec.strip_suffix, str.removesuffix))
    if spec.substring is not None:
        steps.append(_substring(spec.substring))
    if spec.case is not None:
        steps.append(str.upper if spec.case == "upper" else str.lower)
    if spec.pad is not None:
        width, fill, right = spec.pad.to, spec.pad.with_, spec.pad.side == "right"
        steps.append(lambda text: text.ljust(width, fill) if right else text.rjust(width, fill))
    if not steps:
        return None

    def clean(value: object) -> str:
        text = as_text(value)
        for step in steps:
            text = step(text).strip(BLANK) if text else ""
        return text

    return clean


def _extract(pattern: str) -> Callable[[str], str]:
    """The first group of *pattern*, or all that it matches, wherever it stands."""
    try:
        search = re.compile(pattern).search
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(f"bad pattern in 'extract': {error}", hint="see the syntax of Python's re") from error

    def extract(text: str) -> str:
        if len(text) > MAX_EXTRACT:
            raise Rejected("bad_text", f"a text of {len(text)} characters is too long to extract something from")
        match = search(text)
        if match is None:
            raise Rejected("bad_text", f"{shown(text)} has nothing that matches {pattern}")
        return (match[1] if match.re.groups else match[0]) or ""

    return extract


def _without(text: str, those: tuple[str, ...], remove: Callable[[str, str], str]) -> str:
    """Without the first of *those* that it has; one that has none is left as it is."""
    return next((rest for one in those if (rest := remove(text, one)) != text), text)


def _substring(asked: tuple[int, ...]) -> Callable[[str], str]:
    """[first character, counted from 1; how many]"""
    first, count = asked[0] - 1, asked[1] if len(asked) > 1 else None
    return lambda text: text[first : None if count is None else first + count]
