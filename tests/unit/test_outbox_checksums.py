"""A bit that flips inside a value is seen: SQLite's own check looks at pages and not at what stands in them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from crossdock.siteconfig import OutboxConfig
from crossdock_agent.outbox import Append, Outbox

ROOMY = OutboxConfig(min_free_disk_bytes=0)
CHECKPOINT = b'{"id": 1000, "unit": "orders"}'


def filled(directory: Path) -> Path:
    """An outbox with one batch of the source `wms-orders`, closed as a whole file."""
    path = directory / "outbox.db"
    with Outbox(path, ROOMY) as outbox:
        writer = outbox.writer("wms-orders")
        writer.append(
            Append(
                source="wms-orders", lane="critical", sealed=b"x", crc32=0x8CDC1683, records=1, raw_bytes=1,
                read_at_us=1, checkpoint=CHECKPOINT,
            )
        )  # fmt: skip
        writer.flush()
    return path


def reopened(path: Path) -> tuple[str, bytes | None]:
    """(why it was set aside, else empty; the checkpoint)"""
    with Outbox(path, ROOMY) as outbox:
        return outbox.quarantined.reason if outbox.quarantined else "", outbox.checkpoint("wms-orders")


def test_a_sound_outbox_is_not_set_aside(tmp_path: Path) -> None:
    assert reopened(filled(tmp_path)) == ("", CHECKPOINT)


@pytest.mark.parametrize("value", [CHECKPOINT, b"wms-orders", b"critical"])
def test_a_flipped_bit_in_what_says_where_a_source_reads_on_sets_the_outbox_aside(tmp_path: Path, value: bytes) -> None:
    whole = filled(tmp_path).read_bytes()
    assert value in whole
    for place in range(0, len(value), 3):
        flipped = bytes([*value[:place], value[place] ^ (1 << place % 7), *value[place + 1 :]])
        path = tmp_path / f"{place}" / "outbox.db"
        path.parent.mkdir()
        path.write_bytes(whole.replace(value, flipped))
        reason, checkpoint = reopened(path)
        assert reason, f"read on from {checkpoint!r} with {flipped!r} in the place of {value!r}"
        assert checkpoint is None


def test_a_source_written_by_the_schema_before_has_no_checksum_and_is_taken_as_it_is(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE sources SET crc32 = NULL")
        db.commit()
    assert reopened(path) == ("", CHECKPOINT)
