"""Which records a mapping leaves out. A record counts when every condition holds; a column it lacks reads as blank."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from crossdock.errors import Rejected
from crossdock_controller.formats.base import BLANK
from crossdock_controller.mappings.converters import as_text
from crossdock_controller.mappings.model import Condition

_REMEMBERED = 8192


def trimmed(value: object) -> str:
    """The text a condition or grouping compares; what has no text (a list) is compared by its written form."""
    if value is None:
        return ""
    try:
        return as_text(value).strip(BLANK)
    except Rejected:
        return repr(value)


class Test(dict[str, bool]):
    """One condition; remembers its answer by text."""

    def __init__(self, condition: Condition) -> None:
        super().__init__()
        self.column = condition.column
        self.reason = f"left out by where: {_described(condition)}"
        self._holds = _compiled(condition)

    def __missing__(self, text: str) -> bool:
        if len(self) > _REMEMBERED:
            self.clear()
        answer = self[text] = self._holds(text.strip(BLANK))
        return answer

    def holds(self, values: Sequence[object]) -> list[bool]:
        return [self[value if type(value) is str else trimmed(value)] for value in values]


def _compiled(condition: Condition) -> Callable[[str], bool]:
    """Raises re.error for a bad pattern."""
    pattern = re.compile(condition.matches) if condition.matches is not None else None

    def holds(text: str) -> bool:
        return (
            (condition.equals is None or text in condition.equals)
            and (condition.not_equals is None or text not in condition.not_equals)
            and (pattern is None or pattern.fullmatch(text) is not None)
            and (condition.blank is None or condition.blank == (not text))
        )

    return holds


def _described(condition: Condition) -> str:
    tests = condition.model_dump(exclude={"column"}, exclude_none=True)
    shown = (f"{name} {', '.join(value) if isinstance(value, tuple) else value}" for name, value in tests.items())
    return f"{condition.column} {' and '.join(shown)}"
