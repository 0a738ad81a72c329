"""When a file is complete: markers, renames, writers that let nobody in. Half a file is never taken."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from crossdock_agent.drops import handles
from crossdock_agent.drops.markers import OVERDUE_SECONDS
from crossdock_agent.sources.base import Draft
from support.source_site import SourceSite

CSV = {"kind": "csv", "delimiter": ";"}
HEADER = b"NO;TEXT\n"


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


def site_of(directory: Path, **settings: Any) -> SourceSite:
    return SourceSite("file_drop", {"directory": str(directory), "settle_seconds": 0, "format": CSV, **settings})


def put(path: Path, text: str = "") -> None:
    path.write_bytes(HEADER + (text or path.name).encode() + b";x\n")


def names(drafts: list[Draft]) -> list[str]:
    return [draft.header.origin.name for draft in drafts]


def left(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


# --- renamed into place


def test_what_bears_a_name_of_the_making_is_never_touched_and_is_taken_once_it_is_renamed(drop: Path) -> None:
    site = site_of(drop, ignore=["*.tmp", "*.part", ".*", "~*"], afterwards="delete")
    for name in ("a.csv.tmp", "b.csv.part", ".c.csv", "~d.csv"):
        (drop / name).write_bytes(HEADER + b"half")
    assert site.drafts(passes=3) == []
    site.acknowledge()
    assert len(left(drop)) == 4
    put(drop / "a.csv.tmp")
    (drop / "a.csv.tmp").rename(drop / "a.csv")
    assert names(site.drafts()) == ["a.csv"]
    site.acknowledge()
    assert left(drop) == [".c.csv", "b.csv.part", "~d.csv"]


# --- markers


@pytest.mark.parametrize(
    ("template", "marker"), [("{name}.done", "a.csv.done"), ("{stem}.ctl", "a.ctl"), ("ok_{name}", "ok_a.csv")]
)
@pytest.mark.parametrize("first", ["file", "marker"])
def test_a_file_is_taken_when_its_marker_is_there_whichever_comes_first(
    drop: Path, template: str, marker: str, first: str
) -> None:
    site = site_of(drop, marker=template, afterwards="archive")
    comes = [lambda: put(drop / "a.csv"), lambda: (drop / marker).write_bytes(b"")]
    for arrive in comes if first == "file" else reversed(comes):
        assert site.drafts(passes=2) == []
        arrive()
    assert names(site.drafts(passes=2)) == ["a.csv"]
    site.acknowledge()
    assert left(drop) == sorted([f"archive/{marker}", "archive/a.csv"])
    assert site.drafts() == []


def test_a_marker_is_never_taken_as_data_even_if_it_matches_the_pattern(drop: Path) -> None:
    (drop / "a.csv.done").write_bytes(HEADER + b"1;x\n")
    site = site_of(drop, marker="{name}.done", pattern="*")
    assert site.drafts(passes=2, advance=2 * OVERDUE_SECONDS) == []


def test_with_a_marker_a_file_still_rests_as_long_as_it_should(drop: Path) -> None:
    """A marker may come before its file is written to its end."""
    (drop / "a.csv.done").write_bytes(b"")
    site = site_of(drop, marker="{name}.done", settle_seconds=2.0)
    put(drop / "a.csv")
    assert site.drafts() == []
    put(drop / "a.csv", "longer than before")
    assert site.drafts(advance=2.1) == []
    assert names(site.drafts(advance=2.1)) == ["a.csv"]


def test_markers_go_with_their_files_and_with_nothing_else(drop: Path) -> None:
    for name in ("a.csv", "b.csv"):
        put(drop / name)
        (drop / f"{name}.done").write_bytes(b"")
    site = site_of(drop, marker="{name}.done", afterwards="delete")
    site.drafts()
    put(drop / "b.csv", "replaced since")
    site.acknowledge()
    assert left(drop) == ["b.csv", "b.csv.done"]
    assert names(site.drafts()) == ["b.csv"]
    site.acknowledge()
    assert left(drop) == []


@pytest.mark.parametrize("afterwards", ["archive", "delete"])
def test_a_crash_between_marker_and_file_neither_takes_it_again_nor_leaves_an_orphan(
    drop: Path, afterwards: str, monkeypatch: Any
) -> None:
    put(drop / "a.csv")
    (drop / "a.csv.done").write_bytes(b"")
    site = site_of(drop, marker="{name}.done", afterwards=afterwards)
    site.drafts()
    gone: list[Path] = []
    from crossdock_agent.drops import afterwards as moving

    real = {"move": moving.move, "delete": moving.delete}

    def once(path: Path, *more: Any) -> None:
        if gone:
            raise SystemExit
        real["move" if more else "delete"](path, *more)
        gone.append(path)

    monkeypatch.setattr(moving, "move", once)
    monkeypatch.setattr(moving, "delete", once)
    with pytest.raises(SystemExit):
        site.acknowledge()
    assert [path.name for path in gone] == ["a.csv.done"]  # never a marker without its file
    monkeypatch.undo()
    site.restart()
    assert site.drafts(passes=2) == []
    site.acknowledge()
    assert left(drop) == ([] if afterwards == "delete" else ["archive/a.csv", "archive/a.csv.done"])
    site.restart()
    assert site.drafts(passes=2) == []


def test_a_marker_of_the_next_file_is_not_taken_away_by_a_second_attempt(drop: Path) -> None:
    put(drop / "a.csv")
    (drop / "a.csv.done").write_bytes(b"")
    site = site_of(drop, marker="{name}.done", afterwards="delete")
    site.drafts()
    (token,) = site.tokens
    site.acknowledge()
    (drop / "a.csv.done").write_bytes(b"")  # of a file that comes after it
    site.source.release(token)  # the outbox had not noted that it was done
    put(drop / "a.csv", "the next")
    assert names(site.drafts()) == ["a.csv"]


def test_markers_and_files_that_wait_for_each_other_too_long_are_counted_for_a_person(drop: Path) -> None:
    site = site_of(drop, marker="{name}.done", pattern="SHP*.csv")
    (drop / "SHP1.csv.done").write_bytes(b"")
    (drop / "STK1.csv.done").write_bytes(b"")  # of another source in the same directory
    put(drop / "SHP2.csv")
    site.drafts()
    assert site.counters.snapshot()["markers_without_file"] == 0
    assert site.counters.snapshot()["files_without_marker"] == 0
    site.drafts(advance=OVERDUE_SECONDS)
    assert site.counters.snapshot()["markers_without_file"] == 1
    assert site.counters.snapshot()["files_without_marker"] == 1
    put(drop / "SHP1.csv")
    (drop / "SHP2.csv.done").write_bytes(b"")
    assert len(site.drafts()) == 2
    assert site.counters.snapshot()["markers_without_file"] == 0
    assert site.counters.snapshot()["files_without_marker"] == 0


def test_markers_lie_beside_their_files_in_folders_too(drop: Path) -> None:
    for below in ("x", "y"):
        (drop / below).mkdir()
        put(drop / below / "a.csv")
    (drop / "x" / "a.ctl").write_bytes(b"")
    site = site_of(drop, marker="{stem}.ctl", recursive=True, afterwards="archive")
    assert names(site.drafts()) == ["x/a.csv"]
    site.acknowledge()
    assert left(drop) == ["archive/x/a.csv", "archive/x/a.ctl", "y/a.csv"]


# --- held by a writer


class SharingError(PermissionError):
    """As Windows raises it; elsewhere an OSError has no number of that system."""

    def __init__(self, winerror: int) -> None:
        super().__init__(errno.EACCES, "The process cannot access the file")
        self.winerror = winerror


@pytest.mark.parametrize("winerror", [32, 33])
def test_with_exclusive_a_file_that_a_writer_holds_open_waits(drop: Path, monkeypatch: Any, winerror: int) -> None:
    held = {drop / "a.csv"}

    def alone(path: Path) -> BinaryIO:
        if path in held:
            raise SharingError(winerror)
        return handles.open_shared(path)

    monkeypatch.setattr("crossdock_agent.sources.file_drop.open_alone", alone)
    put(drop / "a.csv")
    put(drop / "b.csv")
    site = site_of(drop, exclusive=True)
    assert names(site.drafts(passes=2)) == ["b.csv"]
    assert site.counters.snapshot()["files_waiting"] == 1
    assert site.counters.snapshot()["files_unreadable"] == 0
    held.clear()
    assert names(site.drafts()) == ["a.csv"]


def test_another_error_of_the_exclusive_open_is_not_taken_for_a_writer() -> None:
    def denied(path: Path) -> BinaryIO:
        raise SharingError(5)  # ERROR_ACCESS_DENIED

    with pytest.raises(PermissionError):
        handles.is_held(Path("a"), denied)
    assert not handles.is_held(Path("a"), None)


def test_check_says_where_exclusive_has_no_meaning(drop: Path) -> None:
    findings = {finding.name: finding for finding in site_of(drop, exclusive=True).source.check()}
    if sys.platform == "win32":
        assert "exclusive" not in findings
    else:
        assert findings["exclusive"].ok
        assert "no meaning on this system" in findings["exclusive"].detail
        assert "settle_seconds" in findings["exclusive"].hint


def test_a_file_locked_in_the_middle_of_reading_goes_on_when_it_is_free(drop: Path, monkeypatch: Any) -> None:
    """Windows locks byte ranges: a read fails then, with a sharing or lock violation."""
    path = drop / "a.csv"
    path.write_bytes(HEADER + b"".join(b"%09d;%s\n" % (i, b"x" * 190) for i in range(5000)))
    site = site_of(drop)
    drafts = []
    with monkeypatch.context() as patch:
        for draft in site.reading():
            if not drafts:
                fstat = os.fstat

                def locked(handle: int, fstat: Any = fstat) -> Any:
                    fstat(handle)
                    raise SharingError(33)

                patch.setattr("crossdock_agent.drops.reading.os.fstat", locked)
            drafts.append(draft)
    assert 0 < len(drafts) < 4
    assert site.counters.snapshot()["files_unreadable"] == 1
    drafts += site.drafts()
    assert sum(draft.header.records for draft in drafts) == 5000
    assert drafts[-1].header.closes


def test_nothing_of_ours_is_open_when_the_last_draft_of_a_file_is_handed_over(drop: Path) -> None:
    import psutil

    (drop / "a.csv").write_bytes(HEADER + b"".join(b"%09d;%s\n" % (i, b"x" * 190) for i in range(5000)))
    site = site_of(drop)
    for draft in site.reading():
        held = [file.path for file in psutil.Process().open_files() if file.path.startswith(str(drop))]
        assert bool(held) != draft.header.closes


# --- only as much looking as is needed


def test_a_file_that_settles_is_opened_when_it_is_new_and_when_its_time_is_up(drop: Path, monkeypatch: Any) -> None:
    opened: list[Path] = []

    def counted(path: Path) -> BinaryIO:
        opened.append(path)
        return path.open("rb", buffering=0)

    monkeypatch.setattr("crossdock_agent.drops.ready.open_shared", counted)
    put(drop / "a.csv")
    site = site_of(drop, settle_seconds=10.0)
    assert site.drafts(passes=9, advance=1.0) == []
    assert len(opened) == 1
    assert names(site.drafts(advance=2.0)) == ["a.csv"]
    assert len(opened) == 2


def test_a_directory_that_takes_long_to_list_is_listed_less_often(drop: Path, monkeypatch: Any) -> None:
    put(drop / "a.csv")
    site = site_of(drop)
    from crossdock_agent.drops.listing import Listing

    list_names = Listing.names
    listed: list[float] = []

    def slow(listing: Listing) -> Any:
        listed.append(site.seconds)
        site.seconds += 2.0
        return list_names(listing)

    monkeypatch.setattr(Listing, "names", slow)
    assert names(site.drafts()) == ["a.csv"]
    put(drop / "b.csv")
    assert site.drafts(passes=19, advance=1.0) == []
    assert names(site.drafts(advance=1.0)) == ["b.csv"]
    assert len(listed) == 2
