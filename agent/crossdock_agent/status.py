"""The small file by which other commands know how the running agent is. Light: `status` imports little else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from crossdock.errors import UNREADABLE

LinkState = Literal["connected", "not connected"]


class SourceStatus(msgspec.Struct, frozen=True):
    source: str
    state: str
    records: int
    batches: int
    pending_records: int
    last_read_us: int
    error: str
    hint: str
    counters: dict[str, int]
    blocked_since_us: int = 0
    throttled_by: str = ""
    paused_since_us: int = 0  # 0 unless a person has paused it
    paused_by: str = ""


class LimitStatus(msgspec.Struct, frozen=True):
    """See `LimitHealth` of the link."""

    resource: str
    limit: str
    used: str
    throttling: bool
    waiting_bytes: int
    throttled_seconds: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `crossdock-agent status` shows. Times are microseconds since the epoch, UTC."""

    written_us: int
    started_us: int
    process: int
    version: str
    agent: str
    site: str
    controller: str
    link: LinkState
    link_error: str
    clock_offset_us: int | None  # the controller's clock minus this machine's
    certificate_expires_us: int
    revision: int
    outbox_batches: int
    outbox_records: int
    outbox_bytes: int
    outbox_limit_bytes: int
    disk_free_bytes: int
    oldest_us: int
    problems: list[str]
    sources: list[SourceStatus]
    in_bytes_per_hour: int | None = None  # None: not known yet
    out_bytes_per_hour: int | None = None
    fills_at_us: int = 0  # 0: not at these rates, or not known
    drained_at_us: int = 0
    limits: list[LimitStatus] = []
    on_probation: bool = False  # the revision that runs: its hold is not over


def read_status(path: Path) -> Status | None:
    """The last status written, if there is a readable one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Status)
    except (OSError, *UNREADABLE):
        return None
