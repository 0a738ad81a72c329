"""What an agent signs with its old key to be let in again after its certificate ended.

ECDSA P-256 with SHA-256 (DER) over exactly these bytes; the clock keeps an old proof from being sent again later.
"""

from __future__ import annotations

import hashlib

_PREFIX = b"crossdock reenroll 1\0"


def reenroll_bytes(csr: bytes, certificate: bytes, machine: str, clock_us: int) -> bytes:
    """The bytes to sign: *csr* and *certificate* are PEM as they travel, *machine* a digest (`crossdock.machine`) or
    empty, *clock_us* the agent's clock, microseconds UTC. Raises OverflowError when *clock_us* is no 64-bit number."""
    return b"".join(
        (
            _PREFIX,
            hashlib.sha256(csr).digest(),
            hashlib.sha256(certificate).digest(),
            machine.encode(),
            b"\0",
            clock_us.to_bytes(8, "big", signed=True),
        )
    )
