"""A site's part of the configuration, as it travels: compiled by the controller, signed, validated alone by the agent.

The settings of each source stay a plain mapping here; the agent's source module owns their type (and exports the JSON
Schema by which the controller checks them: `crossdock/schemas/sources.json`).
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from crossdock.errors import ConfigError

Lane = Literal["critical", "standard", "bulk"]
LANES: tuple[Lane, ...] = ("critical", "standard", "bulk")
LANE_WEIGHTS: dict[str, int] = {"critical": 8, "standard": 3, "bulk": 1}  # shares of the uplink under backlog


class SourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    kind: str
    lane: Lane = "standard"
    settings: dict[str, Any] = {}


class OutboxConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_bytes: int = 10 * 1024**3
    min_free_disk_bytes: int = 1024**3


class SiteConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    site: str
    revision: int
    sources: list[SourceConfig]
    outbox: OutboxConfig = msgspec.field(default_factory=OutboxConfig)
    stop_all: bool = False  # the only way to run no source on purpose


def encode(config: SiteConfig) -> bytes:
    return msgspec.json.encode(config, order="deterministic")


def decode(data: bytes) -> SiteConfig:
    """Raises ConfigError when *data* is not a site configuration, or is an empty one that does not say `stop_all`."""
    try:
        config = msgspec.json.decode(data, type=SiteConfig)
    except msgspec.DecodeError as error:
        raise ConfigError(f"site configuration cannot be read: {error}") from error
    if not config.sources and not config.stop_all:
        raise ConfigError(
            "site configuration has no source", hint="set 'stop_all: true' on the site to stop it on purpose"
        )
    names = [s.name for s in config.sources]
    doubled = sorted({n for n in names if names.count(n) > 1})
    if doubled:
        raise ConfigError(f"site configuration names a source twice: {', '.join(doubled)}")
    return config


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
