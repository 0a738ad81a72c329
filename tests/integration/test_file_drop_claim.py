"""Two agents at one directory: each file is read by one of them, and an agent that dies keeps what it claimed."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from crossdock_agent.drops.claims import Claims
from crossdock_agent.drops.listing import look
from crossdock_agent.sources.base import Draft
from support.source_site import SourceSite

HEADER = b"NO;TEXT\n"


@pytest.fixture
def drop(tmp_path: Path) -> Path:
    directory = tmp_path / "drop"
    directory.mkdir()
    return directory


def site_of(directory: Path, host: str, monkeypatch: Any, **settings: Any) -> SourceSite:
    monkeypatch.setattr("crossdock_agent.drops.claims.platform.node", lambda: host)
    values = {"directory": str(directory), "settle_seconds": 0, "format": {"kind": "csv"}, "claim": True}
    return SourceSite("file_drop", {**values, "afterwards": "archive", **settings})


def put(path: Path, text: str = "") -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(HEADER + (text or path.name).encode() + b";x\n")


def names(drafts: list[Draft]) -> list[str]:
    return [draft.header.origin.name for draft in drafts]


def left(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_two_agents_at_one_directory_share_its_files_and_none_is_read_twice(drop: Path, monkeypatch: Any) -> None:
    for i in range(200):
        put(drop / f"{i:03}.csv")
    sites = [site_of(drop, host, monkeypatch, recursive=True) for host in ("one", "two")]
    together, seen = threading.Barrier(2), Counter[str]()

    def run(site: SourceSite) -> None:
        together.wait()
        for draft in site.reading():
            seen[draft.header.origin.name] += 1
        site.acknowledge()

    threads = [threading.Thread(target=run, args=(site,)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == Counter({f"{i:03}.csv": 1 for i in range(200)})
    assert left(drop) == [f"archive/{i:03}.csv" for i in range(200)]


def test_a_claimed_file_is_read_on_after_a_crash_and_by_nobody_else(drop: Path, monkeypatch: Any) -> None:
    (drop / "a.csv").write_bytes(HEADER + b"".join(b"%09d;%s\n" % (i, b"x" * 190) for i in range(5000)))
    one, two = (site_of(drop, host, monkeypatch) for host in ("one", "two"))
    before = one.drafts(after=1)
    monkeypatch.setattr("crossdock_agent.drops.claims.platform.node", lambda: "one")
    one.restart()
    assert two.drafts(passes=2) == []
    drafts = before + one.drafts()
    assert sum(draft.header.records for draft in drafts) == 5000
    assert drafts[-1].header.closes
    assert two.drafts() == []
    one.acknowledge()
    assert left(drop) == ["archive/a.csv"]


def test_a_crash_after_the_claim_and_before_the_first_batch_loses_nothing(drop: Path, monkeypatch: Any) -> None:
    put(drop / "a.csv")
    one = site_of(drop, "one", monkeypatch, settle_seconds=2.0)
    one.drafts()
    one.seconds += 2.0
    reading = one.source.read(one.checkpoint)
    next(reading)  # claimed; the draft is never committed
    reading.close()  # type: ignore[attr-defined]
    assert left(drop) == [".crossdock-claimed-one-drop/a.csv"]
    one.restart()
    assert names(one.drafts(passes=3, advance=2.0)) == ["a.csv"]


def test_the_next_file_of_a_name_waits_until_the_first_is_released(drop: Path, monkeypatch: Any) -> None:
    put(drop / "in" / "a.csv")
    one = site_of(drop, "one", monkeypatch, recursive=True, afterwards="delete")
    assert names(one.drafts()) == ["in/a.csv"]
    put(drop / "in" / "a.csv", "the next")
    assert one.drafts(passes=2) == []
    one.acknowledge()
    assert names(one.drafts()) == ["in/a.csv"]
    one.acknowledge()
    assert left(drop) == []


def test_a_file_that_waits_behind_an_unreadable_archive_of_its_name_is_counted(drop: Path, monkeypatch: Any) -> None:
    site = site_of(drop, "one", monkeypatch, afterwards="delete", unpack="gzip")
    put(drop / "a.gz")
    (draft,) = site.drafts()
    assert draft.header.rejects
    site.acknowledge()
    assert left(drop) == [".crossdock-claimed-one-drop/a.gz"]  # it is not deleted unread
    put(drop / "a.gz", "another")
    assert site.drafts() == []
    assert site.counters.snapshot()["files_waiting"] == 1


def test_a_file_that_changed_on_its_way_into_the_claim_is_looked_at_again(drop: Path, monkeypatch: Any) -> None:
    put(drop / "a.csv")
    one = site_of(drop, "one", monkeypatch)
    find = one.source._listing.find  # type: ignore[attr-defined]

    def then_append(name: str) -> Any:
        found = find(name)
        with (drop / "a.csv").open("ab") as file:
            file.write(b"more;x\n")
        return found

    monkeypatch.setattr(one.source._listing, "find", then_append)  # type: ignore[attr-defined]
    assert one.drafts() == []
    monkeypatch.undo()
    (draft,) = one.drafts()
    assert draft.header.records == 2


def test_a_machine_with_a_strange_name_still_has_one_directory(tmp_path: Path) -> None:
    assert Claims(tmp_path, "wms", "host/../x").directory == tmp_path / ".crossdock-claimed-host_.._x-wms"


def test_a_claim_never_overwrites_what_was_claimed_before(drop: Path) -> None:
    claims = Claims(drop, "wms", "one")
    listing = claims._listing
    for text in ("first", "second"):
        put(drop / "a.csv", text)
        found = look("a.csv", str(drop / "a.csv"))
        assert found is not None
        assert (claims.claim(found) is None) == (text == "second")
    assert (drop / "a.csv").exists()
    (name,) = listing.names().files
    assert b"first" in Path(listing.location(name)).read_bytes()
