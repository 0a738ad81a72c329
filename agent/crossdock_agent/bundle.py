"""The support bundle: a zip of what someone far away needs to see, and no secret and no record in it.

Each member goes through `redaction` by value and by shape; structures also by the names of their keys. What cannot be
found out stands there with the reason: a bundle is asked for when something is wrong.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sqlite3
import sys
import time
import zipfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from shutil import disk_usage
from typing import Any

import msgspec

from crossdock import __version__, keptlog, siteconfig
from crossdock.errors import CrossdockError
from crossdock.redaction import KNOWN
from crossdock_agent import check as checking
from crossdock_agent import policy
from crossdock_agent.configuration import read_last_good
from crossdock_agent.findings import said, without_sample
from crossdock_agent.identity import IdentityStore
from crossdock_agent.outbox import facts
from crossdock_agent.settings import Settings

LOG_BYTES = 4 * 1024 * 1024
FILES = 2000
_PACKAGES = (
    "grpcio",
    "protobuf",
    "msgspec",
    "zstandard",
    "loguru",
    "pyodbc",
    "watchdog",
    "apscheduler",
    "cryptography",
)
_README = """\
What the agent on this machine is, how it is and what it said lately. No record of any source is in it, and no secret:
passwords, tokens and private keys were replaced by ***; references (secret:NAME) were left as they are.

about.json          versions, operating system, process
status.json         what 'crossdock-agent status' shows
check.txt           what 'crossdock-agent check' finds
configuration.json  the site's last good configuration
settings.json       agent.toml and policy.toml as they hold now
paused.json         sources that a person has paused
outbox.json         how much is in the outbox, by source, and its schema
machine.json        disk, clock, zone, open files
files.json          names, sizes and times of the files in the state directory
agent.log           the last lines of the agent's log
commands.log        the last commands from the centre
"""


def made(settings: Settings) -> bytes:
    """The zip. Whatever fails is told in its place."""
    structures: dict[str, Callable[[], Any]] = {
        "about.json": _about,
        "status.json": lambda: json.loads(settings.status_path.read_bytes()),
        "configuration.json": lambda: _configuration(settings),
        "settings.json": lambda: _settings(settings),
        "paused.json": lambda: json.loads(settings.pauses_path.read_bytes()) if settings.pauses_path.exists() else {},
        "outbox.json": lambda: _outbox(settings),
        "machine.json": lambda: _machine(settings),
        "files.json": lambda: _files(settings.directory),
    }
    texts: dict[str, Callable[[], str]] = {
        "README.txt": lambda: _README,
        "check.txt": lambda: _check(settings),
        "agent.log": lambda: _tail(settings.own_log_path),
        "commands.log": lambda: _tail(settings.commands_log_path),
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, KNOWN.clean(_told(text)))
        for name, make in structures.items():
            found = KNOWN.structure(msgspec.to_builtins(_told(make)))
            archive.writestr(name, KNOWN.clean(json.dumps(found, indent=2, ensure_ascii=False)))
    return target.getvalue()


def _told(make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (CrossdockError, OSError, ValueError) as error:
        return f"could not be found out: {type(error).__name__}: {error}"


def _about() -> dict[str, Any]:
    return {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "crossdock": __version__,
        "python": sys.version,
        "frozen": bool(getattr(sys, "frozen", False)),
        "platform": platform.platform(),
        "host": platform.node(),
        "process": os.getpid(),
        "sqlite": sqlite3.sqlite_version,
        "packages": {name: _version(name) for name in _PACKAGES},
        "variables": sorted(name for name in os.environ if name.startswith("CROSSDOCK_")),  # their names alone
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not known"


def _configuration(settings: Settings) -> Any:
    kept = read_last_good(settings.config_path)
    if kept is None:
        return "none yet"
    return {"revision": kept.revision, "hash": kept.hash, "site": msgspec.to_builtins(siteconfig.decode(kept.config))}


def _settings(settings: Settings) -> dict[str, Any]:
    return {
        "agent": msgspec.to_builtins(settings),
        "policy": _told(lambda: msgspec.to_builtins(policy.read(settings.policy_path))),
        "identity": _told(lambda: _identity(settings)),
    }


def _identity(settings: Settings) -> dict[str, Any]:
    identity = IdentityStore(settings.directory).current()
    return {
        "agent": identity.agent, "site": identity.site, "controller": identity.link_address,
        "issued_us": identity.issued_us, "expires_us": identity.expires_us,
    }  # fmt: skip


def _outbox(settings: Settings) -> dict[str, Any]:
    path = settings.outbox_path
    beside = {file.name: file.stat().st_size for file in path.parent.glob(f"{path.name}*")}
    return {**facts(path), "files": beside}


def _machine(settings: Settings) -> dict[str, Any]:
    total, used, free = disk_usage(settings.directory)
    load = os.getloadavg() if hasattr(os, "getloadavg") else None
    return {
        "disk": {"total_bytes": total, "used_bytes": used, "free_bytes": free},
        "cpus": os.cpu_count(),
        "load": load,
        "clock": datetime.now(UTC).isoformat(),
        "zone": [*time.tzname],
        "utc_offset_seconds": -time.timezone,
        "monotonic_seconds": time.monotonic(),
    }


def _files(directory: Path) -> list[dict[str, Any]]:
    """Names, sizes, times; nothing is opened."""
    found = []
    for path in sorted(directory.rglob("*"))[:FILES]:
        try:
            about = path.lstat()
        except FileNotFoundError:  # of a write that ended meanwhile
            continue
        found.append({
            "name": path.relative_to(directory).as_posix(), "bytes": about.st_size, "mode": f"{about.st_mode:o}",
            "changed": datetime.fromtimestamp(about.st_mtime, UTC).isoformat(timespec="seconds"),
        })  # fmt: skip
    return found


def _check(settings: Settings) -> str:
    findings = [without_sample(finding) for finding in checking.check(settings)]
    return "".join(f"{line}\n" for finding in findings for line in said(finding))


def _tail(path: Path | None) -> str:
    if path is None:
        return "this agent keeps no log of its own (own_log_mb = 0)\n"
    return "".join(f"{line}\n" for line in _last(keptlog.read(path), LOG_BYTES))


def _last(lines: Iterable[str], limit: int) -> list[str]:
    kept = list(lines)  # five files of a few megabytes at most
    size = 0
    for number, line in enumerate(reversed(kept)):
        size += len(line) + 1
        if size > limit:
            return kept[len(kept) - number :]
    return kept
