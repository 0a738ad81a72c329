"""Work for a short process of the same executable: what is heavy is gone from memory afterwards."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import msgspec

from crossdock.errors import CrossdockError, Retryable
from crossdock.lifecycle import Stop
from crossdock.sitecommands import OUTPUT_BYTES
from crossdock_agent.answers import Question

SAID_BYTES = 64 * 1024


def answer(question: Question, seconds: float, stop: Stop) -> bytes:
    """What `crossdock-agent answer` writes, as it travels. It is ended after *seconds*, and by *stop*.

    Raises CrossdockError with what it said, Retryable when it did not get to its end.
    """
    frozen = getattr(sys, "frozen", False)
    command = [sys.executable] if frozen else [sys.executable, "-m", "crossdock_agent"]
    try:
        process = subprocess.Popen(  # noqa: S603 - our own executable
            [*command, "answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except OSError as error:
        raise Retryable(f"no process could be started: {error}", hint="is the machine out of memory?") from error
    complaints = _Complaints(process)
    output, late = _talk(process, msgspec.json.encode(question), seconds, stop)
    said = complaints.end()
    if stop.is_set():
        raise Retryable("interrupted: the agent was stopped meanwhile")
    if late:
        raise Retryable(f"it did not finish within {seconds:g} s and was ended")
    if len(output) > OUTPUT_BYTES:
        raise CrossdockError(f"the answer is larger than {OUTPUT_BYTES >> 20} MiB", hint="ask for less")
    if process.returncode:
        told = said.removeprefix("Error: ") if said.startswith("Error: ") else said.rpartition("\n")[2]
        raise CrossdockError(told or f"it ended with code {process.returncode}")
    return output


class _Complaints:
    """What a process writes to stderr, by a thread: nobody waits for a pipe that is full, and a disk may be."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said = bytearray()
        self._thread = threading.Thread(target=self._listen, name="complaints", daemon=True)
        self._thread.start()

    def end(self) -> str:
        self._thread.join(5.0)
        return bytes(self._said).decode("utf-8", "replace").strip()

    def _listen(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - a pipe was asked for
        with self._process.stderr as pipe:
            while said := pipe.read(4096):
                self._said += said[: SAID_BYTES - len(self._said)]


def _talk(process: subprocess.Popen[bytes], question: bytes, seconds: float, stop: Stop) -> tuple[bytes, bool]:
    """Its output, so far as we want it, and whether its time was up. *question* has no line end in it."""
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    stop.on_set(process.kill)
    try:
        assert process.stdin is not None  # noqa: S101 - pipes were asked for
        assert process.stdout is not None  # noqa: S101
        with process.stdin, process.stdout:
            with contextlib.suppress(OSError):  # it ended before it read: its exit code says so
                process.stdin.write(question + b"\n")
                process.stdin.flush()
            output = process.stdout.read(OUTPUT_BYTES + 1)  # meanwhile the pipe to it is its leash
        if len(output) > OUTPUT_BYTES:
            process.kill()
        process.wait()
    finally:
        timer.cancel()
        stop.forget(process.kill)
    return output, late.is_set()
