"""What every source owes, whatever it reads: every record, once, with the same identity however often it is broken off.

A new kind of source adds a rig to `support.source_rigs` and a line to the fixture below.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crossdock.codec import TARGET_RECORDS
from crossdock.errors import ConfigError, SourceUnavailable
from crossdock_agent.sources.base import Draft
from support.memory import allocated_at_most
from support.source_rigs import (
    AggregateRig,
    BesideRig,
    ChangeLogRig,
    FileRig,
    FileTailRig,
    MarkedRig,
    OutboxRig,
    PackedRig,
    QueryRig,
    Record,
    RowversionRig,
    SnapshotRig,
    SourceRig,
    StructureRig,
    TableRig,
)
from support.source_site import SourceSite

RIGS: dict[str, Callable[[Path], SourceRig]] = {
    "file_drop csv": FileRig,
    "file_drop csv archive": lambda base: FileRig(base, "archive"),
    "file_drop jsonl": lambda base: FileRig(base, "delete", kind="jsonl"),
    "file_drop gzip": lambda base: PackedRig(base, "gzip"),
    "file_drop zip": lambda base: PackedRig(base, "zip", "archive"),
    "file_drop marker move": MarkedRig,
    "sql_table incrementing": TableRig,
    "sql_table timestamp": lambda base: TableRig(base, "timestamp"),
    "sql_table rowversion": RowversionRig,
    "sql_query incrementing": QueryRig,
    "sql_query timestamp": lambda base: QueryRig(base, "timestamp"),
    "sql_query snapshot": lambda base: QueryRig(base, "snapshot"),
    "sql_table aggregate": AggregateRig,
    "sql_table outbox": OutboxRig,
    "sql_table change_log": ChangeLogRig,
    "file_tail csv": FileTailRig,
    "file_tail csv rotated": lambda base: FileTailRig(base, rotates=True, kind="csv", delimiter=";"),
    "file_tail jsonl": lambda base: FileTailRig(base, kind="jsonl"),
    "file_drop json": lambda base: StructureRig(base, "json"),
    "file_drop xml": lambda base: StructureRig(base, "xml"),
    "sql_table snapshot": SnapshotRig,
    "sql_table reconcile": lambda base: BesideRig(base, reconcile={"deletes": True}),
    "sql_table initial load by key": lambda base: BesideRig(base, initial_load="key"),
}


@pytest.fixture(params=list(RIGS))
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> SourceRig:
    return RIGS[request.param](tmp_path)


def site_of(rig: SourceRig) -> SourceSite:
    return SourceSite(rig.kind, rig.settings)


def records_of(rig: SourceRig, drafts: list[Draft]) -> list[Record]:
    return [record for draft in drafts for record in rig.records(draft)]


def test_every_record_comes_once_and_in_order_and_the_next_pass_finds_none(rig: SourceRig) -> None:
    rig.put(12_000)
    rig.put(3)
    site = site_of(rig)
    records = records_of(rig, site.drafts(passes=2))
    assert len(records) == 12_003
    assert len({identity for identity, _ in records}) == 12_003
    contents = [content for _, content in records]
    assert contents == sorted(contents)
    assert not records_of(rig, site.drafts(passes=2, advance=1.0))


def test_each_batch_is_within_the_targets_and_says_where_it_is_from(rig: SourceRig) -> None:
    rig.put(12_000)
    drafts = [draft for draft in site_of(rig).drafts() if draft.header.records]
    assert len(drafts) >= 3
    for draft in drafts:
        header = draft.header
        assert len(rig.records(draft)) == header.records <= TARGET_RECORDS
        assert header.format
        assert header.origin.kind in ("file", "table")
        assert header.origin.name
        assert len(header.checkpoint) < 4096
    assert drafts[-1].header.closes


def test_a_restart_after_any_batch_gives_the_same_records_with_the_same_identities(rig: SourceRig) -> None:
    rig.put(12_000)
    rig.put(2)
    straight = site_of(rig)
    drafts = straight.drafts(passes=2)
    expected = records_of(rig, drafts)
    for broken_after in range(len(drafts)):
        site = site_of(rig)
        before = site.drafts(after=broken_after)
        site.restart()
        assert records_of(rig, before + site.drafts(passes=2)) == expected


def test_a_batch_that_was_not_kept_is_read_again(rig: SourceRig) -> None:
    """A full outbox refuses a draft; the same source is then asked again from the last one it kept."""
    rig.put(12_000)
    site = site_of(rig)
    kept = site.drafts(after=1)
    refused = site.source.read(site.checkpoint)
    lost = next(refused)
    refused.close()  # type: ignore[attr-defined]
    rest = site.drafts(passes=2)
    assert records_of(rig, rest)[: lost.header.records] == rig.records(lost)
    assert len(records_of(rig, kept + rest)) == 12_000


def test_passes_that_each_end_after_one_batch_get_through_all_the_same(rig: SourceRig) -> None:
    """A budget of rows ends them early, in one process; what was acknowledged is released in between."""
    rig.put(12_000)
    rig.put(3)
    expected = records_of(rig, site_of(rig).drafts(passes=2))
    site = site_of(rig)
    found: list[Record] = []
    empty = 0
    while empty < 3:
        drafts = site.drafts(after=1, advance=1.0)
        empty = 0 if drafts else empty + 1
        found += records_of(rig, drafts)
        assert len(found) <= len(expected)
        site.acknowledge()
    assert found == expected


def test_a_pass_of_which_nothing_was_kept_is_made_again(rig: SourceRig) -> None:
    """A disk that is full refuses the commit once the pass has ended; until then the source thought it was through."""
    rig.put(5)
    site = site_of(rig)
    first = site.drafts(passes=2)
    kept = site.checkpoint, dict(site.ledger), list(site.tokens)
    rig.put(5)
    lost = records_of(rig, site.drafts(advance=3.0))
    assert len(lost) == 5
    site.checkpoint, site.ledger, site.tokens = kept
    again = records_of(rig, site.drafts(passes=2, advance=3.0))
    assert again == lost
    rig.put(1)
    later = records_of(rig, site.drafts(passes=2, advance=3.0))
    assert len({identity for identity, _ in records_of(rig, first) + again + later}) == 11


def test_nothing_is_touched_before_the_acknowledgement_and_a_release_may_come_twice(rig: SourceRig) -> None:
    rig.put(100)
    before = rig.state()
    site = site_of(rig)
    site.drafts(passes=3)
    site.restart()
    site.drafts(passes=2)
    assert rig.state() == before
    tokens = list(site.tokens)
    site.acknowledge()
    for token in tokens:
        site.source.release(token)


def test_records_that_come_later_are_found_after_a_restart_too(rig: SourceRig) -> None:
    rig.put(10)
    site = site_of(rig)
    first = site.drafts()
    site.acknowledge()
    site.restart()
    rig.put(10)
    later = site.drafts(passes=2)
    assert len({identity for identity, _ in records_of(rig, first + later)}) == 20


def test_what_cannot_be_reached_is_an_error_and_never_no_data(rig: SourceRig) -> None:
    rig.put(10)
    site = site_of(rig)
    rig.break_off()
    with pytest.raises((SourceUnavailable, ConfigError)) as caught:
        site.drafts()
    assert caught.value.hint
    findings = list(site.source.check())
    assert any(not finding.ok and finding.hint for finding in findings)
    rig.mend()
    assert all(finding.ok for finding in site.source.check())
    assert len(records_of(rig, site.drafts(passes=2))) == 10


def test_awkward_records_are_neither_lost_nor_split(rig: SourceRig) -> None:
    expected = rig.put_hostile()
    site = site_of(rig)
    drafts = site.drafts(passes=2)
    assert sum(len(rig.records(draft)) for draft in drafts) == expected
    assert sum(draft.header.records for draft in drafts) == expected
    assert not any(draft.header.rejects for draft in drafts)


def test_a_large_input_is_read_in_little_memory(rig: SourceRig) -> None:
    large = getattr(rig, "large", 150_000)
    rig.put(large, bytes_each=200)
    site = site_of(rig)
    with allocated_at_most(12 * 1024 * 1024, lambda: sum(map(len, site.ledger.values()))):  # an agent's is on disk
        records = sum(draft.header.records for draft in site.reading())
    assert records == large


def test_a_stop_ends_the_pass_and_the_rest_comes_later(rig: SourceRig) -> None:
    rig.put(12_000)
    site = site_of(rig)
    before = []
    for draft in site.reading():
        before.append(draft)
        site.stop.set()
    assert 1 <= len(before) <= 2
    site.restart()
    assert len(records_of(rig, before + site.drafts(passes=2))) == 12_000


def test_a_trial_shows_the_first_records_and_leaves_no_trace(rig: SourceRig) -> None:
    from crossdock.siteconfig import SourceConfig
    from crossdock_agent import trial, trial_text

    rig.put(30)
    rig.put_hostile()
    before = rig.state()
    config = SourceConfig(name="x", kind=rig.kind, settings=rig.settings)
    found = trial.attempt(config, lambda text: text, lambda: 1_717_243_200_000_000, records=10, seconds=60)
    lines = list(trial_text.of_trial(found, config.settings))
    assert found.records >= 10
    assert 1 <= len(found.rows) <= 10
    assert found.checkpoint is not None
    assert all(line.isprintable() for line in lines)
    assert rig.state() == before
