"""Elements of a JSON array, wherever it stands in a document, or the document itself: read as JSON lines are."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Literal

from pydantic import field_validator

from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.base import Decoded, TextSettings, mark_fault, register, single_bytes
from crossdock_controller.formats.framed import sliced
from crossdock_controller.formats.json_lines import JsonLinesFormat


class JsonSettings(TextSettings):
    kind: Literal["json"] = "json"
    path: str = ""  # where the array stands, for the agent

    def lists_declared(self) -> tuple[str, ...] | None:
        return None

    @classmethod
    def checked_encoding(cls, name: str) -> str:
        return single_bytes(name)

    @field_validator("path")
    @classmethod
    def _is_names(cls, path: str) -> str:
        if path and not all(path.split(".")):
            raise ValueError(f"{path!r} is not names with dots between them, such as data.orders")
        return path


class JsonFormat(JsonLinesFormat):
    noun = "element"

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:
        decoded = self._decoded(sliced(header, payload), wanted, 0)
        if header.prefix.startswith(codecs.BOM_UTF8):
            decoded.header_fault = mark_fault(self._encoding)
        return decoded


register("json", JsonSettings, JsonFormat)
