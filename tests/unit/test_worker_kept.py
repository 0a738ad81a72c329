"""The controller's hand on its workers: one that cannot be started now is started later."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from crossdock.lifecycle import Stop
from crossdock_controller import processes
from crossdock_controller.paths import DataDirectory
from crossdock_controller.processes import ControllerSettings, Ending, Worker
from support.waiting import until


def test_a_worker_that_cannot_be_started_for_want_of_memory_is_started_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    real = subprocess.Popen

    def popen(command: list[str], **settings: Any) -> Any:
        started.append(command)
        if len(started) == 1:
            raise OSError(12, "Cannot allocate memory")
        return real(["cat"], **settings)

    monkeypatch.setattr(processes.subprocess, "Popen", popen)
    stop = Stop()
    ending = Ending(stop)
    with Worker("normalize", DataDirectory(tmp_path), ControllerSettings(tmp_path), stop, ending):
        until(lambda: len(started) == 2)
    assert ending.error is None
