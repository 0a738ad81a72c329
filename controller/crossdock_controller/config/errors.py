"""Every problem of a tree is shown at once, each with its file and line: a person repairs a file once, not ten times.

A message never carries a value that may be a secret; the caller decides that before it makes the problem.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from crossdock.errors import ConfigError

Severity = Literal["error", "warning"]
_SHOWN = 5  # problems named in the text of the exception; all of them are in `problems`


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing a person must look at. *line* and *column* count from 1; 0 where there is none (a whole file)."""

    file: str
    line: int
    path: str  # "format.delimiter", "" for the file itself
    message: str
    hint: str = ""
    column: int = 0
    severity: Severity = "error"

    @property
    def where(self) -> str:
        """ "sources/x.yaml: format.delimiter" """
        return f"{self.file}: {self.path}" if self.path else self.file

    def text(self) -> str:
        """ "sources/x.yaml:12: format.delimiter: message (hint)", the form editors turn into a link."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.path}: " if self.path else ""
        return f"{place}: {subject}{self.message}" + (f" ({self.hint})" if self.hint else "")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


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
