"""What is asked of a process of its own, and what is answered to the centre: both as they travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from crossdock.redaction import KNOWN
from crossdock_agent.settings import Settings


class Question(msgspec.Struct, frozen=True):
    """On stdin, never on a command line that others can list. *settings* are those that the agent runs with; *values*:
    those of records may be shown; *secrets* are what it has resolved, also what is stored nowhere any more."""

    settings: Settings
    name: str
    arguments: dict[str, str]
    values: bool
    secrets: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """*text* for a person, *value* for a program (what JSON can hold); or *data*, which is as it travels already."""

    text: list[str]
    value: Any = None
    data: bytes = b""

    def encoded(self) -> bytes:
        """As it travels, without secrets."""
        if self.data:
            return self.data
        return msgspec.json.encode(
            {"text": [KNOWN.clean(line) for line in self.text], "value": KNOWN.structure(self.value)}
        )
