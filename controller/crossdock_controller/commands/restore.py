"""A backup becomes the data of a controller again. What was there is set aside, never deleted.

The new files are made whole beside the old ones; while names change hands a marker stands in the directory, and no
controller starts on it. An interrupted restore is given again.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from crossdock.errors import ConfigError, CrossdockError, Retryable
from crossdock.lock import SingleInstance
from crossdock_controller.commands import backup, kept_authority
from crossdock_controller.commands.backup import Progress
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import copies, migrate
from crossdock_controller.store.revocations import Revocation

LOCK_SECONDS = 5.0  # a controller that is just stopping


@dataclass(frozen=True, slots=True)
class Restored:
    """*before_event*: the next event gets a number beyond it. *revoked_again* and *unknown* (enrolled since the backup)
    are known only where the replaced store could be read: *known_since*."""

    data: str
    created_us: int
    version: str
    store: str
    before_event: int
    replaced: str
    agents: list[copies.AgentState]
    known_since: bool
    revoked_again: list[str]
    unknown: list[copies.AgentState]
    authorities_kept: bool = False  # those of the replaced data, which had gone on since the backup
    disabled_again: list[str] = field(default_factory=list)  # users that were disabled or removed since


def restore(
    data: DataDirectory, directory: Path, now_us: int, progress: Progress, *, replace: bool, by: str = "controller"
) -> Restored:
    """Make *data* what the backup in *directory* holds, on behalf of *by*. No controller may run on it.

    Raises Refused when one does, ConfigError when there is something and *replace* is not given, Corrupt when the
    backup is not sound: nothing was changed then.
    """
    data.prepare()
    with SingleInstance(data.lock, LOCK_SECONDS):
        unfinished = data.restoring.exists()
        if _contents(data) and not (replace or unfinished):
            raise ConfigError(
                f"{data.root} holds a controller's data already",
                hint="give --replace to set that aside (nothing is deleted), or name another --data directory",
            )
        manifest = backup.verify(directory, progress)
        free = shutil.disk_usage(data.root).free
        if free < manifest.bytes + backup.SPARE_BYTES:
            raise Retryable(
                f"the restore takes {manifest.bytes} bytes, {free} are free on the disk of {data.root}",
                hint="make room there; what is to be set aside stays until you delete it",
            )
        lost = _lost(data, manifest.created_us)
        new = data.root / "restoring.partial"
        _copy(directory, new, manifest, progress)
        known = {agent.agent: agent for agent in manifest.agents}
        again = [a.agent for a in lost.agents if a.state == "revoked" and known.get(a.agent, a).state != "revoked"]
        migrate(new / "state.db")
        restored_users = copies.users(new / "state.db")
        disabled = sorted({name for since in lost.users for name in restored_users.gone(since)})
        store, before = copies.make_restored(
            new / "state.db",
            backup_us=manifest.created_us,
            now_us=now_us,
            beyond=lost.last_event,
            revoked=again,
            disabled=disabled,
            void=lost.void,
            by=by,
            source=str(directory),
        )
        copies.free(new / "intake.db")
        for name in ("state.db", "intake.db"):
            copies.sync(new / name)
        kept = kept_authority.newest(new / "authority", _authorities(data))
        if kept is not None:
            kept_authority.put(kept, new / "authority")
        aside = _exchange(data, new, now_us)
        unknown = [a for a in lost.agents if a.agent not in known and a.state == "active"]
        return Restored(
            str(data.root), manifest.created_us, manifest.version, store.hex(), before, str(aside) if aside else "",
            manifest.agents, lost.known, again, unknown, kept is not None, disabled,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Lost:
    """What the store that is replaced still says."""

    agents: list[copies.AgentState]
    last_event: int
    known: bool
    users: list[copies.Users]
    void: list[Revocation]


def _lost(data: DataDirectory, since_us: int) -> _Lost:
    """Nothing, where it cannot be read: that may be why it is replaced. A restore that was interrupted may have set it
    aside already."""
    aside = sorted(data.root.glob("replaced-*/state.db")) if data.restoring.exists() else []
    agents: dict[str, copies.AgentState] = {}
    last_event, known = 0, False
    users: list[copies.Users] = []
    void: dict[str, Revocation] = {}
    for path in (data.state, *aside):
        try:
            found, last = copies.agents(path), copies.last_event(path)
            users.append(copies.users(path))
            void |= {r.agent: r for r in copies.revoked_since(path, since_us)}
        except (sqlite3.Error, CrossdockError):
            continue
        last_event, known = max(last_event, last), True
        agents |= {a.agent: a for a in found if a.agent not in agents or a.state == "revoked"}
    return _Lost(list(agents.values()), last_event, known, users, list(void.values()))


def _authorities(data: DataDirectory) -> list[Path]:
    aside = sorted(data.root.glob("replaced-*/authority")) if data.restoring.exists() else []
    return [data.authority, *aside]


def _contents(data: DataDirectory) -> list[Path]:
    """What a controller left in *data*."""
    ours = (data.state, data.intake)
    files = [p.with_name(p.name + suffix) for p in ours for suffix in ("", "-wal", "-shm")]
    return [p for p in (*files, data.authority, data.addresses, data.audit_heads) if p.exists()]


def _copy(directory: Path, new: Path, manifest: backup.Manifest, progress: Progress) -> None:
    if new.exists():  # of a restore that was interrupted
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    (new / "authority").mkdir(mode=0o700)
    for file in manifest.everything:
        progress(f"restoring {file.name}", 0, file.bytes)
        target = new / file.name
        shutil.copyfile(directory / file.name, target)
        target.chmod(0o600)
        copies.sync(target)


def _exchange(data: DataDirectory, new: Path, now_us: int) -> Path | None:
    """Old files out, new ones in; where the old ones are now."""
    there = _contents(data)  # only now: reading a store may have folded its log away
    data.restoring.write_text("a restore was interrupted here; give it again\n", encoding="utf-8")
    backup.sync_directory(data.root)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_us / 1e6))
    aside = data.root / f"replaced-{stamp}"
    if there:
        aside.mkdir(mode=0o700, exist_ok=True)
        for path in there:
            path.rename(aside / path.name)
    # addresses first: whoever finds state.db finds everything
    for name in ("addresses.json", "authority", "intake.db", "state.db"):
        if (new / name).exists():
            (new / name).rename(data.root / name)
    shutil.rmtree(new)
    backup.sync_directory(data.root)
    data.restoring.unlink()
    backup.sync_directory(data.root)
    return aside if there else None
