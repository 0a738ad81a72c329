"""Answers for programs: one JSON value on stdout. Keys are the fields of the result types (`in_` is "in"); times are
`*_us`, microseconds since the epoch, UTC; bytes are hex."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from crossdock_controller.operations.plain import encode as as_json

__all__ = ["as_json", "emit"]

# What JSON lets stand in a text and a terminal would obey: DEL, C1, and what turns the direction of writing around.
_ESCAPED = {c: f"\\u{c:04x}" for c in (*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def emit(value: Any) -> None:
    """Print *value*. A stream that is not UTF-8 (a pipe on Windows) gets the same JSON in ASCII."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(as_json(value), indent=2, ensure_ascii=not utf8).translate(_ESCAPED))
