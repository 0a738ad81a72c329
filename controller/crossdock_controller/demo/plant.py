"""The demo's processes: real ones, each with a log of its own, that can be killed without warning and started again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from crossdock.errors import ConfigError, CrossdockError
from crossdock_controller.paths import Addresses, DataDirectory, read_addresses

START_SECONDS = 40.0
STOP_SECONDS = 10.0


class DemoFailed(CrossdockError):  # noqa: N818 - a story that failed
    """Something in the story did not come out as it must."""


class Part:
    """One process. `kill` is SIGKILL (on Windows TerminateProcess): no handler runs, nothing is flushed."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(  # noqa: S603 - our own executables
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=os.name == "posix",  # Ctrl-C is for the story alone; it stops its processes in order
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def code(self) -> int | None:
        return self._process.poll() if self._process is not None else None

    @property
    def pid(self) -> int:
        return self._process.pid if self._process is not None else 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
        self._close()

    def stop(self) -> None:
        """Ask it to end, wait, then insist."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_SECONDS)
        self._close()

    def last_words(self, lines: int = 12) -> str:
        """The end of its log, for a message about its failure."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None


class Plant:
    """The controller and the agents of one demo, below one directory. Close it and all of them are gone."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = DataDirectory(directory / "controller")
        self.agents: dict[str, Part] = {}
        self._addresses: Addresses | None = None
        self.controller = self._controller("127.0.0.1:0", "127.0.0.1:0")

    def start_controller(self) -> float:
        """Start it, the second time at the address of the first; seconds until it answered. Raises DemoFailed."""
        if self._addresses is not None:
            self.controller = self._controller(self._addresses.link, self._addresses.enrollment)
            self.data.addresses.unlink(missing_ok=True)
        began = time.monotonic()
        self.controller.start()
        self.wait_for(self.data.addresses.exists, "the controller answers", self.controller)
        self._addresses = read_addresses(self.data)
        return time.monotonic() - began

    def enroll(self, site: str, token: str) -> None:
        """What a person does at the site: one pasted line. Then the agent runs."""
        state = self.state_of(site)
        done = subprocess.run(  # noqa: S603
            [*agent_command(), "enroll", "--token", token, "--state", str(state)],
            capture_output=True, encoding="utf-8", errors="replace", timeout=START_SECONDS, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise DemoFailed(f"site {site} could not enrol: {done.stdout}{done.stderr}".strip())
        part = Part(f"agent-{site}", [*agent_command(), "run", "--state", str(state)], self.log(f"agent-{site}"))
        self.agents[site] = part
        part.start()

    def state_of(self, site: str) -> Path:
        return self.directory / f"agent-{site}"

    def log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def wait_for(self, condition: Callable[[], bool], what: str, part: Part, seconds: float = START_SECONDS) -> None:
        """Raises DemoFailed, with the end of *part*'s log, when it dies or *condition* takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not part.alive():
                raise DemoFailed(f"{part.name} ended (code {part.code}) before {what}:\n{part.last_words()}")
            if time.monotonic() > deadline:
                raise DemoFailed(f"{what}: not within {seconds:.0f} s. The log of {part.name}:\n{part.last_words()}")
            time.sleep(0.05)

    def dead_parts(self) -> list[Part]:
        """Agents that ended although nobody stopped them."""
        return [part for part in self.agents.values() if not part.alive()]

    def close(self) -> None:
        for part in [*self.agents.values(), self.controller]:
            part.stop()

    def _controller(self, listen: str, enroll_listen: str) -> Part:
        command = [
            *controller_command(), "controller", "run", "--data", str(self.data.root), "--listen", listen,
            "--enroll-listen", enroll_listen, "--advertise", "127.0.0.1", "--api-listen", "none",
        ]  # fmt: skip
        return Part("controller", command, self.log("controller"))


def controller_command() -> list[str]:
    if getattr(sys, "frozen", False):
        return [sys.executable]
    return [sys.executable, "-m", "crossdock_controller"]


def agent_command() -> list[str]:
    """How the agent is started here. Raises ConfigError when it is not installed beside the controller."""
    if getattr(sys, "frozen", False):
        name = "crossdock-agent.exe" if os.name == "nt" else "crossdock-agent"
        beside = Path(sys.executable).with_name(name)
        found = str(beside) if beside.exists() else shutil.which("crossdock-agent")
        if found:
            return [found]
    else:
        import importlib.util

        if importlib.util.find_spec("crossdock_agent") is not None:
            return [sys.executable, "-m", "crossdock_agent"]
    raise ConfigError(
        "the demo runs agents too, and the agent is not installed here", hint="install 'crossdock[agent]'"
    )
