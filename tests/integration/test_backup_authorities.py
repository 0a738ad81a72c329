"""A backup carries every certificate authority, also in the middle of a replacement, and a restore gives them back."""

import time
from pathlib import Path

import pytest

from crossdock.errors import Corrupt
from crossdock_controller.authority import Authority
from crossdock_controller.commands import authorities, backup, restore
from crossdock_controller.paths import DataDirectory
from support.store_site import made

STEPS = (authorities.add, authorities.issue, authorities.switch)


def quiet(_what: str, _done: int, _of: int) -> None:
    """Nobody looks at the progress."""


def rotated(data: DataDirectory, steps: int) -> Authority:
    for step in STEPS[:steps]:
        step(data, time.time_ns() // 1000, "local:test")
    return Authority.open(data.authority)


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_what_was_backed_up_in_any_phase_goes_on_in_it(tmp_path: Path, steps: int) -> None:
    data = made(tmp_path / "data")
    before = rotated(data, steps)
    backup.create(data, tmp_path / "b", 1, quiet)
    new = DataDirectory(tmp_path / "new")
    restore.restore(new, tmp_path / "b", 2, quiet, replace=False)
    after = Authority.open(new.authority)
    assert after.states == before.states
    assert (after.bundle, after.anchor, after.issuer) == (before.bundle, before.anchor, before.issuer)
    for step in STEPS[steps:]:
        step(new, time.time_ns() // 1000, "local:test")
    assert [s.word for s in Authority.open(new.authority).states] == ["trusted", "issuing, serving"]


def test_the_key_of_a_retired_authority_is_in_no_backup_made_since(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    old = rotated(data, 3).states[0].fingerprint
    authorities.retire(data, old, time.time_ns() // 1000, "local:test", force=True)
    manifest = backup.create(data, tmp_path / "b", 1, quiet)
    names = {file.name for file in manifest.files}
    assert "authority/ca.pem" in names
    assert "authority/ca.key" not in names
    assert [s.word for s in Authority.open(tmp_path / "b" / "authority").states] == ["retired", "issuing, serving"]


def test_a_backup_that_lacks_one_authority_is_not_sound(tmp_path: Path) -> None:
    data = made(tmp_path / "data")
    rotated(data, 1)
    backup.create(data, tmp_path / "b", 1, quiet)
    (newer,) = (tmp_path / "b" / "authority").glob("ca-*.key")
    newer.unlink()
    with pytest.raises(Corrupt, match=newer.name):
        backup.verify(tmp_path / "b", quiet)
