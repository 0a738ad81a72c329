"""What a heartbeat says of each limit: what holds, what was used lately, what it holds back."""

from __future__ import annotations

from collections.abc import Callable

from crossdock.v1.link_pb2 import LimitHealth
from crossdock_agent.limits.resources import BandwidthLimit, MeasuredLimit, MemoryLimit
from crossdock_agent.limits.rules import ruling_words
from crossdock_agent.limits.words import percent, rate, size


def bandwidth(limit: BandwidthLimit, now: float, wall_us: int, outbox_bytes: int) -> LimitHealth:
    ruling = limit.look(now, wall_us)
    throttling = ruling.rate is not None and limit.held.is_recent(now)
    return LimitHealth(
        resource="bandwidth",
        limit=ruling_words(ruling),
        used=rate(limit.meter.rate(limit.total, now)),
        throttling=throttling,
        waiting_bytes=outbox_bytes if throttling else 0,
        throttled_seconds=int(limit.held.seconds),
    )


def cpu(limit: MeasuredLimit, now: float) -> LimitHealth:
    return _measured("cpu", f"{percent(limit.rate)} of a core", percent, limit, now)


def disk(limit: MeasuredLimit, now: float) -> LimitHealth:
    return _measured("disk", rate(limit.rate), rate, limit, now)


def _measured(resource: str, words: str, used: Callable[[float], str], limit: MeasuredLimit, now: float) -> LimitHealth:
    return LimitHealth(
        resource=resource,
        limit=words,
        used=used(limit.meter.rate(limit.total, now)),
        throttling=limit.held.is_recent(now),
        throttled_seconds=int(limit.held.seconds),
    )


def memory(limit: MemoryLimit, now: float) -> LimitHealth:
    return LimitHealth(
        resource="memory",
        limit=size(limit.ceiling),
        used=size(limit.resident),
        throttling=limit.is_over or limit.held.is_recent(now),
        throttled_seconds=int(limit.held.seconds),
    )


def too_little_memory(limit: MemoryLimit) -> str:
    return (
        f"the agent needs {limit.resident / 1e6:.0f} MB of memory and its limit is {size(limit.ceiling)}: what is not "
        "critical is read in small steps; raise limits.memory of the site, or have fewer sources at this agent"
    )
