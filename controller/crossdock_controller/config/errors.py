"""Every problem of a tree is shown at once, each with its file and line: a person repairs a file once, not ten times.

A message never carries a value that may be a secret; the caller decides that before it makes the problem.
"""

from __future__ import annotations

from collections.abc import Iterable

from crossdock.errors import ConfigError
from crossdock.yamlfile import Problem

__all__ = ["ConfigInvalid", "Problem", "errors_of", "ordered"]

_SHOWN = 5  # problems named in the text of the exception; all of them are in `problems`


def ordered(problems: Iterable[Problem]) -> list[Problem]:
    """By file, line and path; each once."""
    return sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.path, p.message))


def errors_of(problems: Iterable[Problem]) -> list[Problem]:
    return [p for p in problems if p.severity == "error"]


class ConfigInvalid(ConfigError):  # noqa: N818 - says what the tree is
    """A tree with errors. *problems* holds all of them, sorted, warnings included."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = ordered(problems)
        errors = errors_of(self.problems)
        shown = "; ".join(p.text() for p in errors[:_SHOWN])
        more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
        super().__init__(
            f"configuration has {len(errors)} error(s): {shown}{more}", hint="'crossdock plan' shows all of them"
        )
