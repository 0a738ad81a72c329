"""A site's part of the configuration, as it travels: compiled by the controller, signed, validated alone by the agent.

The settings of each source stay a plain mapping here; the agent's source module owns their type (and exports the JSON
Schema by which the controller checks them: `crossdock/schemas/sources.json`).
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import msgspec

from crossdock import cron, quiet
from crossdock.errors import UNREADABLE, ConfigError
from crossdock.limits import Limits
from crossdock.names import PLAIN

Lane = Literal["critical", "standard", "bulk"]
LANES: tuple[Lane, ...] = ("critical", "standard", "bulk")
LANE_WEIGHTS: dict[str, int] = {"critical": 8, "standard": 3, "bulk": 1}  # shares of the uplink under backlog
LANE_SHARES: dict[str, float] = {"critical": 1.0, "standard": 0.95, "bulk": 0.9}  # of the outbox, from the bottom up

KEEP_BYTES = 1024**3  # acknowledged batches an agent keeps

# What a site does not use is left out of its bytes, so that agents of an older release go on reading them.


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When passes begin, instead of every `poll_seconds` of the kind. Either an interval or a crontab line."""

    every_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=7 * 86400)] | None = None
    cron: str | None = None
    jitter_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] | None = None

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.cron is None):
            raise ValueError("schedule needs either 'every_seconds' or 'cron'; leave it out to go by 'poll_seconds'")
        if self.cron is not None:
            cron.parse(self.cron)
        if self.every_seconds is not None and (self.jitter_seconds or 0) > self.every_seconds / 2:
            raise ValueError(
                f"'jitter_seconds' {self.jitter_seconds} is over half of 'every_seconds'; "
                f"at most {self.every_seconds / 2:g}"
            )


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much of the host and the server a source may use. A MB is a million bytes."""

    max_mb_per_second: Annotated[float, msgspec.Meta(gt=0, le=100_000)] | None = None
    max_rows_per_poll: Annotated[int, msgspec.Meta(ge=1)] | None = None
    cpu_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None


class SourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    kind: str
    lane: Lane = "standard"
    settings: dict[str, Any] = {}
    schedule: Schedule | None = None
    quiet: tuple[str, ...] = ()
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if not PLAIN.fullmatch(self.name):
            raise ValueError(f"{self.name[:100]!r} is no name for a source: letters, digits, '.', '_' and '-'")
        quiet.parse_all(self.quiet)

    @property
    def goes_by_the_clock(self) -> bool:
        """Whether the zone of its site matters to it."""
        return bool(self.quiet) or (self.schedule is not None and self.schedule.cron is not None)


class WriterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where documents of the centre may be written at the site; the settings are those of the agent's writer."""

    name: str
    kind: str
    settings: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not PLAIN.fullmatch(self.name):
            raise ValueError(f"{self.name[:100]!r} is no name for a writer: letters, digits, '.', '_' and '-'")


class OutboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    max_bytes: int = 10 * 1024**3
    min_free_disk_bytes: int = 1024**3
    keep_acknowledged_hours: float = 48.0  # for a controller that is restored from a backup; 0: none is kept
    keep_acknowledged_bytes: int | None = None  # default: KEEP_BYTES, at most a fifth of max_bytes

    @property
    def keep_bytes(self) -> int:
        """How much that is acknowledged may stay."""
        if self.keep_acknowledged_hours <= 0:
            return 0
        if self.keep_acknowledged_bytes is not None:
            return self.keep_acknowledged_bytes
        return min(KEEP_BYTES, self.max_bytes // 5)


class SiteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    site: str
    revision: int
    sources: list[SourceConfig]
    outbox: OutboxConfig = msgspec.field(default_factory=OutboxConfig)
    stop_all: bool = False  # the only way to run no source on purpose
    zone: str = "UTC"  # IANA name, of schedules, quiet hours and windows of bandwidth
    limits: Limits | None = None
    writers: tuple[WriterConfig, ...] = ()


def without_writers(data: bytes) -> bytes:
    """The same for an agent of a release that does not write back, and would refuse what it does not know."""
    config = msgspec.json.decode(data, type=SiteConfig)
    return encode(msgspec.structs.replace(config, writers=())) if config.writers else data


def encode(config: SiteConfig) -> bytes:
    return msgspec.json.encode(config, order="deterministic")


def decode(data: bytes) -> SiteConfig:
    """Raises ConfigError when *data* is not a site configuration, or is an empty one that does not say `stop_all`."""
    try:
        config = msgspec.json.decode(data, type=SiteConfig)
    except UNREADABLE as error:
        raise ConfigError(f"site configuration cannot be read: {error}") from error
    if not config.sources and not config.writers and not config.stop_all:
        raise ConfigError(
            "site configuration has no source", hint="set 'stop_all: true' on the site to stop it on purpose"
        )
    names = [s.name for s in config.sources]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ConfigError(f"site configuration names a source twice: {', '.join(doubled)}")
    writers = [w.name for w in config.writers]
    if len(set(writers)) < len(writers):
        raise ConfigError("site configuration names a writer twice")
    return config


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
