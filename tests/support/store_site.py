"""A controller's data directory with something in it, made without processes."""

from __future__ import annotations

import os
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

from crossdock_controller.authority import Authority
from crossdock_controller.paths import Addresses, DataDirectory, write_addresses
from crossdock_controller.store import agents, connection, migrate, tokens
from crossdock_controller.store.intake import Incoming, IntakeWriter

EPOCH = b"e" * 16


def incoming(sequence: int, source: str = "wms", size: int = 2000) -> Incoming:
    sealed = os.urandom(size)
    return Incoming(
        "atl1", "atl1", source, EPOCH, sequence, "standard", 3, b"at %d" % sequence, sealed, zlib.crc32(sealed)
    )


def made(root: Path, batches: int = 20, normalized: int = 12) -> DataDirectory:
    """A store of agents atl1 and rtm1, with some batches of which the first are normalized."""
    data = DataDirectory(root)
    data.prepare()
    migrate(data.state)
    Authority.open(data.authority)
    write_addresses(data, Addresses("127.0.0.1:7443", "127.0.0.1:7444"))
    writer = IntakeWriter(data.intake)
    writer.commit([incoming(i) for i in range(1, batches + 1)], 1_000_000)
    writer.close()
    with closing(connection.connect(data.state)) as db:
        for agent in ("atl1", "rtm1"):
            enrol(db, agent)
        tokens.create(db, tokens.Token("hash", "ldn1", "ldn1", 1, 1, 2**60, 1, False, "", 0))
        db.execute("INSERT INTO sources(id, site, agent, source) VALUES(1, 'atl1', 'atl1', 'wms')")
        normalize(db, normalized)
    return data


def enrol(db: sqlite3.Connection, agent: str) -> None:
    agents.record_enrolled(db, agent, agent, host="h", platform="p", version="1", expires_us=9, now_us=1)


def normalize(db: sqlite3.Connection, sequence: int, events: int = 1) -> None:
    """The checkpoint moves to after *sequence*, with some events, in one transaction."""
    with connection.transaction(db):
        db.execute(
            "INSERT INTO normalizer_checkpoints(stream_id, source_id, sequence, record) VALUES(1, 1, ?, 0)"
            " ON CONFLICT(stream_id) DO UPDATE SET sequence = excluded.sequence",
            (sequence + 1,),
        )
        for _ in range(events):
            db.execute(
                "INSERT INTO events(id, document, key, input_id, record, line, records, body_id, body_start,"
                " body_length) VALUES(?, 'SalesOrder', 'k', 1, 0, 1, 1, 1, 0, 1)",
                (os.urandom(16),),
            )
