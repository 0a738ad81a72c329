"""Retry arithmetic: pure, so that it is tested without waiting. Who retries what is decided elsewhere."""

from __future__ import annotations

import random
from dataclasses import dataclass

_MAX_EXPONENT = 32  # 2**32 times any base is over every maximum


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter in its upper half: a fleet that fails together does not return together."""

    first_seconds: float = 0.5
    factor: float = 2.0
    max_seconds: float = 60.0

    def delay(self, attempt: int, rng: random.Random, *, at_least: float | None = None) -> float:
        """Seconds to wait after failed *attempt* (from 1); never less than *at_least* (a server's Retry-After)."""
        exponent = min(max(attempt, 1) - 1, _MAX_EXPONENT)
        ceiling = min(self.max_seconds, self.first_seconds * self.factor**exponent)
        delay = ceiling * (0.5 + rng.random() / 2)
        return max(delay, at_least) if at_least is not None else delay
