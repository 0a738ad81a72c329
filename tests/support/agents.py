"""The whole agent on a thread of the test, with the fake source kind and, if wanted, without helper processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.lifecycle import Stop
from crossdock.siteconfig import OutboxConfig, SiteConfig, SourceConfig
from crossdock_agent import app, helper
from crossdock_agent.outbox import inspect
from crossdock_agent.settings import Settings
from crossdock_agent.status import Status, read_status
from support.controller import SITE

ROOMY = OutboxConfig(min_free_disk_bytes=0)


def helpers_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helper tasks run here: the same code, without half a second for each process."""

    def ask(task: str, values: dict[str, bytes], _timeout: float = 0) -> dict[str, bytes]:
        answer = msgspec.json.decode(helper.serve(task, msgspec.json.encode(values)), type=helper.Answer)
        if answer.error:
            raise helper._ERRORS[answer.error](answer.message, hint=answer.hint)
        return answer.values

    monkeypatch.setattr(helper, "_ask", ask)


def site_config(revision: int, *sources: SourceConfig, outbox: OutboxConfig = ROOMY, **more: object) -> bytes:
    values = {"site": SITE, **more}
    return siteconfig.encode(SiteConfig(revision=revision, sources=list(sources), outbox=outbox, **values))  # type: ignore[arg-type]


def eventually(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain until {what}"
        time.sleep(0.01)


class RunningAgent:
    """`app.run` on a thread. Use in a `with` statement."""

    def __init__(self, state: Path) -> None:
        self.settings = Settings(state=str(state), log_level="DEBUG", hold_seconds=1.0)
        self._stop = Stop()
        self._failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> RunningAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the agent did not stop"
        if self._failure:
            raise self._failure[0]

    def status(self) -> Status | None:
        return read_status(self.settings.status_path)

    def holds(self) -> int:
        """Batches in its outbox now, not acknowledged yet. The status tells the same a moment late."""
        return inspect(self.settings.outbox_path)[0]

    def problems(self) -> str:
        status = self.status()
        return "; ".join(status.problems) if status else ""

    def _run(self) -> None:
        try:
            app.run(self.settings, self._stop)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self._failure.append(error)
