"""The cause of an exception: equal for all items that one fix would settle. Pure, and stable: people assign by it."""

from __future__ import annotations

import re

MAX_REASON = 80
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")
_NUMBERS = re.compile(r"\d+")
_ID = re.compile(r"\b[0-9a-f]{8,}(?:-[0-9a-f]{4,})*\b", re.IGNORECASE)


def cause_of(kind: str, code: str, source: str, sink: str, field: str, reason: str) -> str:
    """Of a dead record (*kind* "record") or a dead delivery ("delivery")."""
    if kind == "delivery":
        return cause_of_delivery(sink, code, reason)
    return cause_of_record(code, source, field, reason)


def cause_of_record(code: str, source: str, field: str, reason: str, list_: str = "", value: str = "") -> str:
    """ "bad_decimal:wms-shipments:lines.quantity"; of a code without meaning its list and the code, whatever source
    sent it: one entry in the list settles all that have it, and nothing else does."""
    if list_:
        return _joined([code, list_, value[:MAX_REASON]])
    parts = [code, source, _NUMBERS.sub("*", field)]
    if code == "unknown_code":
        quoted = _QUOTED.search(reason)
        parts.append(quoted[1][:MAX_REASON] if quoted else "")
    return _joined(parts)


def cause_of_delivery(sink: str, code: str, reason: str) -> str:
    """ "finance:409:order is closed": what the sink said, without what differs from document to document."""
    return _joined([sink, code, _alike(reason)])


def _alike(reason: str) -> str:
    text = _QUOTED.sub("*", reason)
    text = _NUMBERS.sub("*", _ID.sub("*", text))
    return " ".join(text.lower().split())[:MAX_REASON].rstrip()


def _joined(parts: list[str]) -> str:
    while parts and not parts[-1]:
        parts.pop()
    return ":".join(" ".join(part.split()) for part in parts)
