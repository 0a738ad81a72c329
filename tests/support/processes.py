"""Real controller and agent processes, started through their command lines, for end-to-end tests and benchmarks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from support.gateway import wait_until

_BIN = Path(sys.executable).parent


def command(name: str) -> str:
    """`crossdock` or `crossdock-agent` of this environment."""
    return str(_BIN / (f"{name}.exe" if os.name == "nt" else name))


class Process:
    """A process that can be killed without warning and started again; its output goes to a log file."""

    def __init__(self, name: str, arguments: list[str], directory: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._arguments = arguments
        # Compiled modules are kept: a process that is killed thirty times must not compile them thirty times.
        self._env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(env or {})}
        self.log = directory / f"{name}.log"
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def start(self) -> Process:
        self._output = self.log.open("ab")
        self._process = subprocess.Popen(
            self._arguments, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, env=self._env
        )
        return self

    @property
    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.poll()

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL (TerminateProcess): no handler runs, nothing is flushed."""
        assert self._process is not None, f"{self.name} was not started"
        self._process.kill()
        self._process.wait(10)
        self._close()

    def pause(self) -> None:
        """SIGSTOP: it does nothing until `resume`, and its connections stay."""
        psutil.Process(self.pid).suspend()

    def resume(self) -> None:
        psutil.Process(self.pid).resume()

    def kill_child(self, marker: str) -> bool:
        """SIGKILL one child whose command line has *marker*; False when there is none now."""
        try:
            for child in psutil.Process(self.pid).children(recursive=True):
                if marker in " ".join(child.cmdline()):
                    child.kill()
                    return True
        except psutil.NoSuchProcess:
            return False
        return False

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            self._close()
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._close()

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:]) if self.log.exists() else ""

    def _close(self) -> None:
        if self._output is not None:
            self._output.close()
            self._output = None


class Centre:
    """A controller with its data directory, and the commands an operator would type."""

    def __init__(
        self, directory: Path, *arguments: str, env: Mapping[str, str] | None = None, api: str = "none"
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.data = directory / "controller"
        self.directory = directory
        self.agents: list[Process] = []
        self._env = env
        self._arguments = arguments
        self._api = api
        self._listen = {"link": "127.0.0.1:0", "enrollment": "127.0.0.1:0"}
        self.process = self._prepared()

    def start(self) -> Centre:
        """Starts it; from the second time on at the address of the first, where the agents look for it."""
        addresses = self.data / "addresses.json"
        self._know_addresses()
        addresses.unlink(missing_ok=True)
        self.launch()
        wait_until(lambda: addresses.exists() or not self.process.alive(), "the controller is up", 180)
        assert self.process.alive(), self.process.tail()
        return self

    def launch(self) -> None:
        """As `start`, without waiting until it is up."""
        self._know_addresses()
        self.process = self._prepared()
        self.process.start()

    def _know_addresses(self) -> None:
        addresses = self.data / "addresses.json"
        if addresses.exists():
            self._listen = json.loads(addresses.read_text("utf-8"))

    def arguments(self, *arguments: str) -> None:
        """What is added to its command line from the next start on."""
        self._arguments = arguments

    def _prepared(self) -> Process:
        run = [command("crossdock"), "controller", "run", "--data", str(self.data)]
        listen = [
            "--listen",
            self._listen["link"],
            "--enroll-listen",
            self._listen["enrollment"],
            "--api-listen",
            self._api,
        ]
        return Process("controller", [*run, *listen, *self._arguments], self.directory, self._env)

    def __enter__(self) -> Centre:
        return self.start()

    def __exit__(self, *_: object) -> None:
        for process in (*self.agents, self.process):
            process.stop()

    def run(self, *arguments: str) -> str:
        """Output of `crossdock ARGUMENTS`; fails the test with its messages when it does not exit 0."""
        env = {**os.environ, "CROSSDOCK_DATA": str(self.data)}
        done = subprocess.run(
            [command("crossdock"), *arguments], capture_output=True, encoding="utf-8", env=env, timeout=120, check=False
        )
        assert done.returncode == 0, f"crossdock {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def enrol(self, site: str, env: Mapping[str, str] | None = None) -> Process:
        """Enrols an agent for *site* and returns its process, not yet started."""
        state = self.directory / f"agent-{site}"
        token = self.json("token", "create", "--site", site)["token"]
        done = subprocess.run(
            [command("crossdock-agent"), "enroll", "--token", token, "--state", str(state)],
            capture_output=True, encoding="utf-8", timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        (state / "agent.toml").write_text("hold_seconds = 1\n", "utf-8")  # kills are not to be about the hold
        arguments = [command("crossdock-agent"), "run", "--state", str(state)]
        self.agents.append(Process(f"agent-{site}", arguments, self.directory, env))
        return self.agents[-1]
