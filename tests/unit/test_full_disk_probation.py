"""A disk that takes nothing more is no reason to run a configuration that is refused, or to run nothing."""

from __future__ import annotations

import errno
from pathlib import Path

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.siteconfig import SiteConfig
from crossdock_agent import candidate as candidates
from crossdock_agent.candidate import MAX_CRASHES, Candidate, Probation


def full(path: Path, *_arguments: object, **_more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def crashed(directory: Path) -> Candidate:
    """What is found after its last crash but one was counted."""
    config = siteconfig.encode(SiteConfig(site="atl1", revision=2, sources=[]))
    left = Candidate(
        revision=2, hash=siteconfig.digest(config), config=config, hold_seconds=15, crashes=MAX_CRASHES - 1
    )
    (directory / "candidate.json").write_bytes(msgspec.json.encode(left))
    return left


@pytest.mark.parametrize("last_good", ["another", ""])
def test_on_a_full_disk_a_start_after_too_many_crashes_still_refuses_the_candidate(
    last_good: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = crashed(tmp_path)
    probation = Probation(tmp_path)
    monkeypatch.setattr(candidates, "write_atomic", full)
    assert probation.found(last_good) is None
    assert probation.refusal is not None
    assert probation.refusal.hash == left.hash
    assert (probation.resting is None) == bool(last_good)
    assert (tmp_path / "candidate.json").exists() == (not last_good)


def test_on_a_full_disk_a_candidate_that_fails_in_its_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = crashed(tmp_path)
    probation = Probation(tmp_path)
    probation.begin(left)
    monkeypatch.setattr(candidates, "write_atomic", full)
    assert probation.refuse(left, "wrong password", []).reason == "wrong password"
    assert probation.candidate is None
    assert not (tmp_path / "candidate.json").exists()
