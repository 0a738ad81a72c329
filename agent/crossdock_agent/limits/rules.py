"""A site's limits, found sound on this machine, and in words."""

from __future__ import annotations

from dataclasses import dataclass, field

from crossdock.limits import Limits
from crossdock_agent.limits.windows import Ruling, Windows
from crossdock_agent.limits.words import percent, rate, size


@dataclass(frozen=True, slots=True)
class Rules:
    """Limits that were found sound here."""

    limits: Limits = field(default_factory=Limits)
    windows: Windows | None = None


def rules_of(limits: Limits | None, zone: str) -> Rules:
    """Raises ConfigError when this machine does not know *zone* and needs to."""
    if limits is None:
        return Rules()
    return Rules(limits, Windows(limits.bandwidth, zone) if limits.bandwidth is not None else None)


def describe(rules: Rules, wall_us: int) -> str:
    """What *rules* allow at a moment, as `status` says it of a running agent."""
    limits, said = rules.limits, []
    if rules.windows is not None:
        said.append(f"bandwidth {ruling_words(rules.windows.at(wall_us))} now")
    if limits.cpu_percent is not None:
        said.append(f"cpu {percent(limits.cpu_percent / 100)} of a core")
    if limits.disk is not None:
        said.append(f"disk {rate(limits.disk)}")
    if limits.disk_idle:
        said.append("disk when idle")
    if limits.memory is not None:
        said.append(f"memory {size(limits.memory)}")
    return ", ".join(said)


def ruling_words(ruling: Ruling) -> str:
    limit = rate(ruling.rate) if ruling.rate is not None else "unlimited"
    return f"{limit} ({ruling.hours})" if ruling.hours else limit
