"""A new configuration on probation: it runs, and the last good one stays in its file until the hold is over.

`candidate.json` names it from before it first runs. Whoever finds it at a start knows that the process before ended in
the hold: by a plain stop if it says so, else by a crash. After `MAX_CRASHES` of those it is not run again:
`refused.json` then says why, until another revision is offered or a person restarts the agent. Where there is no last
good one to run instead, it rests only, longer each time: whatever ended the agent may have been something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO, TypeVar

import msgspec
from loguru import logger

from crossdock import siteconfig
from crossdock.disk import sync_directory
from crossdock.errors import UNREADABLE
from crossdock_agent.files import write_atomic
from crossdock_agent.logring import Line

MAX_HOLD_SECONDS = 3600.0
MAX_CRASHES = 3
REST_SECONDS = 10.0  # at first; doubled with each crash after that
MAX_REST_SECONDS = 3600.0
LOG_LINES = 30  # of a failure's report
_LOG_BYTES = 256 * 1024

T = TypeVar("T")


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    revision: int
    hash: str
    config: bytes
    hold_seconds: float
    crashes: int = 0  # processes that ended in the hold, not by a stop
    stopped: bool = False  # the last one ended by a stop, or while this rested

    @property
    def rest_seconds(self) -> float:
        """How long it is left alone after its crashes."""
        return min(MAX_REST_SECONDS, REST_SECONDS * 2.0 ** min(self.crashes - MAX_CRASHES, 20))


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why the candidate *hash* is not run; *log*: the last lines of the process that it ended."""

    revision: int
    hash: str
    reason: str
    log: list[str] = []


class Probation:
    """The files of the state directory, and nothing of what runs. Used under the configuration's lock."""

    def __init__(self, directory: Path) -> None:
        self._candidate_path = directory / "candidate.json"
        self._refusal_path = directory / "refused.json"
        self._log_path = directory / "candidate.log"
        self.candidate: Candidate | None = None  # what runs on probation now
        self.resting: Candidate | None = None  # what will be tried again after a while
        self.refusal = _read(self._refusal_path, Refusal)

    def found(self, last_good: str) -> Candidate | None:
        """At a start: the candidate to run on, its crash counted; None when there is none, or it has crashed too often
        and is refused from now on, in favour of the *last_good* one (its hash) or, without one, to be tried again."""
        left = _read(self._candidate_path, Candidate)
        if left is None or siteconfig.digest(left.config) != left.hash or left.hash == last_good:
            self._forget(self._candidate_path)
            return None
        crashes = left.crashes if left.stopped else left.crashes + 1
        if crashes >= MAX_CRASHES:
            self._refuse_crashed(left, crashes, has_other=bool(last_good))
            return None
        if crashes > left.crashes:
            logger.bind(revision=left.revision, crashes=crashes).warning("the agent ended while it tried this revision")
        return msgspec.structs.replace(left, crashes=crashes, stopped=False)

    def begin(self, candidate: Candidate) -> None:
        """Before *candidate* runs. Durable: a crash in its first moment counts."""
        self._forget(self._log_path)
        self._write(candidate)
        self.candidate = candidate

    def stopped(self) -> None:
        """A plain stop: no crash. And whoever starts it again may have mended what was refused."""
        if self.candidate is not None:
            self._write(msgspec.structs.replace(self.candidate, stopped=True))
        elif self.resting is not None:
            self._write(msgspec.structs.replace(self.resting, stopped=True, crashes=0))
        self._forget(self._refusal_path)

    def passed(self) -> None:
        """The hold is over, and the candidate stored as the last good one; or it gave way to another."""
        self.candidate = self.resting = None
        self._forget(self._candidate_path)
        self._forget(self._log_path)

    def refuse(self, candidate: Candidate, reason: str, log: list[str]) -> Refusal:
        """From now on; where that cannot be written down, for as long as this process lives."""
        refusal = self._note_refusal(candidate, reason, log)
        self.passed()
        return refusal

    def _note_refusal(self, candidate: Candidate, reason: str, log: list[str]) -> Refusal:
        refusal = Refusal(revision=candidate.revision, hash=candidate.hash, reason=reason, log=log)
        self.refusal = refusal
        try:
            write_atomic(self._refusal_path, msgspec.json.encode(refusal), private=True)
        except OSError as error:  # a full disk is no reason to run it on, or to run nothing
            logger.bind(revision=candidate.revision).warning("its refusal cannot be written down: {}", error)
        return refusal

    def forgive(self) -> None:
        """Another revision is offered, or it has rested."""
        self.refusal = self.resting = None
        self._forget(self._refusal_path)

    def open_log(self) -> TextIO | None:
        """For what the interpreter itself says when it dies; None when the disk does not take it."""
        try:
            return self._log_path.open("a", encoding="utf-8")
        except OSError:
            return None

    def note(self, line: Line) -> None:
        """Keep *line* of the log for the next process, should this one end here."""
        try:
            if not self._log_path.exists() or self._log_path.stat().st_size < _LOG_BYTES:
                with self._log_path.open("a", encoding="utf-8") as file:
                    file.write(line.text + "\n")
        except OSError:
            return  # it is for a report only, and logging it would come back here

    def _refuse_crashed(self, left: Candidate, crashes: int, *, has_other: bool) -> None:
        try:
            lines = self._log_path.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        except OSError:
            lines = []
        resting = msgspec.structs.replace(left, crashes=crashes, stopped=True)
        then = (
            "the last good configuration runs, and this one is tried again when another revision is offered or the "
            "agent is restarted by hand"
            if has_other
            else f"there is no other to run, so it is tried again after {resting.rest_seconds:g} s"
        )
        self._note_refusal(
            left,
            f"the agent ended {crashes} times, not by a stop, within {left.hold_seconds:g} s of beginning to run it; "
            + then,
            lines,
        )
        self.passed() if has_other else self._rest(resting)

    def _rest(self, resting: Candidate) -> None:
        self.resting = resting
        try:
            self._write(resting)
        except OSError as error:  # what is there counts its crashes anew, if it is found again
            logger.bind(revision=resting.revision).warning("its rest cannot be written down: {}", error)
        self._forget(self._log_path)

    def _write(self, candidate: Candidate) -> None:
        write_atomic(self._candidate_path, msgspec.json.encode(candidate), private=True)

    @staticmethod
    def _forget(path: Path) -> None:
        if path.exists():
            path.unlink(missing_ok=True)
            sync_directory(path.parent)


def read_candidate(directory: Path) -> Candidate | None:
    """What is on probation in the state *directory*, for commands that go by what runs."""
    return _read(directory / "candidate.json", Candidate)


def _read(path: Path, type_: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=type_)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        logger.bind(file=str(path)).warning("cannot be read and is passed over: {}", error)
        return None
