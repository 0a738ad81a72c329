"""Outboxes that were set aside are told of until a person has taken them away: a restart must not forget a loss.

Beside each lies a small file that says why and what it held. The outbox file itself is the open question: as long as it
is there, the problem is; when it is deleted (or moved to somebody who looks into it), the question is closed.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE
from crossdock_agent.files import write_atomic
from crossdock_agent.outbox import Quarantined
from crossdock_agent.outbox.damaged import Survey, survey
from crossdock_agent.problems import Problems

MARK = ".corrupt-"
NOTE = ".note.json"
NAMED = 5  # sources named in a sentence; the note has all of them


class Note(msgspec.Struct, frozen=True):
    at_us: int
    reason: str
    survey: Survey


class SetAside:
    """*outbox* is the path of the living one."""

    def __init__(self, outbox: Path, problems: Problems) -> None:
        self._outbox = outbox
        self._problems = problems
        self._told: set[str] = set()

    def add(self, aside: Quarantined) -> None:
        """Look into what was just set aside, and tell."""
        note = Note(time.time_ns() // 1000, aside.reason, survey(aside.path))
        path = aside.path.with_name(aside.path.name + NOTE)
        try:
            write_atomic(path, msgspec.json.encode(note))
        except OSError as error:  # it is told now, and looked at again after a restart
            logger.bind(file=str(path)).error("what the outbox set aside held could not be noted: {}", error)
        self._tell(aside.path, note)

    def look(self) -> None:
        """Tell of all that are there, and no longer of those that are not."""
        there = {p for p in self._outbox.parent.glob(f"{self._outbox.name}{MARK}*") if p.name.endswith("Z")}
        for path in sorted(there):
            if _key(path) not in self._told:
                self._tell(path, self._note(path))
        for key in self._told - {_key(path) for path in there}:
            self._problems.clear(key)
            self._told.discard(key)

    def _note(self, path: Path) -> Note:
        try:
            return msgspec.json.decode(path.with_name(path.name + NOTE).read_bytes(), type=Note)
        except (OSError, *UNREADABLE):  # of an older release, or the disk was full: look again
            return Note(path.stat().st_mtime_ns // 1000, "the reason was not noted", survey(path))

    def _tell(self, path: Path, note: Note) -> None:
        self._told.add(_key(path))
        self._problems.report(_key(path), sentence(path, note))


def sentence(path: Path, note: Note) -> str:
    return (
        f"a damaged outbox was set aside as {path} ({note.reason}); {_held(note.survey)}; "
        "keep the file until 'crossdock account' agrees, then delete it: this message goes with it"
    )


def _held(found: Survey) -> str:
    if found.unreadable:
        return (
            f"what it held cannot be told ({found.unreadable}): the sources read again from what the controller has, "
            "and only what was changed or deleted at a source since then may be missing"
        )
    if not found.held:
        return "by its own count all in it was acknowledged; the sources read again from what the controller has"
    named = ", ".join(
        f"{h.source} {h.first_sequence} to {h.last_sequence} ({h.records} records)" for h in found.held[:NAMED]
    )
    more = f" and {len(found.held) - NAMED} more sources (see {NOTE[1:]})" if len(found.held) > NAMED else ""
    return (
        f"not acknowledged were the batches {named}{more}: the sources read them again from what the controller has, "
        "but what was changed or deleted at a source since then is only in that file (crossdock-agent salvage)"
    )


def _key(path: Path) -> str:
    return f"outbox:{path.name}"
