"""One run of the fixed transfer, in which one process dies at one point, and what came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from chaos.points import Event, Machine, Point
from chaos.power import Shadow
from chaos.shim import Shim
from chaos.transfer import EXPECTED, FIRST_HALF, Ground, Ledger, base_environment, commands
from crossdock_controller.commands import configuration

PATIENCE_SECONDS = 120.0


@dataclass(slots=True)
class Outcome:
    """*faults* empty: all as promised. *reached*: the process did die at the point."""

    point: Point | None
    reached: bool = False
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    events: list[Event] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # what a power cut took from the disk
    log: str = ""


class _InVainError(Exception):
    """What was waited for did not come."""


class Run:
    """The transfer from start to clean stop. *cut*: at the point the whole machine loses its current ("strict",
    "named": see `power`); "": one process is killed. *first*: with the controller's very first start and the enrolment
    before it; the events are those of that part alone.
    """

    def __init__(self, ground: Ground, work: Path, point: Point | None, cut: str = "", *, first: bool = False) -> None:
        self._ground, self._ledger, self._point, self._cut, self._first = ground, Ledger(ground), point, cut, first
        self._token = work / "token.json"
        self._log_path = work / "run.log"
        self._work = work
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._machines: dict[str, Machine] = {}
        self._shadows: dict[str, Shadow] = {}
        self._after_cut = True
        self._outcome = Outcome(point)

    def __call__(self) -> Outcome:
        started = time.monotonic()
        if self._first:
            self._ground.reset_to_nothing()
        else:
            self._ground.reset()
        self._work.mkdir(parents=True, exist_ok=True)
        for old in self._work.glob("*.*"):
            old.unlink()
        with ExitStack() as stack:
            shim = stack.enter_context(Shim(self._work))
            for name, root in (("controller", self._ground.centre), ("agent", self._ground.site)):
                self._machines[name] = self._machine(shim, name, root)
                stack.callback(self._machines[name].close)
            stack.callback(self._kill_all)
            self._output: IO[bytes] = stack.enter_context(self._log_path.open("ab"))
            if self._point:
                self._after_cut = not self._cut
                self._dying().die_at(self._point, cut=bool(self._cut))
            try:
                self._transfer()
                self._outcome.faults += self._ledger.faults()
                self._stop()
            except _InVainError as error:
                self._outcome.faults += [str(error), *self._ledger.faults()]
            self._outcome.reached = self._point is not None and self._dying().died()
            if not self._first:
                self._outcome.events = self._events()
        if self._outcome.faults:
            self._outcome.log = self._log_path.read_text("utf-8", "replace")
        self._outcome.seconds = time.monotonic() - started
        return self._outcome

    # --- the transfer

    def _transfer(self) -> None:
        self._start("controller")
        if self._first:
            self._first_start()
        self._start("agent")
        self._until(lambda: self._ledger.reached(FIRST_HALF), "the first half has arrived")
        self._push()
        self._ground.drop_last_file()
        if shadow := self._shadows.get("agent"):
            shadow.add(self._ground.site / "out" / "stock3.csv")
            shadow.add(self._ground.site / "log" / "journal.log")
        self._until(lambda: self._ledger.reached(EXPECTED), "everything has arrived")
        self._until(lambda: not self._ledger.faults(), "all is quiet")

    def _first_start(self) -> None:
        self._until(self._ground.data.addresses.exists, "the controller is up")
        self._done("apply")

        def enrolled() -> bool:
            """With a token anew each time: the one before may be used up."""
            self._done("token")
            return self._ended("enroll") == 0

        self._until(enrolled, "the agent is enrolled")
        self._outcome.events = self._events()

    def _push(self) -> None:
        """In a process of its own only where that one's points or syncs matter: it takes longer than all the rest."""
        if self._point and self._point.event.process != "controller-push" and "controller" not in self._shadows:
            configuration.apply(self._ground.data, self._ground.pushed, "sweep", "", time.time_ns() // 1000)
        else:
            self._done("push")

    def _done(self, name: str) -> None:
        """As an operator would: again, when it failed."""
        self._until(lambda: self._ended(name) == 0, f"'{name}' succeeds")

    def _ended(self, name: str) -> int | None:
        """Runs a short command to its end; its exit code, None if its machine lost its current meanwhile."""
        self._start(name)
        process = self._running[name]
        self._wait(lambda: process.poll() is not None or self._is_cut(), f"'{name}' ends")
        if process.poll() is None:
            return None
        del self._running[name]
        return process.returncode

    def _stop(self) -> None:
        """Cleanly; whoever dies meanwhile is started again, does what was left, and is stopped."""
        for name in ("agent", "controller"):
            for _attempt in range(5):
                process = self._running[name]
                process.send_signal(signal.SIGTERM)
                self._wait(lambda p=process: p.poll() is not None or self._is_cut(), f"{name} stops")  # type: ignore[misc]
                if self._is_cut():
                    self._tick()
                elif process.returncode in (0, -signal.SIGTERM):  # the latter: it was not up yet
                    break
                else:
                    self._start(name)
                self._until(lambda: not self._ledger.faults(), f"all is quiet after {name} died while it stopped")
            else:
                raise _InVainError(f"{name} was stopped five times and ended with {process.returncode}")
            del self._running[name]
            if name == "agent":
                self._outcome.faults += self._ledger.faults()

    # --- processes

    def _start(self, name: str) -> None:
        command = commands(self._ground, self._token)[name]
        output = self._token.open("wb") if name == "token" else self._output
        self._running[name] = subprocess.Popen(
            command.arguments,
            stdin=subprocess.DEVNULL, stdout=output, stderr=self._output, start_new_session=True,
            env={**base_environment(), **self._machines[command.machine].environment(command.role)},
        )  # fmt: skip
        if output is not self._output:
            output.close()

    def _machine(self, shim: Shim, name: str, root: Path) -> Machine:
        """With a shadow if it is to lose its current."""
        if self._cut and self._point and _machine_of(self._point) == name:
            self._shadows[name] = Shadow(self._work / f"shadow-{name}", root)
            return Machine(shim, name, root, self._shadows[name].directory)
        return Machine(shim, name, root)

    def _events(self) -> list[Event]:
        return [e for machine in self._machines.values() for e in machine.events()]

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        """Whoever has ended meanwhile is started again, as a service manager would."""

        def ticking() -> bool:
            self._tick()
            return condition()

        self._wait(ticking, what)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """In vain is what does not come though nothing happens any more, or does for too long: never a slow machine."""
        last = began = time.monotonic()
        seen = 0
        while not condition():
            now, happened = time.monotonic(), self._happened()
            if happened != seen:
                last, seen = now, happened
            if now > min(last + PATIENCE_SECONDS, began + 3 * PATIENCE_SECONDS):
                raise _InVainError(f"waited {now - began:.0f} s in vain until {what}")
            time.sleep(0.03)

    def _happened(self) -> int:
        """Grows with every event and every line of the log."""
        return sum(path.stat().st_size for path in (self._log_path, *self._work.glob("*.events")))

    def _tick(self) -> None:
        if self._is_cut():
            self._power_returns()
        for name in ("controller", "agent"):
            if name in self._running and self._running[name].poll() is not None:
                self._start(name)

    def _is_cut(self) -> bool:
        return not self._after_cut and self._dying().died()

    def _power_returns(self) -> None:
        machine = self._dying()
        known = commands(self._ground, self._token)
        for name in [name for name in self._running if known[name].machine == machine.name]:
            _kill(self._running[name])
            if name != machine.name:
                del self._running[name]
        self._outcome.lost = self._shadows[machine.name].restore(self._cut)
        machine.thaw()
        self._after_cut = True

    def _dying(self) -> Machine:
        assert self._point is not None
        return self._machines[_machine_of(self._point)]

    def _kill_all(self) -> None:
        for process in self._running.values():
            _kill(process)


def _machine_of(point: Point) -> str:
    return point.event.process.partition("-")[0]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """With all its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
