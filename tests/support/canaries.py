"""Secrets that a test knows, and a search for them in whatever form they may have got out."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, quote_plus

import msgspec

from crossdock import codec
from crossdock.errors import Corrupt


@dataclass(frozen=True)
class Canary:
    """A *secret*, and the files that may hold it: exactly these."""

    name: str
    secret: bytes
    home: frozenset[Path] = frozenset()

    def forms(self) -> set[bytes]:
        """As itself, in hex, percent-encoded, in JSON, in both UTF-16, and in base64 wherever it may begin in it."""
        found = {self.secret, self.secret.hex().encode(), self.secret.hex().upper().encode()}
        for shift in range(3):
            for encode in (base64.b64encode, base64.urlsafe_b64encode):
                whole = encode(bytes(shift) + self.secret)
                found.add(whole[(8 * shift + 5) // 6 : (8 * (shift + len(self.secret))) // 6])
        try:
            text = self.secret.decode("ascii")
        except UnicodeDecodeError:
            return found
        said = (quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], text.upper(), text.lower())
        return found | {s.encode() for s in said} | {text.encode("utf-16-le"), text.encode("utf-16-be")}


def leaks(canaries: list[Canary], root: Path, said: dict[str, str]) -> list[str]:
    """Each canary that is in a file below *root* which is not its home, or in what was *said* (by name)."""
    found = []
    for place, path, data in [*_files(root), *((name, None, text.encode()) for name, text in said.items())]:
        strangers = (canary for canary in canaries if path not in canary.home)
        found += [f"{canary.name} in {place}" for canary in strangers if any(form in data for form in canary.forms())]
    return found


def homes_without(canaries: list[Canary]) -> list[str]:
    """Canaries that are not where they should be: a search for them would prove nothing."""
    return [
        f"{canary.name} in {path}" for canary in canaries for path in canary.home if canary.secret not in _opened(path)
    ]


def _files(root: Path) -> Iterator[tuple[str, Path | None, bytes]]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(root)), path, path.read_bytes()
            if path.suffix == ".db":
                yield f"{path.relative_to(root)} (dump)", path, _dump(path)


def _opened(path: Path) -> bytes:
    """The content; of a PEM or a JSON with base64 in it what is packed there, too."""
    data = path.read_bytes()
    body = b"".join(line for line in data.splitlines() if not line.startswith(b"-----"))
    try:
        return data + base64.b64decode(body)
    except ValueError:
        return data


def _dump(path: Path) -> bytes:
    """Every value of every table, and of the batches among them what is in them."""
    out = bytearray()
    with closing(sqlite3.connect(path)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    out += value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
                    out += b"\n"
                    if isinstance(value, bytes) and value.startswith(codec.MAGIC):
                        out += _unsealed(value)
    return bytes(out)


def _unsealed(data: bytes) -> bytes:
    try:
        header, payload = codec.open_sealed(data)
    except Corrupt:
        return b""
    rows = payload
    if header.format == "rows":
        rows += msgspec.json.encode(payload.decode("latin-1"))
    return header.SerializeToString() + rows
