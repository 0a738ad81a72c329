"""A whole fleet against one real controller: enrolment over the wire, a tree of as many sites, what became of all."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import grpc.aio
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.tls import CLIENT_OPTIONS, server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc
from crossdock_controller.authority import Authority
from crossdock_controller.paths import DataDirectory, read_addresses
from crossdock_controller.store import connection, tokens
from support.fleet_agents import SOURCE, SimulatedAgent, Tally
from support.gateway import Identity, csr_of, pem
from support.processes import Centre

ENROLLING = 4  # at once, on one connection: the enrollment port grants it 8 streams

_SOURCE = f"""source: {SOURCE}
on: {{}}
kind: file_drop
lane: standard
directory: /var/wms/out
pattern: "stock*.csv"
format: {{kind: csv, delimiter: ";"}}
"""
_MAPPING = f"""mapping: {SOURCE}
document: StockLevel
fields:
  location: LOC
  sku: SKU
  on_hand: {{from: QTY, as: decimal, decimal: ","}}
"""
_SINK = """sink: warehouse
kind: sql
url: sqlite:///{database}
create_tables: true
tables:
  StockLevel:
    table: stock
    key: [location, sku]
    columns: {{location: location, sku: sku, on_hand: on_hand, sequence: $sequence}}
"""


def names(count: int) -> list[str]:
    return [f"site{number:04}" for number in range(1, count + 1)]


def write_tree(root: Path, count: int, database: Path) -> Path:
    """One site an agent, one source at all of them, mapped, routed to one SQLite sink."""
    files = {f"sites/{name}.yaml": f"site: {name}\nlabels: {{}}\n" for name in names(count)}
    files |= {
        f"sources/{SOURCE}.yaml": _SOURCE,
        f"mappings/{SOURCE}.yaml": _MAPPING,
        "routes/all.yaml": 'when: document == "StockLevel"\nto: [warehouse]\n',
        "sinks/warehouse.yaml": _SINK.format(database=database.as_posix()),
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


async def enrol(centre: Centre, count: int, tally: Tally) -> list[SimulatedAgent]:
    """*count* agents, each with a key of its own, through the real Enroll RPC; only their tokens are made in bulk."""
    data = DataDirectory(centre.data)
    addresses = read_addresses(data)
    authority = Authority.open(data.authority)
    tokens = _tokens(data, authority, addresses.enrollment, names(count))
    gate = asyncio.Semaphore(ENROLLING)
    credentials = server_only_credentials(authority.bundle)
    async with grpc.aio.secure_channel(addresses.enrollment, credentials, options=CLIENT_OPTIONS) as channel:
        stub = enrollment_pb2_grpc.EnrollmentStub(channel)  # type: ignore[no-untyped-call]

        async def one(name: str, token: str) -> SimulatedAgent:
            async with gate:
                key = ec.generate_private_key(ec.SECP256R1())
                request = enrollment_pb2.EnrollRequest(
                    token=token, csr=csr_of(key), host=f"wms-{name}", platform="simulated", version="1"
                )
                answer = await stub.Enroll(request, timeout=120)
            identity = Identity(pem(key), answer.certificate, answer.ca_bundle)
            return SimulatedAgent(name, identity, answer.link_address, tally)

        return await asyncio.gather(*(one(name, token) for name, token in tokens.items()))


def _tokens(data: DataDirectory, authority: Authority, address: str, wanted: list[str]) -> dict[str, str]:
    """{agent: the secret of its join token}."""
    made: dict[str, str] = {}
    now_us = time.time_ns() // 1000
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        for name in wanted:
            token, digest = authority.join_token(address)
            tokens.create(db, tokens.Token(digest, name, name, 1, 1, now_us + 3_600_000_000, now_us, False, "", 0))
            made[name] = json.loads(base64.urlsafe_b64decode(token.removeprefix("cd1_") + "==="))["t"]
    return made


def arrived(database: Path) -> tuple[int, int]:
    """(rows, different keys) in the sink."""
    if not database.exists():
        return 0, 0
    with closing(sqlite3.connect(database)) as db:
        try:
            rows, keys = db.execute("SELECT count(*), count(DISTINCT sku) FROM stock").fetchone()
        except sqlite3.OperationalError:  # the table is not there yet
            return 0, 0
    return rows, keys


def intake(centre: Centre) -> tuple[int, int]:
    """(batches, records) that the intake holds."""
    with closing(sqlite3.connect(centre.data / "intake.db")) as db:
        batches, records = db.execute("SELECT count(*), coalesce(sum(records), 0) FROM batches").fetchone()
    return batches, records
