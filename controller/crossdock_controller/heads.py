"""Heads of the audit log in a second place, signed by the authority: entries cut off the end are missed there.

`audit-heads.log` has one JSON object a line: {"at_us", "seq", "hash", "signature"}, hash and signature in hex.
Lines are only appended; a torn last line (a power cut) is passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from crossdock.errors import UNREADABLE
from crossdock_controller.authority import Authority

_PURPOSE = b"crossdock audit head\n"  # no signature over a site's configuration can be taken for one of these
MAX_LINES = 20_000  # then the older half goes: every head covers all entries before it


class Head(msgspec.Struct, frozen=True):
    """Entry *seq* was the newest at *at_us*, with this digest (hex)."""

    seq: int
    hash: str
    at_us: int
    signature: str = ""


def append(path: Path, authority: Authority, seq: int, digest: bytes, now_us: int) -> Head:
    """Sign and append, on the disk when this returns."""
    unsigned = Head(seq, digest.hex(), now_us)
    signed = Head(seq, unsigned.hash, now_us, authority.sign(_text(unsigned), (authority.fingerprint,)).hex())
    _trim(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "ab") as file:
        torn = b"" if _ends_whole(path) else b"\n"
        file.write(torn + msgspec.json.encode(signed) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return signed


def read(path: Path) -> list[Head]:
    """Oldest first, signed by whomever; what is no line of ours is left out."""
    if not path.exists():
        return []
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(line, type=Head))
        except UNREADABLE:
            continue
    return found


def genuine(heads: Iterable[Head], bundle: bytes) -> list[Head]:
    """Those that one of the certificates of *bundle* (PEM) signed."""
    keys = [certificate.public_key() for certificate in x509.load_pem_x509_certificates(bundle)]
    trusted = [key for key in keys if isinstance(key, ec.EllipticCurvePublicKey)]
    return [head for head in heads if any(_signed(head, key) for key in trusted)]


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _signed(head: Head, key: ec.EllipticCurvePublicKey) -> bool:
    try:
        key.verify(bytes.fromhex(head.signature), _text(head), ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _text(head: Head) -> bytes:
    return _PURPOSE + json.dumps([head.seq, head.hash, head.at_us]).encode()


def _trim(path: Path) -> None:
    if not path.exists() or path.stat().st_size < MAX_LINES * 200:
        return
    lines = path.read_bytes().splitlines(keepends=True)
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(b"".join(lines[len(lines) // 2 :]))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
