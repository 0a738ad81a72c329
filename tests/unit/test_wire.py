"""The wire only grows: what 0.1.0 spoke is spoken still, and its sealed batches open for ever."""

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.json_format import ParseDict
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_tools import protoc

from crossdock import codec
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock.wire import CAPABILITIES, GIVE_BACK, common, misfit
from support.wires import FROZEN, Wire

RELEASES = sorted(folder.name for folder in FROZEN.iterdir() if folder.is_dir())
BATCHES = sorted(FROZEN.glob("*/batches/*.batch"))
PINNED = {  # SHA-256: frozen means that nobody mends them
    "v1_0/wire.binpb": "34db0963763933872d5aa0672d51270f02febc3da881c2fbdf2d620760bf073e",
    "v1_0/batches/csv.batch": "7f77d9357a249df6577737bfe9bb41f86185c2497cb04ec4ee9dd5ecbf1b67a3",
    "v1_0/batches/rows.batch": "e394cd8bb8796ccce65232a07c3897a032bc12775b14d260dbfa94e56b8e317e",
    "v1_0/batches/xml.batch": "d2c2ecbf21fde6fa3154a2b9fa2432e09e336a88a5192be8172ef5aeb4097fc4",
}


@pytest.mark.parametrize("name", PINNED)
def test_what_is_frozen_is_as_it_was(name: str) -> None:
    assert hashlib.sha256((FROZEN / name).read_bytes()).hexdigest() == PINNED[name]


@pytest.mark.parametrize("release", RELEASES)
def test_the_frozen_classes_are_those_of_the_frozen_text(release: str, tmp_path: Path) -> None:
    shutil.copytree(FROZEN / release / "crossdock", tmp_path / "crossdock")
    texts = [str(text) for text in sorted(tmp_path.rglob("*.proto"))]
    assert protoc.main(["protoc", f"-I{tmp_path}", f"--descriptor_set_out={tmp_path / 'again'}", *texts]) == 0
    again = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "again").read_bytes())
    assert {f.name: f for f in again.file} == {f.name: f for f in Wire.frozen(release).files.file}


def shapes(wire: Wire) -> dict[str, tuple[object, ...]]:
    """Everything a peer relies on, by name: a field's number, type and label, an RPC's messages."""
    found: dict[str, tuple[object, ...]] = {}
    for file in wire.files.file:
        for message in file.message_type:
            kinds = [oneof.name for oneof in message.oneof_decl]
            for field in message.field:
                kind = kinds[field.oneof_index] if field.HasField("oneof_index") else ""
                found[f"{message.name}.{field.name}"] = (field.number, field.type, field.label, field.type_name, kind)
        for service in file.service:
            for rpc in service.method:
                streams = rpc.client_streaming, rpc.server_streaming
                found[f"{file.package}.{service.name}/{rpc.name}"] = (rpc.input_type, rpc.output_type, *streams)
    return found


@pytest.mark.parametrize("release", RELEASES)
def test_fields_and_calls_are_only_ever_added(release: str) -> None:
    today, before = shapes(Wire.today()), shapes(Wire.frozen(release))
    assert len(before) > 100
    assert {name: today.get(name) for name in before} == before
    numbers = [(name.split(".")[0], shape[0]) for name, shape in today.items() if "/" not in name]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("path", BATCHES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_sealed_batch_of_an_earlier_release_opens_to_what_was_sealed(path: Path) -> None:
    expected = json.loads((path.parent / "expected.json").read_text())[path.stem]
    sealed = path.read_bytes()
    codec.verify(sealed, expected["crc32"])
    header, payload = codec.open_sealed(sealed)
    assert payload == base64.b64decode(expected["payload"])
    assert header == ParseDict(expected["header"], BatchHeader())
    assert len(UnknownFieldSet(header)) == 0


def test_what_only_one_side_announced_is_not_used() -> None:
    assert common(["config", "certificate"]) == {"config", "certificate"}
    assert GIVE_BACK in common(CAPABILITIES)
    assert common(["of tomorrow"]) == frozenset()


@pytest.mark.parametrize(
    ("protocol", "upgrade"),
    [(0, "upgrade the controller to the release of this agent"), (2, "upgrade this agent to the release of the contr")],
)
def test_a_misfit_names_both_versions_and_what_to_upgrade(protocol: int, upgrade: str) -> None:
    said = misfit("this agent", "the controller", protocol, "7.8.9")
    assert said.startswith(f"the controller (crossdock 7.8.9) speaks protocol {protocol}, this agent (crossdock ")
    assert upgrade in said
    assert "keeps everything meanwhile" in said
    assert misfit("this agent", "the controller", 1, "7.8.9") == ""
