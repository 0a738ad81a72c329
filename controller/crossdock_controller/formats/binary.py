"""A whole file as one record: its bytes in base64, and how many they are. What is inside is not known here."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Literal

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import SAMPLE_BYTES, Decoded, FormatSettings, register

_COLUMNS = ("content", "bytes")


class BinarySettings(FormatSettings):
    kind: Literal["binary"] = "binary"

    def columns_declared(self) -> tuple[str, ...] | None:
        return _COLUMNS


class BinaryFormat:
    text_only = True

    def __init__(self, settings: BinarySettings) -> None:
        del settings

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:  # noqa: ARG002
        rows = [[base64.b64encode(payload).decode("ascii"), str(len(payload))]] if payload else []
        return Decoded(
            columns=_COLUMNS,
            rows=rows,
            positions=range(len(rows)),
            lines=[0] * len(rows),
            count=len(rows),
            sample=lambda _position: payload[:SAMPLE_BYTES],
        )

    def contents(self, decoded: Decoded) -> list[bytes]:
        return [row[0].encode("ascii") for row in decoded.rows]

    def content(self, row: dict[str, object]) -> bytes:
        return str(row.get("content", "")).encode("utf-8", "surrogatepass")

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:  # noqa: ARG002
        return {}


register("binary", BinarySettings, BinaryFormat)
