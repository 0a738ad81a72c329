"""Many files: small checkpoints, few open files, cheap looks, fair turns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from crossdock_agent.drops.listing import Listing
from crossdock_agent.tails import opening
from support.log_site import HEADER, LogSite, lines, records, units


@pytest.fixture
def logs(tmp_path: Path) -> LogSite:
    return LogSite(tmp_path)


def test_three_hundred_growing_files_keep_a_small_checkpoint_and_one_open_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="till*.log")
    held, most = 0, 0
    real = opening.open_shared

    def counted(path: Path) -> Any:
        nonlocal held, most
        file = real(path)
        held, most = held + 1, max(most, held + 1)
        close = file.close

        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                nonlocal held
                held -= 1
                close()

        return Counted()

    monkeypatch.setattr(opening, "open_shared", counted)
    for turn in range(3):
        for i in range(300):
            logs.write(b"%d;%d\n" % (turn, i), f"till{i:03d}a.log")
        logs.read()
        logs.restart()
    assert len(records(logs.seen)) == len(set(records(logs.seen))) == 900
    assert len(units(logs.seen)) == 300
    assert max(len(draft.header.checkpoint) for draft in logs.seen) < 4096
    assert (held, most) == (0, 1)
    assert logs.counter("files_open") == 300


def test_after_the_ledger_was_lost_the_same_records_have_the_same_identities(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="till*.log")
    for i in range(60):
        logs.write(b"1;%d\n" % i, f"till{i:03d}a.log")
    logs.read()
    logs.site.ledger.clear()
    logs.restart()
    for i in range(60):
        logs.write(b"2;%d\n" % i, f"till{i:03d}a.log")
    again = logs.read()
    assert len(records(again)) < 120, "those in the checkpoint go on"
    assert len(set(records(logs.seen))) == 120
    for _ in range(2):
        logs.restart()
        assert logs.read() == []


def test_a_folder_of_old_logs_costs_nothing_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = LogSite(tmp_path, pattern="x*.log", start="end")
    for i in range(600):
        logs.path(f"x-2020{i:06d}.log").write_bytes(b"")
        logs.path(f"x-2020{i:06d}.log").write_bytes(HEADER + b"%d;old\n" % i)
    logs.read()
    logs.write(b"1;a\n", "x-now.log")
    logs.read(passes=3, advance=1)
    listings, opens = 0, 0
    real_files, real_open = Listing.files, opening.open_shared

    def files(self: Listing) -> Any:
        nonlocal listings
        listings += 1
        return real_files(self)

    def opened(path: Path) -> Any:
        nonlocal opens
        opens += 1
        return real_open(path)

    monkeypatch.setattr(Listing, "files", files)
    monkeypatch.setattr(opening, "open_shared", opened)
    logs.read(passes=8, advance=1)
    assert listings <= 1
    assert opens == 0
    logs.write(b"2;b\n", "x-now.log")
    logs.read(passes=1)
    assert lines(logs.seen) == [b"1;a", b"2;b"]
    assert listings <= 1
    assert opens <= 2
    logs.restart()
    logs.write(b"3;c\n", "x-2020000007.log")
    logs.read()
    assert lines(logs.seen)[-1] == b"3;c"


def test_a_change_that_the_directorys_time_does_not_show_is_seen_soon(tmp_path: Path) -> None:
    """Its clock is coarse, and that of some shares stands still."""
    logs = LogSite(tmp_path, pattern="*.log")
    logs.write(b"1;a\n", "a.log")
    logs.read()
    for n, name in enumerate(("b.log", "c.log")):
        before = logs.directory.stat().st_mtime_ns
        logs.write(b"2;%d\n" % n, name)
        os.utime(logs.directory, ns=(before, before))
        assert len(lines(logs.read(passes=1, advance=2.5 if n == 0 else 11))) == 1
        logs.read(passes=4, advance=2)


def test_files_take_turns_and_one_that_grows_all_the_time_starves_none(tmp_path: Path) -> None:
    logs = LogSite(tmp_path, pattern="*.log", turn_bytes=1024 * 1024)
    big = b"".join(b"%08d;%s\n" % (i, b"x" * 90) for i in range(30_000))
    logs.write(big, "a.log")
    logs.write(b"1;b\n", "b.log")
    order = []
    behind = 0
    for draft in logs.site.reading():
        behind = max(behind, logs.counter("bytes_behind"))
        order.append(draft.header.origin.name)
        if draft.header.origin.name == "a.log":
            logs.write(big[:1_000_000], "a.log")
        assert len(order) < 100
    assert "b.log" in order[:8]
    assert order[-1] == "a.log"
    assert behind > 2_900_000


def test_several_files_come_by_name_or_by_time(tmp_path: Path) -> None:
    for order, expected in (("name", ["a.log", "b.log"]), ("time", ["b.log", "a.log"])):
        base = tmp_path / order
        base.mkdir()
        logs = LogSite(base, pattern="*.log", order=order)
        logs.write(b"1;a\n", "a.log")
        logs.write(b"2;b\n", "b.log")
        os.utime(logs.path("b.log"), ns=(10**18, 10**18))
        assert [draft.header.origin.name for draft in logs.read()] == expected
