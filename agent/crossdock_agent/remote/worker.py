"""Runs commands from the centre: one at a time, each at most once, and only what the site's policy allows.

The receiving thread only puts them into a queue. A command is remembered on the disk before it begins; its answer is
kept there until the controller has it, which asks again over each new stream. Each one is written to `commands.log`.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
from loguru import logger

from crossdock.errors import ConfigError, CrossdockError
from crossdock.keptlog import KeptLog
from crossdock.lifecycle import Stop
from crossdock.redaction import KNOWN
from crossdock.sitecommands import ID, KINDS, OUTPUT_BYTES, PART_BYTES, fault_of
from crossdock.v1.link_pb2 import Command, CommandResult, Report
from crossdock_agent import policy
from crossdock_agent.answers import Answer
from crossdock_agent.remote.deeds import Deeds, Restarting
from crossdock_agent.remote.journal import INTERRUPTED, Entry, Journal
from crossdock_agent.settings import Settings

QUEUED = 50  # a controller gives 20
LOG_BYTES = 1_000_000
PROCESS = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Link:
    """What the worker needs of the control stream: a way to send reports, and the controller's clock minus ours."""

    send: Callable[[Iterable[Report]], None]
    offset_us: Callable[[], int | None]


class Remote:
    """`run` is a supervised part; `received` is for the receiving thread."""

    def __init__(self, settings: Settings, deeds: Deeds, link: Link) -> None:
        self._settings = settings
        self._deeds = deeds
        self._link = link
        self._journal = Journal(settings.commands_path)
        self._record = KeptLog(settings.commands_log_path, LOG_BYTES)
        self._queue: queue.SimpleQueue[Command | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._known: set[str] = set()  # in the queue or in hand

    def received(self, command: Command) -> None:
        """Queue *command*, unless it is queued or in hand already: then its answer comes anyway."""
        with self._lock:
            if command.id in self._known:
                return
            full = len(self._known) >= QUEUED
            if not full:
                self._known.add(command.id)
        if full:
            result = CommandResult(id=command.id, error=f"not run: {QUEUED} commands wait here already")
            self._link.send([Report(command_result=result)])
        else:
            self._queue.put(command)

    def run(self, stop: Stop) -> None:
        self._recover()

        def wake() -> None:
            self._queue.put(None)

        stop.on_set(wake)
        try:
            while not stop.is_set():
                command = self._queue.get()
                if command is not None:
                    self._one(command, stop)
        finally:
            stop.forget(wake)

    def _one(self, command: Command, stop: Stop) -> None:
        try:
            self._answer(command, stop)
        finally:
            with self._lock:
                self._known.discard(command.id)

    def close(self) -> None:
        self._record.close()

    def _recover(self) -> None:
        """What had begun when the last life ended has its end now."""
        for entry in self._journal.begun():
            if entry.name == "restart":
                how = "in order" if entry.process == PROCESS else "by a new process"
                text = f"the agent runs again, begun anew {how}"
                self._end(entry, Answer([text], {"in_order": entry.process == PROCESS}).encoded(), "")
            else:
                self._end(entry, b"", INTERRUPTED)

    def _answer(self, command: Command, stop: Stop) -> None:
        arguments = dict(command.arguments)
        if not ID.fullmatch(command.id):
            logger.warning("a command without a valid id was ignored")
            return
        try:
            known = self._journal.find(command.id)
        except OSError as error:
            if not _is_harmless(command.name):
                self._refuse(command, f"not run: its journal cannot be read: {error}")
                return
            known = None
        if known is not None:
            self._repeat(command.id, known)
        elif self._is_late(command):
            self._refuse(command, "its end had passed before it could begin; nothing was done", expired=True)
        elif refusal := self._refusal(command.name, arguments.get("source", "")):
            self._refuse(command, refusal, refused=True)
        elif fault := fault_of(command.name, arguments):
            self._refuse(command, f"not run: {fault}")
        else:
            self._execute(command, arguments, stop)

    def _is_late(self, command: Command) -> bool:
        now_us = time.time_ns() // 1000 + (self._link.offset_us() or 0)
        return bool(command.expires_us) and now_us > command.expires_us

    def _refusal(self, name: str, source: str) -> str:
        try:
            return policy.read(self._settings.policy_path).refusal(name, source)
        except ConfigError as error:
            return error.message

    def _execute(self, command: Command, arguments: dict[str, str], stop: Stop) -> None:
        entry = Entry(
            id=command.id, name=command.name, by=command.by[:100], begun_us=time.time_ns() // 1000,
            expires_us=command.expires_us, process=PROCESS,
        )  # fmt: skip
        try:
            self._journal.begin(entry)
        except OSError as error:
            if not _is_harmless(command.name):
                self._refuse(command, f"not run: it could not be written down before: {error}")
                return
            logger.warning("a command could not be written down before it begins: {}", error)
        logger.bind(command=command.name, id=command.id, by=command.by[:100]).info("command begins")
        self._write_down(entry, arguments, "begins")
        self._link.send([Report(command_result=CommandResult(id=command.id, started=True))])
        try:
            answer = self._deeds.do(command.name, arguments, command.by[:100], stop)
        except Restarting:
            return  # it is answered by the life that begins next
        except CrossdockError as error:
            output, said = b"", str(error)
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it, and the agent goes on
            logger.bind(command=command.name).opt(exception=error).error("a command failed unexpectedly")
            output, said = b"", f"it failed unexpectedly: {type(error).__name__}: {error}"
        else:
            output, said = answer.encoded(), ""
        if len(output) > OUTPUT_BYTES:
            output, said = b"", f"the answer is larger than {OUTPUT_BYTES >> 20} MiB: ask for less"
        self._end(entry, output, said)

    def _end(self, entry: Entry, output: bytes, error: str) -> None:
        said = KNOWN.clean(error)
        entry = msgspec.structs.replace(entry, ended_us=time.time_ns() // 1000, ok=not error, error=said)
        try:
            self._journal.end(entry, output)
        except OSError as problem:  # told now or never: asked again, it is an interrupted one
            logger.warning("the end of a command could not be kept: {}", problem)
        took = (entry.ended_us - entry.begun_us) / 1e6
        verdict = "done" if entry.ok else f"failed: {said}"
        self._write_down(entry, {}, f"{verdict} ({took:.1f} s, {len(output)} bytes)")
        self._link.send(_parts(entry, output))

    def _repeat(self, id_: str, entry: Entry) -> None:
        """The controller did not get the answer, or lost it."""
        output = self._journal.output(entry)
        if output is None:
            entry = msgspec.structs.replace(entry, ok=False, error="it was done, and its answer is no longer kept here")
        self._link.send(_parts(msgspec.structs.replace(entry, id=id_), output or b""))

    def _refuse(self, command: Command, said: str, *, refused: bool = False, expired: bool = False) -> None:
        """It is not begun."""
        said = KNOWN.clean(said)
        log = logger.bind(command=command.name[:50], id=command.id, by=command.by[:100])
        log.warning("command not taken: {}", said)
        entry = Entry(id=command.id, name=command.name[:50], by=command.by[:100], begun_us=0, expires_us=0, process="")
        self._write_down(entry, dict(command.arguments), f"{'refused' if refused else 'not taken'}: {said}")
        result = CommandResult(id=command.id, ok=False, error=said, refused=refused, expired=expired)
        self._link.send([Report(command_result=result)])

    def _write_down(self, entry: Entry, arguments: dict[str, str], verdict: str) -> None:
        """One line for the people of the site: when, who, what, and how it went."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        given = json.dumps(dict(sorted(arguments.items())))[:500] if arguments else ""
        line = f"{now} {entry.id} {json.dumps(entry.by)} {json.dumps(entry.name)} {given} {json.dumps(verdict)[1:-1]}"
        self._record.write(KNOWN.clean(" ".join(line.split(" "))) + "\n")


def _is_harmless(name: str) -> bool:
    """Run twice it does no harm; and where nothing can be written any more, it is what a person asks for."""
    kind = KINDS.get(name)
    return kind is not None and kind.many


def _parts(entry: Entry, output: bytes) -> Iterator[Report]:
    """The answer in messages of at most PART_BYTES; made as they are sent."""
    count = max(1, -(-len(output) // PART_BYTES))
    for part in range(count):
        piece = output[part * PART_BYTES : (part + 1) * PART_BYTES]
        if part < count - 1:
            result = CommandResult(id=entry.id, output=piece, part=part, more=True)
        else:
            result = CommandResult(id=entry.id, ok=entry.ok, error=entry.error, output=piece, part=part)
        yield Report(command_result=result)
