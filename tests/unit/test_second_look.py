"""What `tests/again.py` lets pass, and what it does not."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import again


@pytest.fixture
def tries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run; the second look passes unless `fails` is among the names."""
    asked: list[list[str]] = []

    def run(command: list[str], **_more: object) -> SimpleNamespace:
        asked.append(command)
        return SimpleNamespace(returncode=int(any("fails" in part for part in command)))

    monkeypatch.setattr(again, "FAILED", tmp_path / "lastfailed")
    monkeypatch.setattr(subprocess, "run", run)
    return asked


def failed(*names: str) -> None:
    again.FAILED.write_text(json.dumps(dict.fromkeys(names, True)), "utf-8")


def test_few_that_pass_alone_are_named(tries: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    failed("a.py::one", "a.py::two")
    assert again.main(1) == 0
    assert tries[0][-2:] == ["a.py::one", "a.py::two"]
    assert "UNSTEADY" in capsys.readouterr().out


def test_one_that_fails_alone_fails_all(tries: list[list[str]]) -> None:
    failed("a.py::one", "a.py::fails")
    assert again.main(1) == 1
    assert len(tries) == 1


def test_many_failures_and_broken_runs_are_not_looked_at_again(tries: list[list[str]]) -> None:
    failed(*(f"a.py::{i}" for i in range(again.MOST + 1)))
    assert again.main(1) == 1
    failed("a.py::one")
    assert again.main(2) == 2
    failed("a.py")  # could not even be imported
    assert again.main(1) == 1
    again.FAILED.unlink()
    assert again.main(1) == 1
    assert tries == []
