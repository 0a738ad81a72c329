"""API tokens as texts: 256 random bits behind a prefix by which a leak can be searched for. Only digests are stored."""

from __future__ import annotations

import hashlib
import secrets

PREFIX = "cdt_"
SECRET_BYTES = 32


def make() -> tuple[str, bytes]:
    """(a new token, its digest)."""
    token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return token, digest_of(token)


def digest_of(token: str) -> bytes:
    """SHA-256: what nobody can guess needs no stretching."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
