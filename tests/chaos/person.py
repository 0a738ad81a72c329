"""The person at the controller, who works through the command line: pushes configurations, enrols an agent again.

One thing after another, in the order in which they were asked, each again until it works.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from chaos.tree import Tree
from support.processes import command

PATIENCE_SECONDS = 180.0


class Person:
    """A context manager with a thread. *failures* are commands that did not work for PATIENCE_SECONDS."""

    def __init__(self, tree: Tree, data: Path, note: Callable[[str], None]) -> None:
        self.did: Counter[str] = Counter()
        self.failures: list[str] = []
        self._tree, self._note = tree, note
        self._env = {**os.environ, "CROSSDOCK_DATA": str(data)}
        self._leaving = threading.Event()
        self._wanted: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="person")

    def __enter__(self) -> Person:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        self._wanted.put(None)
        self._thread.join()

    def push(self, change: str) -> None:
        """Make *change* (see `tree.Tree`; empty: none) the tree in force, some time soon."""
        self._wanted.put(lambda: self._apply(change))

    def enrol(self, site: str, state: Path, before: Callable[[], None], after: Callable[[], None]) -> None:
        """Enrol the agent of *site* again in its *state*: *before* stops it, *after* starts it."""

        def act() -> None:
            before()
            self._enrol(site, state)
            after()

        self._wanted.put(act)

    def idle(self) -> bool:
        """Everything asked for is done."""
        return not self._wanted.unfinished_tasks

    def _run(self) -> None:
        while (act := self._wanted.get()) is not None:
            act()
            self._wanted.task_done()
        self._wanted.task_done()

    def _apply(self, change: str) -> None:
        folder = self._tree.write(change)
        self._until_it_works(
            "revisions pushed", lambda: self._type("crossdock", "apply", str(folder), "-m", change or "as it was")
        )

    def _enrol(self, site: str, state: Path) -> None:
        def once() -> str:
            token = json.loads(self._type("crossdock", "token", "create", "--site", site, "--json"))["token"]
            return self._type("crossdock-agent", "enroll", "--token", token, "--state", str(state))

        self._until_it_works("agents enrolled again", once)

    def _until_it_works(self, what: str, act: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                act()
            except subprocess.SubprocessError as error:
                self._note(f"{what}: {error}")
                if self._leaving.is_set():
                    return
                if time.monotonic() > deadline:
                    self.failures.append(f"{what}: {error} (for {PATIENCE_SECONDS:.0f} s)")
                    return
                time.sleep(1.0)
            else:
                self.did[what] += 1
                return

    def _type(self, program: str, *arguments: str) -> str:
        """What the command printed. Raises SubprocessError with its messages when it does not exit 0."""
        done = subprocess.run(
            [command(program), *arguments], capture_output=True, encoding="utf-8", env=self._env, check=False,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise subprocess.SubprocessError(f"{program} {arguments[0]}: {done.stdout[-300:]} {done.stderr[-500:]}")
        return done.stdout
