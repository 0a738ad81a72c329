"""The readers under fire. A target takes any bytes; it returns, or raises one of OWN, or it has a bug.

Whoever adds a reader of bytes from another machine, or from a file that a person edits, adds a function here.
"""

from __future__ import annotations

import base64
import io
import json
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from google.protobuf.message import DecodeError

from crossdock import codec, sitecommands, siteconfig
from crossdock import redaction as redacting
from crossdock.errors import CrossdockError
from crossdock.tls import agent_of
from crossdock.v1 import enrollment_pb2, link_pb2
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock.wire import common, misfit
from crossdock.yamlfile import parse
from crossdock_agent import crypto
from crossdock_agent.candidate import read_candidate
from crossdock_agent.configuration import read_last_good
from crossdock_agent.drops import zipped
from crossdock_agent.drops.gunzip import Gunzip
from crossdock_agent.framing import Format, Framer, format_name
from crossdock_agent.guessing.files import guess
from crossdock_agent.identity import IdentityStore, parse_token
from crossdock_agent.keystore import scheme_of
from crossdock_agent.policy import read as read_policy
from crossdock_agent.settings import load as load_settings
from crossdock_agent.status import read_status
from crossdock_controller import heads
from crossdock_controller.api.oidc import Issuer, Untrusted
from crossdock_controller.apisettings import OidcSettings
from crossdock_controller.authority import Authority, public_key_of, token_hash
from crossdock_controller.cli import words
from crossdock_controller.commands.fleet import judged
from crossdock_controller.config.load import inspect
from crossdock_controller.fleet import health_of
from crossdock_controller.formats.base import kinds
from crossdock_controller.gateway import _fault_of
from crossdock_controller.mappings.engine import Engine
from crossdock_controller.mappings.expressions import parse as parse_expression
from crossdock_controller.mappings.model import Mapping
from crossdock_controller.operations import carry, table
from crossdock_controller.reenrolling import judge
from crossdock_controller.reports import fault_of
from crossdock_controller.store.agents import AgentRow
from support.mapping import engine

OWN: tuple[type[Exception], ...] = (CrossdockError, DecodeError)

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}


def target(function: Target) -> Target:
    TARGETS[function.__name__] = function
    return function


def run(name: str, data: bytes) -> None:
    """One input for target *name*. Raises what must not come out."""
    try:
        TARGETS[name](data)
    except OWN:
        return


# --- what the gateway reads


@target
def batch(data: bytes) -> None:
    """An envelope as it comes from the wire, up to what the normalizer opens."""
    message = link_pb2.Batch.FromString(data)
    if _fault_of(message) is None:
        codec.verify(message.sealed, zlib.crc32(message.sealed))
        codec.open_header(message.sealed)
        codec.open_sealed(message.sealed)


@target
def sealed(data: bytes) -> None:
    codec.open_sealed(data if data[:1] == b"C" else codec.MAGIC + len(data).to_bytes(4, "big")[1:] + data)


@target
def frame(data: bytes) -> None:
    """A zstd frame of a stranger under a header of ours."""
    head = BatchHeader(format="csv", records=1, raw_bytes=len(data)).SerializeToString()
    codec.open_sealed(codec.MAGIC + len(head).to_bytes(4, "big") + head + data)


@target
def report(data: bytes) -> None:
    """A report, stored and then shown to an operator."""
    message = link_pb2.Report.FromString(data)
    if fault_of(message):
        return
    if message.WhichOneof("kind") == "heartbeat":
        now_us = 1_800_000_000_000_000
        health = msgspec.json.encode(health_of(message.heartbeat, now_us)).decode()
        row = AgentRow("a", "a", "active", 1, "h", "p", "v", now_us, True, 1, 1, "applied", "", health, now_us)
        for view in judged([row], now_us):
            words.ago(view.outbox.oldest_us, now_us)
            words.ahead(view.outbox.fills_at_us, now_us)
            for source in view.sources:
                words.ago(source.last_read_us, now_us)
    elif message.WhichOneof("kind") == "hello":
        common(message.hello.capabilities)
        misfit("this controller", "agent", message.hello.protocol, message.hello.version)


@target
def enroll_request(data: bytes) -> None:
    message = enrollment_pb2.EnrollRequest.FromString(data)
    token_hash(message.token)
    public_key_of(message.csr)


@target
def csr(data: bytes) -> None:
    public_key_of(data)


@target
def reenroll(data: bytes) -> None:
    """Nobody is known yet who sends this."""
    request = enrollment_pb2.ReenrollRequest.FromString(data)
    judge(_authority(), request, 1_800_000_000_000_000, 10**15)


@target
def command_result(data: bytes) -> None:
    """What an agent answers to a command, and what an operator is shown of it."""
    from crossdock_controller.cli.screen import harmless

    shown = harmless(data.decode("utf-8", "replace"))
    assert not any((c < " " and c != "\n") or "\x7f" <= c < "\xa0" for c in shown)


@target
def operation_body(data: bytes) -> None:
    """A body of the admin API; the first byte says of which operation."""
    if data:
        carry.arguments_of(table.OPERATIONS[data[0] % len(table.OPERATIONS)], data[1:])


@target
def oidc_token(data: bytes) -> None:
    """What anybody may put behind "Bearer": its header and claims, in the form of a signed token; and as it stands."""
    parts = [base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (data, data, b"signature")]
    for token_ in (".".join(parts), data.decode("latin-1")):
        try:
            _issuer().verified(token_, 1_800_000_000.0)
        except Untrusted:
            continue


@target
def heads_of_audit(data: bytes) -> None:
    path = _folder() / "audit-heads.log"
    path.write_bytes(data)
    heads.genuine(heads.read(path), _ca())


@target
def uri(data: bytes) -> None:
    agent = agent_of(data.decode("utf-8", "replace"))
    assert agent is None or ("/" not in agent and "\0" not in agent)


# --- what the agent reads


@target
def directive(data: bytes) -> None:
    message = link_pb2.Directive.FromString(data)
    kind = message.WhichOneof("kind")
    if kind == "config":
        siteconfig.digest(message.config.config)
        siteconfig.decode(message.config.config)
    elif kind == "certificate":
        crypto.certificate_facts(message.certificate.certificate, _key())
    elif kind == "welcome":
        misfit("this agent", "the controller", message.welcome.protocol, message.welcome.version)


@target
def site_config(data: bytes) -> None:
    siteconfig.encode(siteconfig.decode(data))


@target
def certificate(data: bytes) -> None:
    crypto.certificate_facts(data, _key())


@target
def authority_in_token(data: bytes) -> None:
    crypto.pem_of_der(data)


@target
def signature(data: bytes) -> None:
    """The first byte says how much of it is the signature."""
    length = data[0] if data else 0
    crypto.verify_config(data[1 + length :], data[1 : 1 + length], _ca())


@target
def bundle(data: bytes) -> None:
    crypto.verify_config(b"config", b"signature", data)


@target
def token(data: bytes) -> None:
    parse_token(data.decode("utf-8", "surrogateescape"))
    parse_token("cd1_" + data.decode("latin-1"))


@target
def token_body(data: bytes) -> None:
    parse_token("cd1_" + base64.urlsafe_b64encode(data).decode())


@target
def trust(data: bytes) -> None:
    crypto.check_authorities(data)


@target
def wrapped_key(data: bytes) -> None:
    scheme_of(data, Path("key.pem"))
    crypto.unwrap_key(data, b"s" * 32)


@target
def candidate(data: bytes) -> None:
    (_folder() / "candidate.json").write_bytes(data)
    read_candidate(_folder())


@target
def command(data: bytes) -> None:
    """A command of the centre."""
    found = link_pb2.Command.FromString(data)
    sitecommands.fault_of(found.name, found.arguments)


@target
def policy(data: bytes) -> None:
    path = _folder() / "policy.toml"
    path.write_bytes(data)
    read_policy(path)


@target
def settings_file(data: bytes) -> None:
    for suffix in (".toml", ".json"):
        path = _folder() / f"agent{suffix}"
        path.write_bytes(data)
        load_settings(file=path)


@target
def redaction(data: bytes) -> None:
    """Whatever a log line holds: it must end, and what was learned must not be in it."""
    known = redacting.Redactor()
    known.learn("Canary-7f3a")
    assert "Canary-7f3a" not in known.clean(data.decode("utf-8", "replace") + " Canary-7f3a")


@target
def identity(data: bytes) -> None:
    folder = _folder() / "identity"
    folder.mkdir(exist_ok=True)
    (folder / "identity.json").write_bytes(data)
    IdentityStore(_folder()).current()


@target
def last_good(data: bytes) -> None:
    path = _folder() / "last-good.json"
    path.write_bytes(data)
    kept = read_last_good(path)
    if kept is not None:
        siteconfig.decode(kept.config)


@target
def status(data: bytes) -> None:
    path = _folder() / "status.json"
    path.write_bytes(data)
    read_status(path)


# --- what a person writes


@target
def yaml(data: bytes) -> None:
    found = parse("x.yaml", data.decode("utf-8", "replace"))
    for problem in found.problems:
        problem.text()


_ROUTE = "routes/archive.yaml"
_PARTS = ("sites/atl1.yaml", "sources/wms-stock.yaml", "mappings/wms-stock.yaml", _ROUTE, "sinks/archive.yaml")
_EXAMPLE = Path(__file__).parents[2] / "examples" / "distributor" / "config"


@target
def tree(data: bytes) -> None:
    """One file of a sound tree is replaced; the first byte says which."""
    if data:
        files = dict(_sound())
        files[_PARTS[data[0] % len(_PARTS)]] = data[1:].decode("utf-8", "replace")
        inspect(files)


@target
def condition(data: bytes) -> None:
    route = json.dumps({"when": data.decode("utf-8", "replace"), "to": ["archive"]})
    loaded, _ = inspect({**_sound(), _ROUTE: route})
    if loaded is not None:
        loaded.router()


# --- what a source holds


FORMATS: dict[str, dict[str, Any]] = {
    "csv": {"kind": "csv", "delimiter": ";", "encoding": "cp1252"},
    "jsonl": {"kind": "jsonl"},
    "fixed": {"kind": "fixed", "fields": [{"name": "NO", "start": 1, "length": 2}]},
    "lines": {"kind": "lines", "encoding": "utf-16-le"},
    "json": {"kind": "json", "path": "a"},
    "xml": {"kind": "xml", "element": "R/a"},
    "x12": {"kind": "x12", "encoding": "latin-1"},
    "edifact": {"kind": "edifact", "encoding": "latin-1"},
    "binary": {"kind": "binary"},
    "packed": {
        "kind": "fixed", "newline": False, "record_bytes": 4, "encoding": "cp037",
        "fields": [{"name": "NO", "start": 1, "length": 2}, {"name": "N", "start": 3, "length": 2, "type": "packed"}],
    },
    "rdw": {"kind": "fixed", "rdw": True, "encoding": "cp500", "fields": [{"name": "NO", "start": 1, "length": 2}]},
}  # fmt: skip


def _file(name: str, data: bytes) -> None:
    """A file as the agent frames it, fed in two pieces, and as the controller decodes each run; they agree."""
    settings = FORMATS[name]
    kind: Any = msgspec.convert(settings, Format)
    framer = Framer(kind.scanner(), 4096, target_bytes=512, target_records=7)
    half = len(data) // 2
    found = [*framer.feed(data[:half]), *framer.feed(data[half:]), *framer.finish()]
    decoder = _decoder(name)
    for part in found:
        prefix = framer.prefix if part.prefix is None else part.prefix
        header = BatchHeader(
            format=format_name(kind), records=part.records, prefix=prefix, rejects=part.rejects,
            record_bytes=part.lengths, origin=Origin(kind="file", name="f", first_record=part.start.record),
        )  # fmt: skip
        decoded = decoder.decode(header, part.payload, ("NO",))
        if decoded.header_fault is None:
            assert decoded.count == part.records, (decoded.count, part.records)
            assert len(decoder.contents(decoded)) == len(decoded.rows)
        for reject in part.rejects:
            decoder.glimpse(header, reject.sample)


for _name in FORMATS:
    TARGETS[f"file_{_name}"] = lambda data, _name=_name: _file(_name, data)  # type: ignore[misc]


@target
def hostile_batch(data: bytes) -> None:
    """A header of a stranger over any payload: whatever the mapping makes of it is a fault of this batch alone, but it
    must end, and soon. The first byte chooses the format, the second how much is header."""
    if len(data) < 2:
        return
    name = sorted(FORMATS)[data[0] % len(FORMATS)]
    header = BatchHeader.FromString(data[2 : 2 + data[1]])
    if header.records + len(header.rejects) > 1000:
        return
    try:
        _engine(name).run([(header, data[2 + data[1] :], 0)], _Nothing(), cap_reached=True)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - as `rounds.decide` does
        return


_EVERYTHING: dict[str, Any] = {
    "mapping": "m", "document": "Invoice", "each": "NO", "where": {"column": "KIND", "not_equals": "X"},
    "fields": {
        "number": "NO",
        "issued_on": {"from": "D", "format": ["%d.%m.%y", "cyymmdd", "jde", "yyddd", "excel"], "pivot": 50},
        "due_on": {"join": ["D", "-", "T"], "format": "%d.%m.%Y-%H%M"},
        "customer.id": {"first_of": ["A", "B"], "strip_prefix": "C-", "case": "upper", "pad": 6},
        "status": {"cases": [{"when": {"column": "A", "matches": "[0-9]+"}, "from": "A"}, {"value": "other"}]},
        "total": {"from": "Q", "decimal": ",", "thousands": ".", "currency": {"value": "EUR"}},
        "net": {"compute": "Q * P / 100 - A", "decimal": ",", "thousands": ".", "currency": "CUR"},
        "lines": {
            "sku": "A", "gtin": {"from": "G", "as": "gtin"}, "price": {"from": "P", "implied": 2, "currency": "CUR"},
            "quantity": {"from": "Q", "decimal": ",", "thousands": ".", "uom": {"from": "U", "codes": {"KG": "KGM"}}},
        },
    },
    "rules": [
        {"sum": {"of": "lines.amount", "equals": "total"}}, {"range": {"field": "lines.quantity", "min": 0}},
        {"currency": ["currency"]}, {"minor_units": ["total"]}, {"plausible": {"fields": ["issued_on"]}},
        {"in_order": {"earlier": "issued_on", "later": "due_on"}},
    ],
}  # fmt: skip


_COLUMNS = ["NO", "KIND", "D", "T", "A", "B", "Q", "P", "CUR", "G", "U"]
_PLAIN = {"kind": "csv", "delimiter": ";", "header": False, "encoding": "cp1252", "columns": _COLUMNS}


@cache
def _everything() -> Engine:
    return engine(_PLAIN, _EVERYTHING)


def _csv() -> Any:
    return msgspec.convert(_PLAIN, Format)


@target
def mapping(data: bytes) -> None:
    """Records through every converter: each has exactly one outcome, and nothing else is raised."""
    framer = Framer(_csv().scanner(), 4096)
    for part in [*framer.feed(data), *framer.finish()]:
        header = BatchHeader(
            format="csv", records=part.records, prefix=framer.prefix, rejects=part.rejects, closes=True,
            origin=Origin(kind="file", name="f", first_record=part.start.record),
        )  # fmt: skip
        (outcome,) = _everything().run([(header, part.payload, 0)], _Nothing(), cap_reached=True)
        assert outcome.records() == part.records + len(part.rejects)


@target
def expression(data: bytes) -> None:
    parse_expression(data.decode("utf-8", "replace"))


@target
def code_list(data: bytes) -> None:
    inspect({**_sound(), "lists/units.csv": data.decode("utf-8", "replace")})


@target
def mapping_test(data: bytes) -> None:
    """One is run by `plan`: whatever it says, it ends."""
    inspect({**_sound(), "tests/one.yaml": data.decode("utf-8", "replace")})


@target
def archive(data: bytes) -> None:
    opened = zipped.Zip(io.BytesIO(data))
    for member in opened.members("*", by_time=True, max_bytes=1_000_000):
        try:
            zipped.prove(opened.open(member), 1_000_000, lambda: None, nested_is_fine=False)
        except CrossdockError:
            continue


@target
def gzip(data: bytes) -> None:
    zipped.prove(Gunzip(io.BytesIO(data)), 1_000_000, lambda: None, nested_is_fine=True)


@target
def guessing(data: bytes) -> None:
    guess(data, whole=True)
    guess(data, whole=False)


# --- what the targets need once


class _Nothing:
    def known(self, _document: str, _keys: set[str]) -> set[str]:
        return set()


@cache
def _folder() -> Path:
    return Path(_temporary().name)


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@cache
def _authority() -> Authority:
    return Authority.open(_folder() / "authority")


@cache
def _key() -> bytes:
    return crypto.new_key_and_request()[0]


def _ca() -> bytes:
    return _authority().bundle


@cache
def _issuer() -> Issuer:
    numbers = base64.urlsafe_b64encode(b"\xff" * 256).rstrip(b"=").decode()
    published = {
        "issuer": "https://issuer", "jwks_uri": "https://issuer/keys",
        "keys": [{"kty": "RSA", "kid": "k", "alg": "RS256", "use": "sig", "n": numbers, "e": "AQAB"}],
    }  # fmt: skip
    return Issuer(OidcSettings("https://issuer", "crossdock", "sub", ""), lambda _url: json.dumps(published).encode())


@cache
def _decoder(name: str) -> Any:
    settings = FORMATS[name]
    found = kinds()[settings["kind"]]
    return found.create(found.settings.model_validate(settings))


@cache
def _engine(name: str) -> Engine:
    settings = FORMATS[name]
    typed = kinds()[settings["kind"]].settings.model_validate(settings)
    fields = {"location": "NO", "sku": "NO", "on_hand": "NO"}
    mapping = Mapping.model_validate({"mapping": "wms", "document": "StockLevel", "fields": fields})
    return Engine("atl1", "wms", "Europe/Berlin", typed, mapping, 1)


@cache
def _sound() -> dict[str, str]:
    """A sound tree: a part of the example's."""
    return {part: (_EXAMPLE / part).read_text("utf-8") for part in _PARTS}
