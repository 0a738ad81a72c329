"""The log that an agent keeps: bounded, never in the way, read back by time and level."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from crossdock.keptlog import FILES, KeptLog, chosen, read

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def line(minute: int, level: str, text: str, zone: str = "+0000") -> str:
    return f"2026-03-01T12:{minute:02}:00.000{zone} {level: <7} agent {text}"


LINES = [
    line(0, "INFO", "one"),
    line(1, "WARNING", "two Timeout"),
    "Traceback (most recent call last):",
    "ValueError: inner",
    line(2, "DEBUG", "three"),
    line(3, "ERROR", "four"),
]


def pick(minute: int = 0, level: str = "DEBUG", grep: str = "", limit: int = 10_000) -> tuple[list[str], int]:
    return chosen(LINES, NOON + timedelta(minutes=minute), level, grep, limit)


def test_lines_are_chosen_by_time_level_and_text_and_a_traceback_goes_with_its_line() -> None:
    assert pick()[0] == [LINES[0], "\n".join(LINES[1:4]), LINES[4], LINES[5]]
    assert pick(minute=2)[0] == LINES[4:]
    assert pick(level="WARNING")[0] == ["\n".join(LINES[1:4]), LINES[5]]
    assert pick(grep="TIMEOUT")[0] == pick(grep="inner")[0] == ["\n".join(LINES[1:4])]
    assert pick(grep="nothing")[0] == []


def test_a_time_is_compared_across_zones() -> None:
    other = line(0, "INFO", "summer", "+0200")  # ten o'clock
    assert chosen([other], NOON, "DEBUG", "", 1000)[0] == []
    assert chosen([other], NOON - timedelta(hours=2), "DEBUG", "", 1000)[0] == [other]


def test_of_too_many_lines_the_newest_are_kept_and_the_others_counted() -> None:
    assert pick(limit=len(LINES[4]) + len(LINES[5]) + 2) == (LINES[4:], 2)
    assert pick(limit=1) == ([], 4)


def test_files_are_rotated_and_read_oldest_first(tmp_path: Path) -> None:
    log = KeptLog(tmp_path / "logs" / "agent.log", 100)
    for number in range(60):
        log.write(f"line {number:04}\n")
    log.close()
    files = sorted((tmp_path / "logs").iterdir())
    assert len(files) == FILES
    assert all(file.stat().st_size <= 100 for file in files)
    kept = list(read(tmp_path / "logs" / "agent.log"))
    assert kept == [f"line {number:04}" for number in range(60 - len(kept), 60)]
    assert len(kept) == 50


def test_a_new_process_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for word in ("one", "two"):
        log = KeptLog(tmp_path / "agent.log", 1000)
        log.write(f"{word}\n")
        log.close()
    assert list(read(tmp_path / "agent.log")) == ["one", "two"]


def test_lines_that_cannot_be_written_are_counted_and_said_once_it_works_again(tmp_path: Path) -> None:
    place = tmp_path / "logs"
    place.write_text("a file where the folder should be")
    log = KeptLog(place / "agent.log", 1000)
    for _ in range(3):
        log.write("lost\n")
    place.unlink()
    log.write("back\n")
    log.close()
    assert list(read(place / "agent.log")) == ["(3 lines could not be written here)", "back"]


@pytest.mark.parametrize("text", ["\ud800 half a pair", "\0", "ünï"])
def test_whatever_a_line_holds_it_is_written(text: str, tmp_path: Path) -> None:
    log = KeptLog(tmp_path / "agent.log", 1000)
    log.write(f"{text}\n")
    log.close()
    assert len(list(read(tmp_path / "agent.log"))) == 1


def test_where_there_is_no_log_nothing_is_read(tmp_path: Path) -> None:
    assert list(read(tmp_path / "agent.log")) == []


def test_a_file_that_cannot_be_renamed_grows_on_and_loses_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "agent.log"
    log = KeptLog(path, 100)

    def held(_path: Path, _target: Path) -> Path:
        raise PermissionError("somebody has it open")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", held)
        for number in range(30):
            log.write(f"line {number:04}\n")
    assert list(read(path)) == [f"line {number:04}" for number in range(30)]
    log.write("rotated\n")
    log.close()
    assert list(read(path, files=1)) == ["rotated"]
