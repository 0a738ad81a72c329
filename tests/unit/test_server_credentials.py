"""The controller's own certificate: gRPC hears of a change, and of nothing else."""

import datetime as dt
import time
from pathlib import Path

import pytest

from crossdock_controller import processes
from crossdock_controller.authority import SERVER_LIFE, Authority
from crossdock_controller.processes import ServerCredentials


def test_each_port_hears_of_a_new_certificate_once_and_of_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "SETTLE_SECONDS", 0.0)
    credentials = ServerCredentials(Authority.open(tmp_path), ["localhost"])
    link, enrollment = credentials.watch(), credentials.watch()
    assert (link(), link(), enrollment()) == (None, None, None)
    later = time.time_ns() + int((SERVER_LIFE * 2 / 3 + dt.timedelta(minutes=1)).total_seconds() * 1e9)
    monkeypatch.setattr(processes.time, "time_ns", lambda: later)
    assert link() is not None
    # The new pair was made by the real clock: to the patched one it is due again, so the clock goes back.
    monkeypatch.undo()
    monkeypatch.setattr(processes, "SETTLE_SECONDS", 0.0)
    assert link() is None
    assert enrollment() is not None
    assert enrollment() is None
