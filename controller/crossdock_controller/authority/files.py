"""The authorities on disk: keys and certificates in files of their own, and one list that says what each is for.

`ca.key` and `ca.pem` are the first authority. The list, `authorities.json`, is replaced as a whole and is the only
thing that makes a step true: a new authority's files are durable before the list names them, and a retired one's key is
removed after the list says so. What a crash leaves beside them is removed by the next step. Without a list the first
authority does everything.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import sys
import time
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from loguru import logger

from crossdock.disk import sync_directory
from crossdock.errors import UNREADABLE, ConfigError, Corrupt
from crossdock_controller.authority import states
from crossdock_controller.authority.signer import BACKDATE, Signer
from crossdock_controller.authority.states import State, States

LIST = "authorities.json"
FIRST = "ca"
FORMAT = 1


class _List(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    authorities: list[State]


def read(directory: Path) -> States:
    """Raises Corrupt when the list cannot be read, ConfigError when a later release wrote it."""
    path = directory / LIST
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        signer = load(directory, FIRST)
        made = signer.certificate.not_valid_before_utc + BACKDATE
        return states.first(signer.fingerprint, FIRST, int(made.timestamp() * 1e6))
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        if msgspec.json.decode(data)["format"] > FORMAT:
            raise ConfigError(f"{path} is of a later release", hint="use that release or a newer one")
        found = tuple(msgspec.json.decode(data, type=_List).authorities)
    except (*UNREADABLE, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error
    wrong = states.check(found)
    if wrong:
        raise _unreadable(path, wrong)
    return found


def write(directory: Path, new: States) -> None:
    """From here on *new* is what holds; then what it does not name any more is removed."""
    listed = msgspec.json.encode(_List(format=FORMAT, authorities=list(new)))
    write_private(directory / LIST, msgspec.json.format(listed, indent=1))
    sweep(directory, new)


def names(directory: Path) -> list[str]:
    """The files that make up what *directory* holds, for a backup."""
    kept = [LIST] if (directory / LIST).exists() else []
    return kept + [name for state in read(directory) for name in _files(state)]


def create(directory: Path, signer: Signer, file: str) -> None:
    """The files of a new authority, durable. It is nothing until the list names it."""
    write_private(directory / f"{file}.key", signer.key_pem)
    write_private(directory / f"{file}.pem", signer.pem)


def load(directory: Path, file: str) -> Signer:
    """Raises Corrupt when key and certificate are damaged or do not belong together."""
    key_file, certificate_file = directory / f"{file}.key", directory / f"{file}.pem"
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(directory, error) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise Corrupt(f"{key_file} is not the key of {certificate_file}", hint="restore both from one backup")
    return Signer(key, certificate)


def certificate(directory: Path, file: str) -> bytes:
    """Of one that retired, PEM; nothing where somebody removed it."""
    try:
        return (directory / f"{file}.pem").read_bytes()
    except FileNotFoundError:
        return b""


def make_first(directory: Path, now: dt.datetime) -> None:
    """The authority of a new controller, unless there is one. Its certificate is written last: it makes it true."""
    if (directory / LIST).exists() or (directory / f"{FIRST}.pem").exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    sync_directory(directory.parent)
    create(directory, Signer.make(now), FIRST)


def sweep(directory: Path, current: States) -> None:
    """Remove what interrupted steps left, and the keys of what is retired."""
    kept = {LIST, *(name for state in current for name in _files(state))}
    for path in directory.glob(f"{FIRST}*"):
        if path.name in kept:
            continue
        try:
            path.unlink(missing_ok=True)
        except PermissionError as error:  # Windows, while another process reads it: the step itself is done
            logger.warning("{} is of no use any more and could not be removed; delete it: {}", path, error)
    sync_directory(directory)


def signature(directory: Path) -> tuple[int, int, int]:
    """Differs after each step. Zeros while there is no list."""
    try:
        found = (directory / LIST).stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def version(found: States) -> str:
    """A digest of what holds."""
    return hashlib.sha256(msgspec.json.encode(found)).hexdigest()


def write_private(path: Path, data: bytes) -> None:
    """Write *data* durably, readable by the owner only from its first byte, and put it in place at once. What root
    writes is the directory owner's: a command given with sudo must not shut the service out."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if sys.platform != "win32" and os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _replace(temporary, path)
    sync_directory(path.parent)


def _replace(temporary: Path, path: Path) -> None:
    """Windows lets nobody replace a file while another process reads it, which takes a moment."""
    for attempt in range(50):
        try:
            temporary.replace(path)
        except PermissionError:
            if os.name != "nt" or attempt == 49:
                raise
            time.sleep(0.02)
        else:
            return


def _files(state: State) -> list[str]:
    return [f"{state.file}.pem"] + ([f"{state.file}.key"] if state.trusted else [])


def _unreadable(what: Path, why: object) -> Corrupt:
    place = what if what.suffix else f"certificate authority in {what}"
    return Corrupt(
        f"{place} cannot be read: {why}",
        hint="restore 'authority' from a backup; without it every agent must enrol anew",
    )
