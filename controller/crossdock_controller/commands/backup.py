"""A backup: a directory with a moment of both store files, the authority and a manifest, whole or not there at all.

state.db is copied before intake.db, so that whatever the state goes on from is in the copy of the intake: the log only
grows, and nothing is purged from it while a backup runs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from crossdock import __version__
from crossdock.errors import UNREADABLE, ConfigError, Corrupt, Retryable
from crossdock.lock import SingleInstance
from crossdock_controller.authority import Authority, files, write_private
from crossdock_controller.heads import Head
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import audit, connection, copies, schema

FORMAT = 1
MANIFEST = "manifest.json"
PARTIAL = ".partial"  # the end of the name while it is written
SPARE_BYTES = 64 * 1024 * 1024  # beside the copies themselves
LOCK_SECONDS = 2.0

Progress = Callable[[str, int, int], None]


class File(msgspec.Struct, frozen=True):
    """Any other file; *name* is relative, with forward slashes."""

    name: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds. Times are microseconds UTC; *store* is the id of the store it was made of, hex."""

    format: int
    created_us: int
    version: str
    store: str
    state: copies.Taken
    intake: copies.Taken
    files: list[File]
    agents: list[copies.AgentState]
    audit: Head | None = None  # of the audit log in it; a backup is the second place that misses what was cut off

    @property
    def everything(self) -> list[File]:
        return [*(File(t.name, t.bytes, t.sha256) for t in (self.state, self.intake)), *self.files]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.everything)


def create(data: DataDirectory, target: Path, now_us: int, progress: Progress, *, by: str = "controller") -> Manifest:
    """Back *data* up to the new directory *target*, on behalf of *by*, and verify it. The controller may run;
    nobody waits for it.

    Raises ConfigError when *target* holds something, Retryable when it would not fit or another backup runs.
    """
    _require_free(target)
    partial = target.with_name(target.name + PARTIAL)
    with SingleInstance(data.backup_lock, LOCK_SECONDS):
        need = copies.size(data.state) + copies.size(data.intake) + SPARE_BYTES
        target.parent.mkdir(parents=True, exist_ok=True)
        _require_space(target.parent, need)
        if partial.exists():  # of a backup that was interrupted: we hold the lock
            shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
        try:
            made = _write(data, partial, now_us, progress)
            _judge(partial, made)  # its sums are of what was read back from the disk's cache a moment ago
            _publish(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        with closing(connection.connect(data.state)) as db, connection.transaction(db):
            details = {"bytes": made.bytes}
            audit.append(db, actor=by, action="backup.create", target=str(target), details=details, now_us=now_us)
    return made


def verify(directory: Path, progress: Progress) -> Manifest:
    """The manifest of a backup that is whole. Raises Corrupt, naming everything that is wrong with it."""
    manifest = read_manifest(directory)
    wrong: list[str] = []
    for noted in manifest.everything:
        wrong += _differences(directory / noted.name, noted.bytes, noted.sha256, progress)
    _refuse(directory, wrong)
    _judge(directory, manifest)
    return manifest


def _judge(directory: Path, manifest: Manifest) -> None:
    """Whether the content is sound, and the files fit together. Raises Corrupt."""
    for taken in (manifest.state, manifest.intake):
        _refuse(directory, copies.faults(directory / taken.name, taken))
    _refuse(directory, copies.uncovered(directory / manifest.state.name, directory / manifest.intake.name))
    Authority.open(directory / "authority")


def _refuse(directory: Path, wrong: list[str]) -> None:
    if wrong:
        raise Corrupt(
            f"the backup {directory} is not sound: {'; '.join(wrong[:5])}",
            hint="use another one, and look at the disk that this one lies on",
        )


def read_manifest(directory: Path) -> Manifest:
    """Raises ConfigError when *directory* is no backup, or one of a later release."""
    try:
        data = (directory / MANIFEST).read_bytes()
    except OSError as error:
        hint = "name the directory that 'crossdock backup' made; without a manifest it was never finished"
        raise ConfigError(f"{directory} is not a backup: {error.strerror or error}", hint=hint) from error
    try:
        if msgspec.json.decode(data)["format"] > FORMAT:
            raise ConfigError(f"the backup {directory} is of a later release", hint="use that release or a newer one")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (*UNREADABLE, KeyError, TypeError) as error:
        raise Corrupt(f"the manifest of {directory} cannot be read: {error}", hint="use another backup") from error
    if any(copies.newer(taken, schema.HEAD) for taken in (manifest.state, manifest.intake)):
        raise ConfigError(
            f"the backup {directory} was made by release {manifest.version}, with a schema this one does not know",
            hint="use that release or a newer one; a store is never taken back to an older schema",
        )
    return manifest


def _write(data: DataDirectory, partial: Path, now_us: int, progress: Progress) -> Manifest:
    taken = []
    for path in (data.state, data.intake):  # in this order
        target = partial / path.name
        write_private(target, b"")
        noted = copies.take(path, target, lambda done, of, name=path.name: progress(f"copying {name}", done, of))  # type: ignore[misc]
        copies.sync(target)
        taken.append(msgspec.structs.replace(noted, sha256=_digest(target, progress)))
    manifest = Manifest(
        format=FORMAT,
        created_us=now_us,
        version=__version__,
        store=copies.store_id(data.state),
        state=taken[0],
        intake=taken[1],
        files=list(_others(data, partial)),
        agents=copies.agents(partial / data.state.name),
        audit=_head(partial / data.state.name, now_us),
    )
    write_private(partial / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    return manifest


def _head(state: Path, now_us: int) -> Head:
    with closing(connection.connect(state)) as db:
        seq, digest = audit.head(db)
    return Head(seq, digest.hex(), now_us)


def _others(data: DataDirectory, partial: Path) -> Iterable[File]:
    """The authorities, whose keys are as secret here as there, and the addresses agents know."""
    (partial / "authority").mkdir(mode=0o700)
    with Authority.lock(data.authority):  # no authority is added or retired between two files
        for path in (*(data.authority / name for name in files.names(data.authority)), data.addresses):
            if path == data.addresses and not path.exists():
                continue
            content = path.read_bytes()
            name = path.relative_to(data.root).as_posix()
            write_private(partial / name, content)
            yield File(name, len(content), hashlib.sha256(content).hexdigest())


def _differences(path: Path, size: int, sha256: str, progress: Progress) -> list[str]:
    if not path.exists():
        return [f"{path.name} is missing"]
    if path.stat().st_size != size:
        return [f"{path.name} has {path.stat().st_size} bytes, {size} were noted"]
    return [] if _digest(path, progress) == sha256 else [f"{path.name} is not what was written (SHA-256)"]


def _digest(path: Path, progress: Progress) -> str:
    whole, done = path.stat().st_size, 0
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(copies.STEP_BYTES):
            digest.update(chunk)
            done += len(chunk)
            progress(f"reading {path.name}", done, whole)
    return digest.hexdigest()


def _require_free(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target} exists already", hint="name a new directory: a backup never replaces another")


def _require_space(directory: Path, need: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < need:
        raise Retryable(
            f"the backup takes {need} bytes, {free} are free on the disk of {directory}",
            hint="make room there, or name a directory on another disk",
        )


def _publish(partial: Path, target: Path) -> None:
    """From here on it is there, and on the disk."""
    if target.exists():
        target.rmdir()
    sync_directory(partial)
    for attempt in range(50):  # on Windows a virus scanner may hold a file for a moment
        try:
            partial.rename(target)
        except PermissionError:
            if attempt == 49:
                raise
            time.sleep(0.1)
        else:
            break
    sync_directory(target.parent)


def sync_directory(directory: Path) -> None:
    """Names in it are on the disk. Windows has no such call and needs none."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
