"""What tells two machines apart, and what two people compare: both ends compute them here, so that they are the same.

A machine is told by a digest: its own id (`/etc/machine-id`, Windows' MachineGuid) stays at the site, as machine-id(5)
asks. One that has no id to rely on has an empty digest, and nothing is concluded from it. The code of a key is short
enough to be read out over the telephone, and long enough (50 bits) that nobody makes a key with the code of another
while the two talk.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CROSSDOCK_MACHINE_ID"  # names the machine where the system cannot: a container with a volume of its own
_MACHINE = b"crossdock machine 1\0"
_KEY = b"crossdock key code 1\0"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_ID = re.compile(r"[0-9a-fA-F-]{16,64}")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no I, L, O, U
CODE_CHARACTERS = 10


def machine_digest(machine_id: str | None = None) -> str:
    """64 hex digits for the machine that names itself *machine_id* (by default this one); empty when it has no id that
    could be relied on."""
    name = own_id() if machine_id is None else machine_id
    text = name.strip().lower()
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


def own_id() -> str:
    """The id of this machine; never to be sent. A word of the operator's says it better than a file."""
    named = os.environ.get(VARIABLE, "").strip()
    return named or (_windows_id() if sys.platform == "win32" else linux_id(os.environ))


def linux_id(environ: Mapping[str, str], root: Path = Path("/")) -> str:
    """The machine's id below *root*; empty inside a container, where the next one has another or the image's."""
    marks = [root / mark.relative_to("/") for mark in _CONTAINER_MARKS]
    if "KUBERNETES_SERVICE_HOST" in environ or any(mark.exists() for mark in marks):
        return ""
    for file in _FILES:
        try:
            text = (root / file.relative_to("/")).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue  # the next file may have it
        if _ID.fullmatch(text):  # "uninitialized" is no id
            return text
    return ""


if sys.platform == "win32":

    def _windows_id() -> str:
        import winreg

        access = winreg.KEY_READ | winreg.KEY_WOW64_64KEY  # a 32-bit process would see another one
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SOFTWARE\Microsoft\Cryptography", 0, access) as key:
                return str(winreg.QueryValueEx(key, "MachineGuid")[0])
        except OSError:
            return ""
else:

    def _windows_id() -> str:
        return ""
