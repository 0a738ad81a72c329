"""Tells machines apart without saying which they are, and gives a key a name that two people can read to each other.

Only a digest travels: /etc/machine-id is not to be shown to strangers (machine-id(5)), and the centre needs no more
than "the same as before". A machine that has no id of its own has an empty digest, and nothing is concluded from that.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "CROSSDOCK_MACHINE_ID"  # names the machine where the system cannot: a container with a volume of its own
_PREFIX = b"crossdock machine 1\0"
_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
_CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_ID = re.compile(r"[0-9a-fA-F-]{16,64}")
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: no I, L, O, U to take for another


def machine_digest() -> str:
    """SHA-256 in hex (64 characters) over a prefix and this machine's id; empty where there is none to rely on."""
    name = own_name(os.environ) or (_windows_id() if sys.platform == "win32" else linux_id(os.environ))
    return digest_of(name)


def digest_of(machine_id: str) -> str:
    """What `machine_digest` says of a machine with *machine_id*; empty for an empty one."""
    if not machine_id:
        return ""
    return hashlib.sha256(_PREFIX + machine_id.strip().lower().encode()).hexdigest()


def short_code(public_key: bytes) -> str:
    """Eight letters and digits for a *public_key* (DER, SubjectPublicKeyInfo), such as K7QF-2M9D."""
    number = int.from_bytes(hashlib.sha256(public_key).digest()[:5], "big")
    letters = "".join(_LETTERS[number >> shift & 31] for shift in range(35, -1, -5))
    return f"{letters[:4]}-{letters[4:]}"


def own_name(environ: Mapping[str, str]) -> str:
    """What the operator says this machine is called, by CROSSDOCK_MACHINE_ID; a word says it better than a file."""
    return environ.get(VARIABLE, "").strip()


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
