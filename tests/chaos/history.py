"""What became of a record that does not balance: every place in which it can be found, and what happened meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime

from chaos.ledger import Findings, Record
from chaos.plant import Plant
from crossdock.codec import open_sealed
from crossdock_controller.store.intake import IntakeReader

RECORDS = 6
AROUND_SECONDS = 5.0


def explain(plant: Plant, findings: Findings, say: Callable[[str], None]) -> None:
    """Say every finding, and the history of its first records; the same goes to findings.log in the run's directory."""
    lines = list(findings.sentences)
    batches = list(_batches(plant)) if findings.records else []
    for record in sorted(findings.records)[:RECORDS]:
        lines += ["", f"record {record}", *(f"  {line}" for line in _history(plant, record, batches))]
    (plant.directory / "findings.log").write_text("\n".join(lines) + "\n", "utf-8")
    for line in lines:
        say(line)


def _history(plant: Plant, record: Record, batches: list[tuple[str, bytes]]) -> Iterator[str]:
    given = plant.ledger.given.get(record)
    if given is None:
        yield "was never given"
    else:
        yield f"given at {given.at:.2f} s by {given.site}/{given.source}, {given.where}"
    held = [name for name, payload in batches if _mentions(payload, record)]
    yield from (f"in the intake: {name}" for name in held)
    if not held:
        yield "in no batch of the intake"
    yield from _events(plant, record)
    ignored = Findings()
    for sink, got in (
        ("rows", plant.sql.got(ignored)), ("files", plant.files.got()), ("web", plant.web.got(ignored)),
    ):  # fmt: skip
        found = [(n, g.event_id) for n, g in enumerate(got, 1) if g.record == record]
        yield f"sink {sink}: " + (", ".join(f"arrival {n} as {event}" for n, event in found) or "not there")
    if given is not None:
        yield "meanwhile:"
        yield from (f"  {at:.2f} {text}" for at, text in plant.notes if abs(at - given.at) < AROUND_SECONDS)


def _batches(plant: Plant) -> Iterator[tuple[str, bytes]]:
    """(what it is, its payload) of every batch of the intake."""
    with closing(IntakeReader(plant.centre.data / "intake.db")) as reader:
        for stream in reader.streams():
            for batch in reader.batches(stream.id, 1, 100_000):
                at = datetime.fromtimestamp(batch.received_us / 1e6, UTC)
                header, payload = open_sealed(batch.sealed)
                origin = header.origin
                name = (
                    f"{stream.agent}/{stream.source} epoch {stream.epoch.hex()[:8]} batch {batch.sequence} of "
                    f"{origin.name}, records from {origin.first_record}, received {at:%H:%M:%S.%f}"
                )
                yield name, payload


def _mentions(payload: bytes, record: Record) -> bool:
    key, version = record.key.encode(), str(record.version).encode()
    forms = (b"%s;%s\n" % (key, version), b'"%s", "qty": "%s"' % (key, version))
    return any(form in payload for form in forms) or _in_row(payload, key, version)


def _in_row(payload: bytes, key: bytes, version: bytes) -> bool:
    """In a msgpack array: a short text is its length in a byte, then its bytes."""
    text = b"%c%s" % (0xA0 | len(version), version)
    return key + text in payload or text + b"%c%s" % (0xA0 | len(key), key) in payload


def _events(plant: Plant, record: Record) -> Iterator[str]:
    query = """
        SELECT e.seq, hex(e.id), substr(b.data, e.body_start + 1, e.body_length), i.sequence, hex(i.epoch), e.record
        FROM events e JOIN bodies b ON b.id = e.body_id JOIN inputs i ON i.id = e.input_id
        WHERE e.key LIKE '%' || ? ORDER BY e.seq"""
    wanted = f'"value":"{record.version}"'.encode()
    try:
        with closing(sqlite3.connect(plant.centre.data / "state.db", timeout=30)) as db:
            for seq, event, body, batch, epoch, number in db.execute(query, (record.key,)):
                if wanted in bytes(body):
                    states = db.execute(
                        "SELECT s.name, d.state, d.attempt FROM deliveries d JOIN sinks s ON s.id = d.sink_id"
                        " WHERE d.event_seq = ?", (seq,),
                    ).fetchall()  # fmt: skip
                    yield f"event {seq} {event}, record {number} of batch {batch} of epoch {epoch[:8]}; {states}"
    except sqlite3.Error as error:
        yield f"state.db cannot be asked: {error}"
