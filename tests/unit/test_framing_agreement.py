"""The agent's framing and the controller's decoding see the same records: the account counts with both."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_agent.framing import Format, Framer, format_name
from crossdock_controller.formats import base as formats

FIELDS = [{"name": "a", "start": 1, "length": 2}]
KINDS: dict[str, dict[str, Any]] = {
    "csv": {"kind": "csv", "delimiter": ";", "encoding": "latin-1"},
    "csv without header": {
        "kind": "csv",
        "header": False,
        "columns": ["a", "b"],
        "delimiter": ";",
        "encoding": "latin-1",
    },
    "csv without quotes": {"kind": "csv", "quote": None, "delimiter": "\t"},
    "jsonl": {"kind": "jsonl"},
    "fixed": {"kind": "fixed", "fields": FIELDS, "header_lines": 1},
    "lines": {"kind": "lines", "encoding": "latin-1"},
    "lines, utf-16": {"kind": "lines", "encoding": "utf-16-le"},
    "csv, utf-16": {"kind": "csv", "encoding": "utf-16-be", "delimiter": ";"},
    "jsonl, utf-16": {"kind": "jsonl", "encoding": "utf-16"},
    "json": {"kind": "json"},
    "json at a path": {"kind": "json", "path": "a"},
    "xml": {"kind": "xml", "element": "a"},
    "xml at a path": {"kind": "xml", "element": "R/a"},
    "x12": {"kind": "x12", "encoding": "latin-1"},
    "edifact": {"kind": "edifact", "encoding": "latin-1"},
    "binary": {"kind": "binary"},
    "fixed, ebcdic": {
        "kind": "fixed",
        "newline": False,
        "record_bytes": 4,
        "encoding": "cp037",
        "fields": [*FIELDS, {"name": "n", "start": 3, "length": 2, "type": "packed"}],
    },
    "fixed with descriptors": {"kind": "fixed", "rdw": True, "encoding": "cp500", "fields": FIELDS},
    "fixed without newlines": {"kind": "fixed", "newline": False, "record_bytes": 5, "fields": FIELDS},
}
_PIECES = [
    b"a",
    b"\xe9",
    b";",
    b'"',
    b'""',
    b"\n",
    b"\r\n",
    b"\r",
    b';"',
    b'";',
    b'"\n',
    b"\x1a",
    b"\x00",
]
_OTHERS = [b"<a>", b"</a>", b"<R>", b"</R>", b"<a/>", b"{", b"}", b'{"a":1}', b"[", b"]", b",", b"\x00\x05\x00\x00a"]
_OTHERS += [b"ISA*0*0*0*0*Z*S*Z*R*1*1*U*4*1*0*P*>~", b"IEA*0*1~", b"GS*", b"UNB+A+S+R+1:1+9'", b"UNZ+0+9'", b"~", b"'"]
_OTHERS += [text.encode(codec) for codec in ("utf-16-le", "utf-16-be") for text in ("a", "\n", ";", '"', "界", "{}")]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150)
@given(
    pieces=st.lists(st.sampled_from(_PIECES), max_size=40) | st.lists(st.sampled_from(_PIECES + _OTHERS), max_size=40),
    mark=st.booleans(),
)
def test_every_batch_decodes_to_the_number_of_records_it_was_framed_with(
    name: str, pieces: list[bytes], mark: bool
) -> None:
    kind: Any = msgspec.convert(KINDS[name], Format)
    kinds = formats.kinds()
    decoder = formats.create(kinds[KINDS[name]["kind"]].settings(**KINDS[name]))
    framer = Framer(kind.scanner(), 200, target_bytes=24, target_records=3)
    data = (b"\xef\xbb\xbf" if mark else b"") + b"".join(pieces)
    for run in [*framer.feed(data), *framer.finish()]:
        origin = Origin(kind="file", first_record=run.start.record, first_line=run.start.line)
        header = BatchHeader(format=format_name(kind), records=run.records, origin=origin, record_bytes=run.lengths)
        header.prefix = framer.prefix if run.prefix is None else run.prefix
        if run.records:
            assert decoder.decode(header, run.payload, ["a"]).count == run.records
