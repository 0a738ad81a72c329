"""What fuzzing begins with: one sound input of each kind. `python -m fuzz.seeds` writes them into the corpus."""

from __future__ import annotations

import base64
import datetime as dt
import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import zstandard

from crossdock import codec, siteconfig
from crossdock.siteconfig import OutboxConfig, Schedule, SiteConfig, SourceConfig
from crossdock.v1 import enrollment_pb2, link_pb2
from crossdock.v1.batch_pb2 import BatchHeader, Origin, Reject
from crossdock_agent import crypto
from crossdock_agent.configuration import LastGood
from crossdock_agent.identity import Identity
from crossdock_controller.authority import Authority
from fuzz.targets import _EXAMPLE, _PARTS

CORPUS = Path(__file__).parent / "corpus"

FILES = {
    "csv": b'NO;SKU;QTY\r\n1;"A;1";5\r\n2;"B ""x""\r\ny";1,5\r\n',
    "jsonl": b'{"NO":"1","a":{"b":[1,2.5,null]}}\n\n{"NO":2}\n',
    "fixed": b"12 ab\r\n34\r\n",
    "lines": "eins\r\nzwei\n".encode("utf-16-le"),
    "json": b'{"a":[{"NO":1,"x":[{"y":"\\u00e4"}]},{"NO":"2"}],"b":0}',
    "xml": b'<?xml version="1.0"?><!DOCTYPE R [<!ENTITY e "x">]>'
    b'<R z="1"><a><NO>1</NO><b c="&lt;">&e;<![CDATA[x]]></b></a><a/></R>',
    "x12": b"ISA*00*          *00*          *ZZ*A              *ZZ*B              *260131*1200*U*00401*000000001*0*P*>~"
    b"GS*PO*A*B*20260131*1200*1*X*004010~ST*850*0001~SE*2*0001~GE*1*1~IEA*1*000000001~",
    "edifact": b"UNA:+.? 'UNB+UNOC:3+S+R+260131:1200+9'UNH+1+ORDERS:D:96A:UN'BGM+220+1+9'UNT+3+1'UNZ+1+9'",
    "binary": b"^XA^FO50,50^FDlabel^FS^XZ",
    "packed": "AB".encode("cp037") + b"\x12\x3c" + "CD".encode("cp037") + b"\x45\x6d",
    "rdw": b"\x00\x07\x00\x00" + "ABC".encode("cp500") + b"\x00\x06\x00\x00" + "DE".encode("cp500"),
}


def seeds() -> Iterator[tuple[str, bytes]]:
    header = BatchHeader(
        format="csv", records=1, prefix=b"NO\n", checkpoint=b"c", closes=True,
        origin=Origin(kind="file", name="a/b", unit=b"u" * 16),
        rejects=[Reject(record=1, code="too_long", reason="r", sample=b"s")],
    )  # fmt: skip
    sealed = codec.Sealer().seal(header, b"1\n")
    yield "sealed", sealed.data
    yield "frame", zstandard.ZstdCompressor(level=1, write_checksum=True).compress(b"1;2\n" * 30)
    envelope = link_pb2.Batch(
        source="wms", epoch=b"e" * 16, sequence=1, lane="bulk", sealed=sealed.data, crc32=sealed.crc32
    )
    yield "batch", envelope.SerializeToString()
    health = link_pb2.SourceHealth(source="wms", state="running", records=1, counters={"skipped": 1}, last_read_us=1)
    beat = link_pb2.Heartbeat(clock_us=1, sources=[health], problems=["p"], oldest_us=1, fills_at_us=9)
    hello = link_pb2.Hello(protocol=1, version="1", instance=b"i", epoch=b"e", capabilities=["config"], host="h")
    for report in (
        link_pb2.Report(heartbeat=beat), link_pb2.Report(hello=hello),
        link_pb2.Report(config=link_pb2.ConfigStatus(revision=1, state="failed", reason="r")),
    ):  # fmt: skip
        yield "report", report.SerializeToString()
    key, csr = crypto.new_key_and_request()
    del key
    yield "csr", csr
    yield "enroll_request", enrollment_pb2.EnrollRequest(token="t", csr=csr, host="h").SerializeToString()
    yield from _of_the_fleet(csr)
    yield "uri", b"spiffe://crossdock/agent/atl1"
    yield from _certificates(csr)
    config = siteconfig.encode(_site())
    yield "site_config", config
    yield "last_good", msgspec.json.encode(LastGood(1, siteconfig.digest(config), config))
    offer = link_pb2.ConfigOffer(revision=1, hash=siteconfig.digest(config), config=config, signature=b"s")
    for directive in (
        link_pb2.Directive(config=offer), link_pb2.Directive(welcome=link_pb2.Welcome(protocol=1, version="1")),
        link_pb2.Directive(certificate=link_pb2.CertificateIssued(certificate=b"-----BEGIN CERTIFICATE-----")),
    ):  # fmt: skip
        yield "directive", directive.SerializeToString()
    yield "signature", b"\x02" + b"si" + config
    yield "identity", msgspec.json.encode(
        Identity(agent="a", site="a", link_address="h:1", certificate=b"c", ca_bundle=b"b", key_file="k", issued_us=1,
                 expires_us=2)
    )  # fmt: skip
    yield "status", b'{"at_us":1,"version":"1","agent":"a","site":"a","problems":[],"sources":[]}'
    for number, part in enumerate(_PARTS):
        text = (_EXAMPLE / part).read_bytes()
        yield "yaml", text
        yield "tree", bytes((number,)) + text
    yield "yaml", b"a: &x [1, 2.5, ~, 'q', \"d\\n\"]\nb: *x\nc: {d: |\n  e\n}\n"
    for text in ('document == "SalesOrder" && doc.total > 10.5', "labels.region in ['us', 'eu'] || !(site == 'x')",
                 'key.startsWith("A") && doc.lines.exists(l, l.sku == "x")'):  # fmt: skip
        yield "condition", text.encode()
    for name, data in FILES.items():
        yield f"file_{name}", data
        yield "guessing", data
    kind = sorted(FILES)
    for name in ("csv", "json", "xml", "x12"):
        head = BatchHeader(format=name, records=2, record_bytes=[9, 9]).SerializeToString()
        yield "hostile_batch", bytes((kind.index(name), len(head))) + head + FILES[name]
    yield "gzip", gzip.compress(b"hello\n" * 9, mtime=0)
    with io.BytesIO() as packed:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("a/b.csv"), b"1;2\n" * 9)
            archive.writestr(zipfile.ZipInfo("../c.csv"), b"x")
        yield "archive", packed.getvalue()


def _certificates(csr: bytes) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority.open(Path(directory) / "a")
        issued = authority.issue_agent(csr, "atl1", dt.timedelta(hours=1), dt.datetime.now(dt.UTC))
        yield "certificate", issued.certificate
        yield "bundle", authority.bundle
        whole = authority.join_token("h:1")[0]
    yield "token", whole.encode()
    body = base64.urlsafe_b64decode(whole.removeprefix("cd1_") + "===")
    yield "token_body", body
    yield "authority_in_token", base64.b64decode(json.loads(body)["c"])


def _of_the_fleet(csr: bytes) -> Iterator[tuple[str, bytes]]:
    begun = b"-----BEGIN CERTIFICATE-----"
    request = enrollment_pb2.ReenrollRequest(certificate=begun, csr=csr, proof=b"p", machine="m")
    yield "reenroll", request.SerializeToString()
    yield "command_result", "ok \x1b[2J \u202e\n".encode()
    yield "operation_body", b'\x00{"site":"atl1","by":"x"}'
    yield "heads_of_audit", b'{"seq":1,"hash":"00","at_us":1,"signature":"3006020101020101"}\n'
    yield "trust", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"
    yield "wrapped_key", b'{"scheme":"credential","data":"AAAA"}'
    yield "candidate", b'{"revision":1,"hash":"00","config":"e30=","hold_seconds":1.0}'
    yield "command", link_pb2.Command(id="12345678", name="try", arguments={"source": "wms"}).SerializeToString()
    yield "oidc_token", b'{"alg":"RS256","kid":"k","typ":"JWT"}'
    yield "oidc_token", b"[" * 3000
    yield "policy", b'remote_commands = ["check"]\nsources = ["wms"]\npayloads = false\n'
    yield "settings_file", b'state = "/x"\nlog_level = "INFO"\nnice = 5\n'
    yield "redaction", b'PWD={a}}b};token: "x"; https://u:p@h/?sig=1 Bearer abcdefgh -----BEGIN PRIVATE KEY-----'


def _site() -> SiteConfig:
    cron = Schedule(cron="*/5 6-22 * * mon-fri")
    wms = SourceConfig(name="wms", kind="file_drop", settings={"directory": "d"}, schedule=cron, quiet=("22:00-06:00",))
    return SiteConfig(site="atl1", revision=1, sources=[wms], outbox=OutboxConfig(), zone="Europe/Berlin")


def main() -> None:
    counts: dict[str, int] = {}
    for name, data in seeds():
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        counts[name] = counts.get(name, 0) + 1
        (folder / f"seed-{counts[name]}").write_bytes(data)


if __name__ == "__main__":
    main()
