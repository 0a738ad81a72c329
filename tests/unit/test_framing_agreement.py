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


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=150)
@given(pieces=st.lists(st.sampled_from(_PIECES), max_size=40), mark=st.booleans())
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
        header = BatchHeader(format=format_name(kind), records=run.records, prefix=framer.prefix, origin=origin)
        if run.records:
            assert decoder.decode(header, run.payload, ["a"]).count == run.records
