"""What a hostile agent's batches do to the workers behind the gateway: they end as dead letters or wait, of its own
site, and another site's records are mapped and delivered meanwhile."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import zstandard
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock import codec
from crossdock.tls import CLIENT_OPTIONS, mutual_credentials, server_only_credentials
from crossdock.v1 import enrollment_pb2, enrollment_pb2_grpc, link_pb2
from crossdock.v1.batch_pb2 import BatchHeader, Column, Origin, Reject
from crossdock_agent import crypto
from crossdock_agent.identity import parse_token
from support.gateway import csr_of, pem, stub, wait_until
from support.processes import Centre

FORMATS = {
    "csv": "{kind: csv, delimiter: ';'}",
    "jsonl": "{kind: jsonl}",
    "xml": "{kind: xml, element: R/a}",
    "json": "{kind: json}",
    "edi": "{kind: edifact}",
}
FIELDS = "{location: BIN, sku: ITEM, on_hand: {from: QTY, as: decimal}}"
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE R [<!ENTITY a "'
    + b"x" * 1000
    + b'">'
    + b"".join(b'<!ENTITY %c "%b">' % (98 + n, b"&%c;" % (97 + n) * 20) for n in range(8))
    + b"]><R>"
)


class Wire:
    """An enrolled agent, played by the test."""

    def __init__(self, centre: Centre, site: str) -> None:
        token = parse_token(centre.json("token", "create", "--site", site, "--agent", site)["token"])
        key = ec.generate_private_key(ec.SECP256R1())
        authority = crypto.pem_of_der(token.ca_der)
        with grpc.secure_channel(token.address, server_only_credentials(authority), CLIENT_OPTIONS) as channel:
            request = enrollment_pb2.EnrollRequest(token=token.secret, csr=csr_of(key), host="h")
            answer = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(request, timeout=60)
        self._credentials = mutual_credentials(answer.ca_bundle, answer.certificate, pem(key))
        self._address = answer.link_address
        self._sent: dict[str, int] = {}

    def send(self, *batches: tuple[str, bytes]) -> list[link_pb2.Ack]:
        """(source, sealed) each, in order."""
        made = []
        for source, sealed in batches:
            self._sent[source] = self._sent.get(source, 0) + 1
            made.append(
                link_pb2.Batch(
                    source=source, epoch=b"e" * 16, sequence=self._sent[source], lane="standard", sealed=sealed,
                    crc32=zlib.crc32(sealed),
                )
            )  # fmt: skip
        with grpc.secure_channel(self._address, self._credentials, CLIENT_OPTIONS) as channel:
            return list(stub(channel).Uplink(iter(made), timeout=60))


def sealed(payload: bytes, **header: Any) -> bytes:
    fields = {"origin": Origin(kind="file", name="f", unit=b"u" * 16), "closes": True} | header
    return codec.Sealer().seal(BatchHeader(**fields), payload).data


def lying(frame: bytes, raw_bytes: int) -> bytes:
    head = BatchHeader(format="csv", records=1, raw_bytes=raw_bytes).SerializeToString()
    return codec.MAGIC + len(head).to_bytes(4, "big") + head + frame


def attacks() -> Iterator[tuple[str, bytes]]:
    """Each is taken by the gateway: its envelope is sound."""
    head = b"BIN;ITEM;QTY\n"
    packing = zstandard.ZstdCompressor(level=3).compressobj(size=2**30)
    bomb = b"".join(packing.compress(bytes(2**24)) for _ in range(64)) + packing.flush()
    yield "csv", lying(bomb, 1000)
    yield "csv", lying(b"\x28\xb5\x2f\xfd\xe0" + (2**45).to_bytes(8, "little") + b"\x01\x00\x00", 1000)
    yield "csv", sealed(b"A;1;1\n", format="csv", records=codec.MAX_RECORDS, prefix=head)
    yield "csv", sealed(b"", format="csv", records=0, prefix=b'"' * 100_000)
    yield "csv", sealed(b"A;1;1\n" * 1000, format="rows", records=1000, columns=[Column(name="BIN", type="rows")] * 500)
    yield "csv", sealed(b'"' + b"x" * 20_000_000, format="csv", records=1, prefix=head)
    yield "csv", sealed(b";" * 3_000_000 + b"\n", format="csv", records=1, prefix=head)
    most = 2**64 - 1
    rejects = [Reject(record=2**63, line=most, offset=most, bytes=most, code="x", reason="\x1b[2J", sample=b"\0")]
    yield "csv", sealed(b"", format="csv", records=0, prefix=head, rejects=rejects)
    yield "csv", sealed(
        b"A;1;1\n", format="csv", records=1, prefix=head,
        origin=Origin(kind="file", name="../../etc/passwd\n", unit=b"u" * 5000, offset=most, first_record=most,
                      first_line=most),
    )  # fmt: skip
    yield "jsonl", sealed(b"[" * 500_000 + b"\n" + b'{"BIN":' * 200_000 + b"\n", format="jsonl", records=2)
    yield "jsonl", sealed(b'{"BIN":"A","ITEM":"1","QTY":' + b"9" * 1_000_000 + b"}\n", format="jsonl", records=1)
    yield "jsonl", sealed(b'{"BIN":"A","ITEM":"1","QTY":1e999999999}\n', format="jsonl", records=1)
    yield "json", sealed(b"{}" * 10, format="json", records=10, record_bytes=[2**32 - 1] * 10)
    yield "xml", sealed(b"<a>&h;</a>", format="xml", records=1, prefix=BOMB, record_bytes=[10])
    yield "xml", sealed(b"<a>" * 300_000, format="xml", records=1, record_bytes=[900_000])
    external = b'<?xml version="1.0"?><!DOCTYPE R [<!ENTITY e SYSTEM "file:///etc/passwd">]><R>'
    yield "xml", sealed(b"<a><BIN>&e;</BIN></a>", format="xml", records=1, prefix=external, record_bytes=[21])
    yield "edi", sealed(b"UNA'''''''''" + b"'" * 500_000, format="edifact", records=1, record_bytes=[500_012])


@pytest.mark.slow
def test_no_batch_of_a_thief_keeps_another_sites_records_from_being_mapped(tmp_path: Path) -> None:
    config = tmp_path / "config"
    for folder in ("sites", "sources", "mappings"):
        (config / folder).mkdir(parents=True)
    for site in ("thief", "honest"):
        (config / "sites" / f"{site}.yaml").write_text(f"site: {site}\nzone: UTC\n", "utf-8")
    for name, form in FORMATS.items():
        text = f"source: {name}\non: {{}}\nkind: file_drop\ndirectory: d\npattern: '*.{name}'\nformat: {form}\n"
        (config / "sources" / f"{name}.yaml").write_text(text, "utf-8")
        if name != "edi":
            mapping = f"mapping: {name}\ndocument: StockLevel\nfields: {FIELDS}\n"
            (config / "mappings" / f"{name}.yaml").write_text(mapping, "utf-8")
    with Centre(tmp_path) as centre:
        centre.run("apply", str(config), "-m", "first")
        thief, honest = Wire(centre, "thief"), Wire(centre, "honest")
        for attack in attacks():
            thief.send(attack)
        good = sealed(b"A;4711;5\n", format="csv", records=1, prefix=b"BIN;ITEM;QTY\n")
        honest.send(("csv", good))

        def account() -> dict[tuple[str, str], dict[str, int]]:
            return {(s["site"], s["source"]): s for s in centre.json("account")["sources"]}

        def mapped() -> bool:
            found = account().get(("honest", "csv"))
            return found is not None and found["unrouted"] == 1

        def decided() -> bool:
            thiefs = [s for (site, source), s in account().items() if site == "thief" and source != "edi"]
            return len(thiefs) == 4 and not any(s["pending"] for s in thiefs)

        wait_until(mapped, "the honest site's record is mapped", 90)
        wait_until(decided, "every record of the thief has its place", 90)
        assert all(s["balanced"] for s in account().values())
        said = centre.run("dead", "list") + json.dumps(centre.json("dead", "list")) + centre.run("status")
        assert "root:x:" not in said  # what an external entity would have read
        assert "\x1b[2J" not in said
        assert "ended unexpectedly" not in centre.process.tail(10_000), centre.process.tail(60)
