"""A promotion slip: the word of one controller that a tree ran there, for another controller to go by.

It names the tree by its hash, so that what is applied elsewhere is that very tree. It is signed with the CA key of the
controller that wrote it; who reads it trusts the CA whose fingerprint stands in the policy in force, and no other.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossdock.errors import Refused

MAX_BYTES = 64 * 1024
_DOMAIN = b"crossdock-promotion-1\n"  # the same key signs configurations: neither can pass for the other
_HINT = "write it anew where the tree ran: crossdock config promote --out FILE"


@dataclass(frozen=True, slots=True)
class Slip:
    """*quiet_us*: how long the tree ran without trouble when the slip was written; *trouble*: what there was before."""

    tree: str  # hash
    environment: str
    revision: int
    in_force_us: int
    quiet_us: int
    trouble: str
    agents: int
    issued_us: int
    issued_by: str

    @property
    def quiet_hours(self) -> float:
        return self.quiet_us / 3_600_000_000


def signed(slip: Slip, signature: bytes, bundle: bytes) -> str:
    """The file: *signature* is of `payload(slip)`, by a CA of *bundle* (PEM)."""
    value = {"slip": asdict(slip), "signature": base64.b64encode(signature).decode(), "authority": bundle.decode()}
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def payload(slip: Slip) -> bytes:
    """What is signed."""
    text = json.dumps(asdict(slip), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return _DOMAIN + text.encode("utf-8", "surrogatepass")


def read(path: Path) -> tuple[Slip, list[str]]:
    """The slip in *path* and the fingerprints of the CAs that signed it. Raises Refused when it is none, or altered."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}", hint=_HINT) from error
    return parse(data, str(path))


def parse(data: bytes, name: str) -> tuple[Slip, list[str]]:
    """The same for what a file holds."""
    if len(data) > MAX_BYTES:
        raise Refused(f"{name} is no promotion slip: it has more than {MAX_BYTES // 1024} kB", hint=_HINT)
    try:
        value = json.loads(data)
        slip = _slip(value["slip"])
        signature = base64.b64decode(value["signature"], validate=True)
        bundle = value["authority"].encode("ascii")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        raise Refused(f"{name} is no promotion slip", hint=_HINT) from error
    signers = _signers(payload(slip), signature, bundle)
    if not signers:
        raise Refused(f"{name} is not signed by the controller it names, or was altered", hint=_HINT)
    return slip, signers


def _slip(value: Any) -> Slip:
    """Raises TypeError or ValueError for anything else."""
    types = Slip.__annotations__
    if not isinstance(value, dict) or value.keys() != types.keys():
        raise TypeError("not the fields of a slip")
    for name, kind in types.items():
        if type(value[name]).__name__ != kind:
            raise TypeError(f"{name} is not of its type")
    return Slip(**value)


def _signers(data: bytes, signature: bytes, bundle: bytes) -> list[str]:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    found: list[str] = []
    try:
        certificates = x509.load_pem_x509_certificates(bundle)
    except ValueError:
        return []
    for certificate in certificates:
        key = certificate.public_key()
        if isinstance(key, ec.EllipticCurvePublicKey):
            try:
                key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
            found.append(certificate.fingerprint(hashes.SHA256()).hex())
    return found
