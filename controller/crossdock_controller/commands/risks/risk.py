"""What may lock somebody out, how urgent it is, and by when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = ("locked", "critical", "urgent", "soon", "notice")  # the most urgent first
ALARM_DAYS = ((1, "critical"), (7, "urgent"), (14, "soon"), (30, "notice"))
LONG_LIFE_DAYS = 90  # a certificate that lives shorter than this has its alarms at the same shares of its life
DAY_US = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Risk:
    """*subject*: the agent, or what else it is about; *at_us*: when it locks out, 0 when that is not known (or it has);
    *sentence* says what is wrong, *next* what to do."""

    level: str
    kind: str
    subject: str
    at_us: int
    sentence: str
    next: str

    @property
    def pressing(self) -> bool:
        """Whether a person should act now."""
        return self.level in LEVELS[:3]


@dataclass(frozen=True, slots=True)
class Risks:
    """*risks*: the most urgent first. *pressing*: how many of them are locked, critical or urgent."""

    now_us: int
    pressing: int
    risks: list[Risk]


def alarm(left_us: int, life_us: int) -> str:
    """The level of what ends in *left_us*, of a life of *life_us*: 30, 14, 7 and 1 day before the end, or the same
    shares of a life shorter than 90 days (of 24 h: 8 h, 3 h 44 min, 1 h 52 min, 16 min). "locked" once it ended, ""
    while there is time."""
    if left_us <= 0:
        return "locked"
    scale = min(1.0, life_us / (LONG_LIFE_DAYS * DAY_US))
    return next((level for days, level in ALARM_DAYS if left_us <= days * DAY_US * scale), "")


def in_order(found: Sequence[Risk]) -> list[Risk]:
    """By level, then by when it locks out, what has no time last."""
    far = 2**62
    return sorted(found, key=lambda r: (LEVELS.index(r.level), r.at_us or far, r.kind, r.subject, r.sentence))
