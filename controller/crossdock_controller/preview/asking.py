"""Divides a preview into tasks, has processes work on them, and adds up what they tell. A time limit ends it; what
was not looked at is said."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import msgspec

from crossdock import codec
from crossdock.errors import Corrupt, Retryable
from crossdock_controller.paths import DataDirectory
from crossdock_controller.preview.model import Request, Result, Task
from crossdock_controller.preview.working import Previewer
from crossdock_controller.store.intake import IntakeReader, StreamInfo

PROCESSES = 2
TASK_BATCHES = 64
_LOOK_BATCHES = 16


@dataclass(slots=True)
class Looked:
    """*left* are records that the time did not suffice for."""

    result: Result
    left: int
    seconds: float


def look(
    data: DataDirectory,
    request: Request,
    since_us: int,
    *,
    site: str | None,
    source: str | None,
    seconds: float,
    processes: int | None = None,
) -> Looked:
    """Compare everything received since. *processes* 0 does it in this one. Raises Retryable when no process could."""
    began = time.monotonic()
    tasks = list(_tasks(data, since_us, site, source))
    result = Result()
    many = min(PROCESSES, os.cpu_count() or 1, len(tasks)) if processes is None else processes
    if many == 0:
        left = _here(data, request, tasks, result, began + seconds)
    else:
        left = _beside(data, request, tasks, result, began + seconds, many)
    result.sources.sort(key=lambda entry: (entry.site, entry.source))
    result.fields.sort(key=lambda entry: -entry.count)
    return Looked(result, sum(records for _, records in left), time.monotonic() - began)


_Todo = tuple[Task, int]


def _tasks(data: DataDirectory, since_us: int, site: str | None, source: str | None) -> list[_Todo]:
    found: list[_Todo] = []
    with closing(IntakeReader(data.intake)) as intake:
        for stream in intake.streams():
            if (site is None or stream.site == site) and (source is None or stream.source == source):
                first = intake.first_since(stream.id, since_us)
                if first is not None:
                    found += _of_stream(intake, stream, first)
    return found


def _of_stream(intake: IntakeReader, stream: StreamInfo, first: int) -> list[_Todo]:
    """A task ends where a file or a poll ends: a group is never cut by it."""
    found: list[_Todo] = []
    begin, records, at = first, 0, first
    while at <= stream.last_sequence:
        stored = intake.batches(stream.id, at, _LOOK_BATCHES)
        if not stored:
            break
        for batch in stored:
            records += batch.records
            at = batch.sequence + 1
            if at - begin >= TASK_BATCHES and _ends_unit(batch.sealed):
                found.append((Task(stream.id, begin, batch.sequence), records))
                begin, records = at, 0
    if at > begin:
        found.append((Task(stream.id, begin, at - 1), records))
    return found


def _ends_unit(sealed: bytes) -> bool:
    try:
        return codec.open_header(sealed).closes
    except Corrupt:
        return False


def _here(
    data: DataDirectory, request: Request, tasks: Sequence[_Todo], result: Result, until: float
) -> Sequence[_Todo]:
    with closing(Previewer(data, request)) as previewer:
        for done, (task, _) in enumerate(tasks):
            if time.monotonic() > until:
                return tasks[done:]
            result.add(previewer.run(task), request.changes)
    return ()


def _beside(
    data: DataDirectory, request: Request, tasks: Sequence[_Todo], result: Result, until: float, many: int
) -> Sequence[_Todo]:
    todo: SimpleQueue[int] = SimpleQueue()
    for index in range(len(tasks)):
        todo.put(index)
    answers: dict[int, Result] = {}
    helpers = [_Helper(data, request) for _ in range(many)]
    threads = [threading.Thread(target=helper.work, args=(tasks, todo, answers), daemon=True) for helper in helpers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    for helper in helpers:
        helper.stop()
    for thread in threads:
        thread.join(10.0)
    if not answers and tasks and time.monotonic() < until:
        raise Retryable(
            "the processes of the preview ended without an answer", hint="see the controller's log; try again"
        )
    for index in sorted(answers):
        result.add(answers[index], request.changes)
    return [entry for index, entry in enumerate(tasks) if index not in answers]


class _Helper:
    """One process, and the thread that talks to it."""

    def __init__(self, data: DataDirectory, request: Request) -> None:
        start = ["worker"] if getattr(sys, "frozen", False) else ["-m", "crossdock_controller.worker"]
        command = [sys.executable, *start, "--role", "preview", "--data", str(data.root)]
        below = 0
        if sys.platform == "win32":
            below = subprocess.BELOW_NORMAL_PRIORITY_CLASS
        self._request = msgspec.json.encode(request) + b"\n"
        self._process = subprocess.Popen(  # noqa: S603 - our own executable
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, creationflags=below
        )

    def work(self, tasks: Sequence[_Todo], todo: SimpleQueue[int], answers: dict[int, Result]) -> None:
        process = self._process
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        with suppress(OSError, Empty):
            process.stdin.write(self._request)
            while True:
                index = todo.get_nowait()
                process.stdin.write(msgspec.json.encode(tasks[index][0]) + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    return  # killed, or dead of a record: its task is among what was not looked at
                answers[index] = msgspec.json.decode(line, type=Result)

    def stop(self) -> None:
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
