"""JSON lines: one object a line. Numbers are read as exact decimals, never through binary floats.

An object inside an object is read by a dotted path (`customer.id`); a field that is absent reads as blank, so there is
no header that could change.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import (
    BLANK,
    SAMPLE_BYTES,
    Decoded,
    Fault,
    LineSettings,
    TextSettings,
    encoding_fault,
    register,
    strip_mark,
    wide_codec,
)
from crossdock_controller.formats.framed import as_utf8

_BLANK_BYTES = BLANK[:-1].encode()


class JsonLinesSettings(LineSettings):
    kind: Literal["jsonl"] = "jsonl"

    def lists_declared(self) -> tuple[str, ...] | None:
        return None


class JsonLinesFormat:
    text_only = False

    noun = "line"

    def __init__(self, settings: TextSettings) -> None:
        self._declared = settings.encoding
        self._utf8 = as_utf8(settings.encoding)
        self._encoding = "utf-8" if wide_codec(settings.encoding) else settings.encoding  # of what `_utf8` gives
        self._is_utf8 = codecs.lookup(self._encoding).name == "utf-8"
        self._parse = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
        # Decimals as texts, as the rows of a dead letter are kept: the same content after a retry.
        self._canonical = msgspec.json.Encoder(order="deterministic").encode

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:
        records = self._utf8(payload).split(b"\n")
        if not records[-1]:
            records.pop()
        return self._decoded(records, wanted, header.origin.first_line)

    def _decoded(self, records: list[bytes], wanted: Sequence[str], first_line: int) -> Decoded:
        """*first_line* is 0 where records are not lines."""
        objects: list[dict[str, object]] = []
        positions: list[int] = []
        lines: list[int] = []
        decoded = Decoded(
            columns=tuple(wanted),
            rows=objects,
            positions=positions,
            lines=lines,
            count=len(records),
            sample=lambda position: records[position][:SAMPLE_BYTES],
            objects=objects,
        )
        for position, raw in enumerate(records):
            line = first_line + position if first_line else 0
            if not raw.strip(_BLANK_BYTES):
                decoded.blanks.append(position)
                continue
            found = self._quick(raw) or self._read(raw, position, line)
            if isinstance(found, Fault):
                decoded.faults.append(found)
                continue
            objects.append(found)
            positions.append(position)
            lines.append(line)
        return decoded

    def contents(self, decoded: Decoded) -> list[bytes]:
        return [self._canonical(entry) for entry in decoded.objects or ()]

    def content(self, row: dict[str, object]) -> bytes:
        return self._canonical(row)

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:  # noqa: ARG002
        return {}

    def _quick(self, raw: bytes) -> dict[str, object] | None:
        """An object read from UTF-8 as it stands; None for what needs a closer look."""
        if not self._is_utf8:
            return None
        try:
            return _flat(self._parse(raw))
        except (ValueError, ArithmeticError, RecursionError):  # msgspec's DecodeError is a ValueError
            return None

    def _read(self, raw: bytes, position: int, line: int) -> dict[str, object] | Fault:
        try:
            # Decoding first also proves the encoding, which a JSON parser checks only inside strings.
            text = strip_mark(raw.decode(self._encoding)).rstrip("\x1a")
            return _flat(self._parse(text))
        except UnicodeDecodeError as error:
            code, reason = "encoding", encoding_fault(self._declared, error)
        except (msgspec.DecodeError, ArithmeticError, RecursionError) as error:
            code, reason = "json_syntax", f"the {self.noun} is not one JSON object: {error}"
        return Fault(position, line, code, reason, sample=raw[:SAMPLE_BYTES])


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested objects as dotted fields; lists stay as they are."""
    if not prefix and not any(isinstance(item, dict) for item in value.values()):
        return value
    flat: dict[str, object] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            flat.update(_flat(item, f"{prefix}{name}."))
        else:
            flat[prefix + name] = item
    return flat


register("jsonl", JsonLinesSettings, JsonLinesFormat)
