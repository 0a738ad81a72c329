"""Answers for programs: one JSON value on stdout. Keys are the fields of the result types (`in_` is "in"); times are
`*_us`, microseconds since the epoch, UTC; bytes are hex."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import click


def as_json(value: Any) -> Any:
    """*value* (dataclasses, mappings, sequences) as what `json` writes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name.rstrip("_"): as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(v) for v in value]
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def emit(value: Any) -> None:
    """Print *value*. A stream that is not UTF-8 (a pipe on Windows) gets the same JSON in ASCII."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    click.echo(json.dumps(as_json(value), indent=2, ensure_ascii=not utf8))
