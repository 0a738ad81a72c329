"""Where files lie: folders with dates, names of all kinds, links, read-only disks, shares that come and go."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.drops import state as drop_state
from crossdock_agent.sources.base import Draft
from support.source_site import SourceSite

CSV = {"kind": "csv", "delimiter": ";"}
HEADER = b"NO;TEXT\n"
DAY = 24 * 3600.0


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


def site_of(directory: Path, **settings: Any) -> SourceSite:
    return SourceSite("file_drop", {"directory": str(directory), "settle_seconds": 0, "format": CSV, **settings})


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER + (text or str(path)).encode("utf-8", "surrogateescape") + b";x\n")


def names(drafts: list[Draft]) -> list[str]:
    return [draft.header.origin.name for draft in drafts]


def left(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


# --- patterns


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{yyyy}/{mm}/SHP*.csv", ["2024/05/SHP1.csv", "2025/01/SHP2.csv"]),
        ("*/SHP*.csv", ["2024/SHP4.csv", "other/SHP5.csv"]),
        ("{yyyy}/**/*.csv", ["2024/05/SHP1.csv", "2024/05/deep/SHP3.csv", "2024/SHP4.csv", "2025/01/SHP2.csv"]),
        ("SHP{yyyy}{mm}{dd}.csv", ["SHP20240501.csv"]),
        ("**/deep/*.csv", ["2024/05/deep/SHP3.csv"]),
        ("SHP*.csv", ["SHP20240501.csv", "SHPall.csv"]),
    ],
)
def test_a_pattern_names_folders_with_dates(drop: Path, pattern: str, expected: list[str]) -> None:
    for name in (
        "2024/05/SHP1.csv", "2025/01/SHP2.csv", "2024/05/deep/SHP3.csv", "2024/SHP4.csv", "other/SHP5.csv",
        "2024x/99/SHP6.csv", "20245/01/SHP7.csv", "2024/05/STK.txt", "SHP20240501.csv", "SHPall.csv",
    ):  # fmt: skip
        put(drop / name)
    assert names(site_of(drop, pattern=pattern).drafts()) == expected


def test_only_folders_that_can_match_are_entered(drop: Path, monkeypatch: Any) -> None:
    for name in ("2024/05/SHP1.csv", "old/05/SHP1.csv", "2024/x/SHP1.csv", "2024/05/deep/SHP1.csv", ".git/05/a.csv"):
        put(drop / name)
    entered: list[str] = []
    scandir = os.scandir

    def watched(path: Any) -> Any:
        entered.append(os.path.relpath(path, drop))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", watched)
    assert names(site_of(drop, pattern="{yyyy}/{mm}/SHP*.csv").drafts()) == ["2024/05/SHP1.csv"]
    assert entered == [".", "2024", str(Path("2024") / "05")]


def test_files_of_several_folders_come_in_the_order_of_their_paths_or_times(drop: Path) -> None:
    for i, name in enumerate(("2024/02/b.csv", "2024/01/c.csv", "2023/12/a.csv")):
        put(drop / name)
        os.utime(drop / name, (i + 1, i + 1))
    by_name = site_of(drop, pattern="{yyyy}/{mm}/*.csv").drafts()
    assert names(by_name) == ["2023/12/a.csv", "2024/01/c.csv", "2024/02/b.csv"]
    by_time = site_of(drop, pattern="{yyyy}/{mm}/*.csv", order="time").drafts()
    assert names(by_time) == ["2024/02/b.csv", "2024/01/c.csv", "2023/12/a.csv"]


def test_case_counts_as_it_does_on_the_platform(drop: Path, monkeypatch: Any) -> None:
    put(drop / "IN" / "SHP1.CSV")
    assert len(site_of(drop, pattern="in/shp*.csv").drafts()) == (1 if sys.platform == "win32" else 0)
    monkeypatch.setattr(os.path, "normcase", lambda path: os.fspath(path).lower())  # as Windows has it
    assert names(site_of(drop, pattern="in/shp*.csv").drafts()) == ["IN/SHP1.CSV"]


def test_names_that_are_awkward_are_read_and_archived(drop: Path) -> None:
    odd = ["a" * 200 + ".csv", "trailing dot.", "con.csv", "- x.csv", "ü€日本.csv", "a;b'c.csv", "%s{name}.csv"]
    odd = [name for name in odd if sys.platform != "win32" or name not in ("trailing dot.", "con.csv")]
    if sys.platform != "win32":
        odd += [os.fsdecode(b"\xff\xfe.csv"), "back\\slash.csv", "new\nline.csv", "c:d.csv"]
    for name in odd:
        put(drop / name)
    site = site_of(drop, afterwards="archive")
    assert len(site.drafts()) == len(odd)
    site.restart()
    site.acknowledge()
    assert sorted(path.name for path in (drop / "archive").iterdir()) == sorted(odd)


def test_a_path_longer_than_260_characters_is_read_and_archived(drop: Path) -> None:
    below = "/".join(["d" * 60] * 6)
    put(drop / below / "a.csv")
    site = site_of(drop, recursive=True, afterwards="archive")
    assert names(site.drafts()) == [f"{below}/a.csv"]
    site.acknowledge()
    assert left(drop) == [f"archive/{below}/a.csv"]


# --- links


def test_links_to_directories_are_not_followed_so_that_a_loop_ends(drop: Path, tmp_path: Path) -> None:
    if sys.platform == "win32":  # links need a privilege there
        return
    put(drop / "sub" / "a.csv")
    put(tmp_path / "elsewhere" / "b.csv")
    (drop / "sub" / "loop").symlink_to(drop)
    (drop / "away").symlink_to(tmp_path / "elsewhere")
    (drop / "c.csv").symlink_to(tmp_path / "elsewhere" / "b.csv")
    (drop / "d.csv").symlink_to(tmp_path / "missing")
    site = site_of(drop, pattern="*.csv", recursive=True)
    assert names(site.drafts(passes=2)) == ["c.csv", "sub/a.csv"]


# --- coming and going


def test_a_directory_that_disappears_and_returns_is_an_error_meanwhile_and_nothing_comes_twice(
    drop: Path, tmp_path: Path
) -> None:
    put(drop / "a.csv")
    site = site_of(drop)
    assert names(site.drafts()) == ["a.csv"]
    drop.rename(tmp_path / "away")
    for _ in range(3):
        with pytest.raises(SourceUnavailable, match="cannot be reached"):
            site.drafts()
    site.restart()
    with pytest.raises(SourceUnavailable):
        site.drafts()
    put(tmp_path / "away" / "b.csv")
    (tmp_path / "away").rename(drop)
    assert names(site.drafts(passes=2)) == ["b.csv"]


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may write to what is read-only."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_read_only_media_need_no_right_to_write() -> None:
    if sys.platform == "win32":  # there are no such modes
        return
    with tempfile.TemporaryDirectory() as base:  # pytest's own may be entered by root alone
        Path(base).chmod(0o755)
        drop = Path(base) / "drop"
        put(drop / "a.csv")
        drop.chmod(0o555)
        site = site_of(drop)
        with as_nobody():
            with pytest.raises(PermissionError):
                (drop / "x").write_bytes(b"")
            assert names(site.drafts(passes=2)) == ["a.csv"]
            site.acknowledge()
            assert all(finding.ok for finding in site.source.check())
        drop.chmod(0o755)
        assert left(drop) == ["a.csv"]


def test_check_writes_nothing_where_nothing_is_to_be_moved(drop: Path, monkeypatch: Any) -> None:
    put(drop / "a.csv")

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("written to")

    for method in ("write_bytes", "mkdir", "unlink", "touch"):
        monkeypatch.setattr(Path, method, refuse)
    assert all(finding.ok for finding in site_of(drop).source.check())


# --- afterwards


def test_move_and_archive_go_to_directories_of_the_day_the_file_was_taken_in_the_zone(
    drop: Path, tmp_path: Path
) -> None:
    """2024-06-01 12:00 UTC, and the clock goes on to half past midnight in Tokyo."""
    target = tmp_path / "done"
    site = site_of(
        drop, recursive=True, afterwards="move", zone="Asia/Tokyo", move_directory=f"{target}/{{yyyy}}/{{mm}}-{{dd}}"
    )
    put(drop / "a.csv")
    put(drop / "sub" / "b.csv")
    site.drafts()
    site.seconds += 3.5 * 3600
    put(drop / "c.csv")
    site.drafts()
    site.seconds += 2 * DAY  # the acknowledgement comes late
    site.restart()
    site.acknowledge()
    assert left(target) == ["2024/06-01/a.csv", "2024/06-01/sub/b.csv", "2024/06-02/c.csv"]
    assert left(drop) == []
    assert site.drafts(passes=2) == []


def test_a_second_attempt_to_archive_goes_to_the_same_day(drop: Path, monkeypatch: Any) -> None:
    site = site_of(drop, afterwards="archive", archive_directory=f"{drop}/done/{{yyyy}}/{{ddd}}")
    put(drop / "a.csv")
    site.drafts()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", _denied)
        for _ in range(2):
            with pytest.raises(SourceUnavailable, match="cannot archive it"):
                site.acknowledge()
            site.seconds += DAY
    assert site.drafts(passes=2) == []  # the ledger decides, not the file's place
    site.acknowledge()
    assert left(drop) == ["done/2024/153/a.csv"]


def _denied(*_: Any) -> None:
    raise PermissionError(13, "Permission denied")


def test_what_was_archived_into_folders_of_dates_is_never_found_again(drop: Path) -> None:
    site = site_of(drop, pattern="**/*.csv", afterwards="archive", archive_directory=f"{drop}/done/{{yyyy}}")
    put(drop / "a.csv")
    put(drop / "in" / "b.csv")
    site.drafts()
    site.acknowledge()
    assert left(drop) == ["done/2024/a.csv", "done/2024/in/b.csv"]
    assert site.drafts(passes=2) == []
    assert "duplicates_skipped" not in site.counters.snapshot()
    with pytest.raises(ConfigError, match="archive_directory"):
        site_of(drop, afterwards="archive", archive_directory=f"{drop}/{{yyyy}}")
    with pytest.raises(ConfigError, match="move_directory"):
        site_of(drop, afterwards="move", move_directory=str(drop))


def test_braces_in_the_directorys_own_name_are_no_date(tmp_path: Path) -> None:
    drop = tmp_path / "{3F2504E0-4F89}"
    put(drop / "a.csv")
    site = site_of(drop, afterwards="archive")
    assert names(site.drafts()) == ["a.csv"]
    site.acknowledge()
    assert left(drop) == ["archive/a.csv"]
    assert site.drafts() == []


def test_a_folder_called_archive_is_one_like_others_where_nothing_is_archived(drop: Path) -> None:
    put(drop / "archive" / "a.csv")
    assert names(site_of(drop, recursive=True).drafts()) == ["archive/a.csv"]
    assert names(site_of(drop, recursive=True, afterwards="archive").drafts()) == []


# --- what the ledger holds


def test_a_file_that_left_is_forgotten_after_a_while_and_its_content_much_later(drop: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("crossdock_agent.sources.file_drop.CLEAR_EVERY", 1)
    site = site_of(drop, afterwards="delete", duplicates_days=30)

    def rows_of(kind: str) -> int:
        return sum(key.startswith(kind) for key in site.ledger)

    def take(name: str, text: str) -> int:
        put(drop / name, text)
        records = sum(draft.header.records for draft in site.drafts())
        site.acknowledge()
        return records

    for i in range(5):
        assert take(f"a{i}.csv", f"a{i}") == 1
    assert (rows_of("file:"), rows_of("print:")) == (5, 5)
    site.seconds += 8 * DAY
    take("b.csv", "b")
    take("c.csv", "c")
    assert (rows_of("file:"), rows_of("print:")) == (2, 7)
    assert take("a9.csv", "a3") == 0  # still known
    site.seconds += 31 * DAY
    take("d.csv", "d")
    take("e.csv", "e")
    assert (rows_of("file:"), rows_of("print:")) == (2, 2)
    assert take("a9.csv", "a3") == 1


def test_a_file_that_stays_is_known_for_ever(drop: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("crossdock_agent.sources.file_drop.CLEAR_EVERY", 1)
    site = site_of(drop, duplicates_days=1)
    put(drop / "a.csv")
    assert len(site.drafts()) == 1
    for i in range(4):
        site.seconds += 400 * DAY
        put(drop / f"b{i}.csv")
        site.restart()
        assert names(site.drafts(passes=2)) == [f"b{i}.csv"]


def test_the_ledger_is_looked_through_in_pieces(drop: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(drop_state, "LOOK_ROWS", 3)
    monkeypatch.setattr("crossdock_agent.sources.file_drop.CLEAR_EVERY", 1)
    site = site_of(drop, afterwards="delete")
    for i in range(10):
        put(drop / f"a{i}.csv")
    site.drafts()
    site.acknowledge()
    site.seconds += 500 * DAY
    # Each file adds two rows, wherever their keys fall, and lets three be looked at: 20 + 2 * 24 < 3 * 24.
    for i in range(24):
        put(drop / f"b{i}.csv")
        (draft,) = site.drafts()
        assert sum(value is None for _, value in draft.remember) <= 3
        site.acknowledge()
    assert not [value for value in site.ledger.values() if b"a3.csv" in value]
    assert sum(key.startswith("file:") for key in site.ledger) == 24


def test_a_row_of_an_earlier_version_is_kept_and_still_known(drop: Path) -> None:
    site = site_of(drop)
    put(drop / "a.csv", "same")
    site.drafts()
    for key in [key for key in site.ledger if key.startswith("print:")]:
        site.ledger[key] = b"a.csv"
    site.seconds += 10_000 * DAY
    put(drop / "b.csv", "same")
    (draft,) = site.drafts()
    assert draft.header.records == 0


def test_a_duplicate_is_said_to_be_one_of_the_file_it_is(drop: Path) -> None:
    from loguru import logger

    site = site_of(drop)
    put(drop / "a.csv", "same")
    site.drafts()
    put(drop / "b.csv", "same")
    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), format="{message}")
    try:
        site.drafts()
    finally:
        logger.remove(sink)
    assert any("duplicate, skipped" in line and "a.csv" in line for line in said)
    assert site.counters.snapshot()["duplicates_skipped"] == 1


def test_a_new_file_on_the_inode_of_an_old_one_is_read_from_its_beginning(drop: Path) -> None:
    path = drop / "a.csv"
    path.write_bytes(HEADER + b"1;x\n2;x\n")
    site = site_of(drop)
    first = site.drafts()
    inode = path.stat().st_ino
    with path.open("r+b") as file:  # what a file system does that gives a freed inode away at once
        file.write(HEADER + b"7;y\n8;y\n9;y\n")
    assert path.stat().st_ino == inode
    (draft,) = site.drafts()
    assert draft.payload == b"7;y\n8;y\n9;y\n"
    assert draft.header.origin.unit != first[0].header.origin.unit
    assert draft.header.origin.first_record == 0
