"""Child processes that are servers: started on a port of their own, waited for, killed, started again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

START_SECONDS = 60.0


def orphan_guard() -> list[str]:
    """A prefix by which a killed test run leaves no server behind, where the system has one."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig=KILL"] if setpriv else []


class Server:
    """One program with its arguments; `start` may follow `kill`. It is the leader of a process group of its own."""

    def __init__(self, command: Sequence[str], log: Path, ready: Callable[[], bool], env: Mapping[str, str]) -> None:
        self._command, self._log, self._ready, self._env = command, log, ready, env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns once it is ready. Raises RuntimeError with the end of its log."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self._log.parent,
                env={**os.environ, **self._env}, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = self._log.read_text(errors="replace")[-3_000:]
                raise RuntimeError(f"{self._command[0]} did not start: {said}")
            time.sleep(0.05)

    def kill(self) -> None:
        """At once, with its children."""
        process, self._process = self._process, None
        if process is None:
            return
        if sys.platform == "win32":
            process.kill()
        else:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.kill()  # it has ended by itself
        process.wait(timeout=START_SECONDS)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
