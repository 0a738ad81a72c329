"""What tells two machines apart, and what two people compare: both ends compute them here, so that they are the same.

A machine is told by a digest: the machine's own id (`/etc/machine-id`, Windows' MachineGuid) stays at the site. The
code of a key is short enough to be read out over the telephone, and long enough (50 bits) that nobody makes a key with
the code of another while the two talk.
"""

from __future__ import annotations

import hashlib
import re

_MACHINE = b"crossdock machine 1\0"
_KEY = b"crossdock key code 1\0"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
CODE_CHARACTERS = 10


def machine_digest(machine_id: str) -> str:
    """64 hex digits for the machine that names itself *machine_id*; empty when it has no id."""
    text = machine_id.strip().lower()
    return hashlib.sha256(_MACHINE + text.encode()).hexdigest() if text else ""


def is_machine_digest(text: str) -> bool:
    """Whether *text* is what `machine_digest` gives for a machine that has an id."""
    return _DIGEST.fullmatch(text) is not None


def key_code(public_key: bytes) -> str:
    """ "7K4QM-2XPA9": the code of a public key, given as DER SubjectPublicKeyInfo (that of the CSR)."""
    bits = int.from_bytes(hashlib.sha256(_KEY + public_key).digest()[:8], "big") >> (64 - 5 * CODE_CHARACTERS)
    digits = [_ALPHABET[bits >> shift & 31] for shift in range(5 * (CODE_CHARACTERS - 1), -1, -5)]
    half = CODE_CHARACTERS // 2
    return f"{''.join(digits[:half])}-{''.join(digits[half:])}"
