"""A secret is never in the tree, in an error or in a diff: the tree holds `secret:NAME`, which only the place of use
resolves (the agent for a source, the controller for a sink).

These rules find what looks like a plain secret. They are a net under the operator, not a proof.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from crossdock.yamlfile import Path

_NAMES = re.compile(
    r"(^|_|-)(password|passwd|pwd|passphrase|secret|token|api[_-]?key|private[_-]?key|authorization)$", re.IGNORECASE
)
_ODBC = re.compile(r"(?:^|[;\s])(pwd|password)\s*=\s*(\{[^}]*\}|[^;]*)", re.IGNORECASE)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@]*:([^@/\s]+)@", re.IGNORECASE)
_BEARER = re.compile(r"^(bearer|basic)\s+\S", re.IGNORECASE)
_WHOLE = re.compile(r"secret:[A-Za-z0-9._-]+")
_INSIDE = re.compile(r"\{secret:[A-Za-z0-9._-]+\}")  # within an ODBC connection string

_LINE = re.compile(
    r"([\w-]*(?:password|passwd|pwd|passphrase|secret|token|api[_-]?key|private[_-]?key|authorization)[\"']?\s*(?::\s+|=\s*))"
    r"(\"[^\"]*\"|'[^']*'|\{[^}]*\}|[^,;}\s]+(?: [^,;}:]+)?)",
    re.IGNORECASE,
)
_LINE_CHARACTERS = 1000

HINT = "write a reference: {example}; its value is set where it is used and never stored in the tree"


def plain_secrets(value: Any, path: Path = ()) -> Iterator[tuple[Path, str, str]]:
    """(path, message, hint) for every text below *value* that looks like a secret written out."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from plain_secrets(item, (*path, key))
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from plain_secrets(item, (*path, i))
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        finding = _finding(str(value), path)
        if finding is not None:
            yield (path, *finding)


def masked(path: Path, value: Any) -> Any:
    """*value* as it may be shown: stars instead of what looks like a plain secret."""
    return "***" if any(True for _ in plain_secrets(value, path)) else value


def masked_line(line: str) -> str:
    """A line of a file as it may be shown: stars instead of what looks like a plain secret in it. For revisions that
    were stored before a rule knew what it knows now. Long lines are cut: looking for one costs the square of them."""
    if len(line) > _LINE_CHARACTERS:
        line = line[: _LINE_CHARACTERS - 1] + "…"
    shown = _LINE.sub(lambda m: m[0] if m[2].strip("\"'{").startswith("secret:") else f"{m[1]}***", line)
    return _URL.sub(lambda m: m[0].replace(f":{m[1]}@", ":***@"), shown)


def _finding(text: str, path: Path) -> tuple[str, str] | None:
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    whole = not text or _WHOLE.fullmatch(text) is not None
    reference = HINT.format(example=f"secret:{_suggested(path)}")
    if _NAMES.search(name) and not whole and "columns" not in path:
        return f"{name!r} is written out", reference
    for match in _ODBC.finditer(text):
        if match[2].strip() and not _INSIDE.fullmatch(match[2].strip()):
            example = f"{match[1]}={{secret:{_suggested(path)}}}"
            return f"holds a plain {match[1].upper()}=", HINT.format(example=example)
    if _URL.search(text):
        return "holds a plain password in its address", "leave it out of the address; see the settings of this kind"
    if _BEARER.search(text):
        return "holds a plain credential", reference + " ('Bearer' or 'Basic' included)"
    return None


def _suggested(path: Path) -> str:
    names = [part for part in path if isinstance(part, str)]
    return names[-1].lower().replace("_", "-") if names else "name"
