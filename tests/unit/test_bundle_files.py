"""The support bundle lists the files of a state directory that is in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from crossdock_agent import bundle


def test_a_file_that_goes_away_meanwhile_is_left_out_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).touch()
    real = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        if path.name == "b":
            path.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    assert [file["name"] for file in bundle._files(tmp_path)] == ["a", "c"]
