"""Configuration pushed in the middle of everything, as an operator does: `crossdock apply`, again until it works."""

from __future__ import annotations

import os
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from chaos.tree import Tree
from support.processes import command

PATIENCE_SECONDS = 120.0


class Pusher:
    """A context manager with a thread: changes are applied one after another, in the order in which they were asked."""

    def __init__(self, tree: Tree, data: Path, note: Callable[[str], None]) -> None:
        self.applied = 0
        self.failure = ""
        self._tree, self._note = tree, note
        self._env = {**os.environ, "CROSSDOCK_DATA": str(data)}
        self._wanted: queue.Queue[str | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="pusher")

    def __enter__(self) -> Pusher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wanted.put(None)
        self._thread.join()

    def push(self, change: str) -> None:
        """Make *change* (see `tree.Tree`; empty: none) the tree in force, some time soon."""
        self._wanted.put(change)

    def wait(self) -> None:
        """Until everything asked for is applied."""
        self._wanted.join()

    def _run(self) -> None:
        while (change := self._wanted.get()) is not None:
            self._apply(change)
            self._wanted.task_done()
        self._wanted.task_done()

    def _apply(self, change: str) -> None:
        arguments = [command("crossdock"), "apply", str(self._tree.write(change)), "-m", change or "as it was"]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            done = subprocess.run(arguments, capture_output=True, encoding="utf-8", env=self._env, check=False)
            if done.returncode == 0:
                self.applied += 1
                return
            self._note(f"apply {change!r} failed: {done.stdout[-300:]} {done.stderr[-300:]}")
            if time.monotonic() > deadline:
                self.failure = f"'crossdock apply' failed for {PATIENCE_SECONDS:.0f} s: {done.stderr[-500:]}"
                return
            time.sleep(1.0)
