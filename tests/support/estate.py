"""A store with two sites of two regions, documents, dead letters and people, for tests of who may see and do what."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.access import Grant
from crossdock_controller.authority import Authority
from crossdock_controller.commands import configuration, dead
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.normalize import Normalizer
from crossdock_controller.operations.carry import Caller
from crossdock_controller.outcomes import Hold
from crossdock_controller.paths import Addresses, DataDirectory, write_addresses
from crossdock_controller.store import agents, connection, deliveries, holds, strangers
from crossdock_controller.store.intake import Incoming, IntakeWriter
from support.pipeline import template

US, EU = "atl1", "rtm1"
TREE = {
    "sites/atl1.yaml": "site: atl1\nlabels: {region: us}\nvariables: {root: drop}\n",
    "sites/rtm1.yaml": "site: rtm1\nlabels: {region: eu}\nvariables: {root: drop}\n",
    "sources/wms.yaml": """source: wms
on: {}
kind: file_drop
directory: ${root}
pattern: "*.csv"
format: {kind: csv, delimiter: ";"}
""",
    "mappings/wms.yaml": """mapping: wms
document: Shipment
each: SHIPMENT_NO
fields:
  number: SHIPMENT_NO
  lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
""",
    "routes/files.yaml": 'when: document == "Shipment"\nto: [files]\n',
    "sinks/files.yaml": "sink: files\nkind: file\ndirectory: out\n",
}


@functools.cache
def _made() -> Path:
    """One estate, built once a test process and copied for each test."""
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    _build(DataDirectory(directory / "data"))
    return directory / "data"


def _build(data: DataDirectory) -> None:
    data.prepare()
    shutil.copyfile(template(), data.state)
    Authority.open(data.authority)
    write_addresses(data, Addresses("127.0.0.1:1", "127.0.0.1:2"))
    configuration.apply_tree(data, TREE, "local:test", "", 1)
    writer = IntakeWriter(data.intake)
    with closing(connection.connect(data.state)) as db:
        for site, letter in ((US, "U"), (EU, "E")):
            agents.record_enrolled(
                db, site, site, host=f"{site}-host", platform="", version="1", expires_us=2**60, now_us=1
            )
            _beat(db, site)
            _send(writer, site, f"{letter}1;A;1", f"{letter}2;A;secret-{site}")
        strangers.note(db, "ghost", "ipv4:10.0.0.9:1", 7)
    normalizer = Normalizer(data, Runtime.from_tree)
    while normalizer.step():
        pass
    normalizer.close()
    writer.close()


class Estate:
    """US has the shipments U1 (sound) and U2 (dead), EU has E1 and E2, each from its agent of the site's name."""

    def __init__(self, root: Path) -> None:
        shutil.copytree(_made(), root)
        self.data = DataDirectory(root)
        self.db = connection.connect(self.data.state)

    def close(self) -> None:
        self.db.close()

    def letter(self, site: str) -> int:
        """The number of the open dead letter of *site*."""
        found = dead.dead_list(self.data, by="local:test", now_us=1)
        return next(letter.id for letter in found if letter.site == site)

    def hold(self, site: str) -> int:
        """The number of the event of *site*, which a rule holds from now on."""
        event, key, sink = self.db.execute(
            "SELECT e.seq, e.key, d.sink_id FROM events e JOIN inputs i ON i.id = e.input_id"
            " JOIN sources s ON s.id = i.source_id JOIN deliveries d ON d.event_seq = e.seq WHERE s.site = ?",
            (site,),
        ).fetchone()
        if holds.find(self.db, event) is None:
            with connection.transaction(self.db):
                deliveries.stop(self.db, sink, [(event, deliveries.chain_of("Shipment", key))])
                holds.add(self.db, [(event, [Hold("not_allowed", "status", f"the secret of {site}")])], 1)
        return int(event)

    def apply(self, tree: dict[str, str]) -> int:
        return configuration.apply_tree(self.data, tree, "local:test", "", 2).revision


def _beat(db: sqlite3.Connection, site: str) -> None:
    now_us = time.time_ns() // 1000
    source = {
        "source": "wms", "state": "running", "records": 2, "batches": 1, "pending_records": 0, "last_read_us": 5,
        "error": f"lost the share of {site}", "hint": "", "counters": {},
    }  # fmt: skip
    health = {"clock_offset_us": 0, "outbox": {"limit_bytes": 100}, "sources": [source], "problems": []}
    agents.record_hello(db, site, host=f"{site}-host", platform="", version="1", revision=1, now_us=now_us)
    agents.record_heartbeat(db, site, json.dumps(health), now_us)


def _send(writer: IntakeWriter, site: str, *lines: str) -> None:
    origin = Origin(kind="file", name=f"{site}.csv", unit=site.encode() * 4, first_record=0, first_line=2)
    header = BatchHeader(
        format="csv", records=len(lines), prefix=b"SHIPMENT_NO;ITEM;QTY\n", origin=origin, closes=True, read_at_us=1
    )
    sealed = Sealer().seal(header, "".join(f"{line}\n" for line in lines).encode())
    batch = Incoming(site, site, "wms", b"e" * 16, 1, "standard", len(lines), b"", sealed.data, sealed.crc32)
    assert [a.state for a in writer.commit([batch], time.time_ns() // 1000)] == ["stored"]


def caller(role: str, *on: str, user: str = "anna") -> Caller:
    """Who has *role* at the sites of each selector."""
    return Caller(user, [Grant(role, selector) for selector in on])  # type: ignore[arg-type] - a test may say any word
