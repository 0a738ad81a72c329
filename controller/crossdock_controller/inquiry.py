"""Who killed the worker: batches are mapped in processes of their own until the records at fault are known.

It takes a while and runs beside the worker, which goes on with every other stream.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
from loguru import logger

from crossdock_controller.culprits import NotFound, culprits
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.poison import WHOLE, Suspect
from crossdock_controller.trial import CANNOT_TRY, Answer, Question

TRIAL_SECONDS = 20.0  # a batch is mapped in a tenth of a second; a loaded machine gets its share
START_SECONDS = 120.0  # of a process, on top


class Interrupted(Exception):  # noqa: N818 - the worker ends
    """No verdict."""


@dataclass(slots=True)
class _Bench:
    """A process that answers questions, started anew whenever one kills it."""

    data: DataDirectory
    seconds: float
    _process: subprocess.Popen[bytes] | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self, question: Question) -> Answer:
        """Raises Interrupted."""
        process = self._running()
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        late = threading.Timer(START_SECONDS + self.seconds, process.kill)
        late.start()
        try:
            process.stdin.write(msgspec.json.encode(question) + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = b""
        finally:
            late.cancel()
        if line:
            return msgspec.json.decode(line, type=Answer)
        code = self.close()
        if self.stopped.is_set() or code == CANNOT_TRY:
            raise Interrupted
        return Answer(f"a process that maps it {_manner(code)}")

    def close(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        with suppress(OSError):
            process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return code

    def stop(self) -> None:
        """From another thread: the question in progress is not answered any more."""
        self.stopped.set()
        process = self._process
        if process is not None:
            with suppress(OSError):
                process.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self.stopped.is_set():
            raise Interrupted
        if self._process is None:
            start = ["worker"] if getattr(sys, "frozen", False) else ["-m", "crossdock_controller.worker"]
            command = [sys.executable, *start, "--role", "trial", "--data", str(self.data.root)]
            self._process = subprocess.Popen(  # noqa: S603 - our own executable
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        return self._process


class Inquiry:
    """On a thread of its own. Once *done*, *verdict* has {sequence: {position or WHOLE: reason}}, or nothing at all."""

    def __init__(self, data: DataDirectory, suspect: Suspect, seconds: float) -> None:
        self.suspect = suspect
        self.verdict: dict[int, dict[int, str]] = {}
        self._bench = _Bench(data, seconds)
        self._thread = threading.Thread(target=self._run, name=f"inquiry-{suspect.stream_id}", daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def close(self) -> None:
        self._bench.stop()
        self._thread.join(10.0)

    def _run(self) -> None:
        at = self.suspect
        try:
            for sequence in range(at.sequence, at.until_sequence + 1):
                found = self._batch(sequence, at.record if sequence == at.sequence else 0)
                if found:
                    self.verdict[sequence] = found
                    return  # the first is the one it died at; what comes after it was not reached
        except Interrupted:
            logger.debug("the inquiry was interrupted")
        finally:
            self._bench.close()

    def _batch(self, sequence: int, skip: int) -> dict[int, str]:
        stream, seconds = self.suspect.stream_id, self._bench.seconds
        whole = self._bench.ask(Question(stream, sequence, skip, None, seconds))
        if not whole.problem:
            return {}
        records = whole.records or self._records(sequence)

        def trial(kept: frozenset[int]) -> str:
            return self._bench.ask(Question(stream, sequence, skip, sorted(kept), seconds)).problem

        try:
            return culprits(range(skip, records), trial, whole.problem)
        except NotFound as error:
            return {WHOLE: error.reason}

    def _records(self, sequence: int) -> int:
        """Of a batch that killed the process before it could say."""
        from contextlib import closing

        from crossdock_controller.store.intake import IntakeReader

        with closing(IntakeReader(self._bench.data.intake)) as intake:
            stored = intake.batches(self.suspect.stream_id, sequence, 1)
        return stored[0].records if stored else 0


def _manner(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code}" if code != -9 else "was killed (out of memory?)"
    return "did not answer in time" if code == 1 else f"ended with code {code}"
