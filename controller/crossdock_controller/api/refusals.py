"""How often an address may fail, and what of it is written down: guessing is slow, and fills neither log nor disk."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from crossdock.errors import Retryable

FAILURES = 10  # in a row, then one each SECONDS_EACH
SECONDS_EACH = 6.0
NOTES = 5  # entries of the audit log for one address in a row, then one each NOTE_SECONDS
NOTE_SECONDS = 60.0
ADDRESSES = 10_000  # known at once; the ones seen longest ago are forgotten first


class Busy(Retryable):
    """Too many calls of one caller: this one was not looked at."""


@dataclass(slots=True)
class _Bucket:
    at: float
    left: float
    missed: int = 0


@dataclass(slots=True)
class Buckets:
    """A bucket of *size* for each address, refilled by one each *seconds*. For one thread (the event loop)."""

    size: int
    seconds: float
    clock: Callable[[], float] = time.monotonic
    _known: OrderedDict[str, _Bucket] = field(default_factory=OrderedDict)

    def left(self, address: str) -> bool:
        """Whether there is one to take."""
        return self._bucket(_group(address)).left >= 1

    def take(self, address: str) -> bool:
        """Take one; False when there is none."""
        bucket = self._bucket(_group(address))
        if bucket.left < 1:
            bucket.missed += 1
            return False
        bucket.left -= 1
        return True

    def missed(self, address: str) -> int:
        """How many were not given since the last one that was."""
        bucket = self._bucket(_group(address))
        missed, bucket.missed = bucket.missed, 0
        return missed

    def _bucket(self, group: str) -> _Bucket:
        now = self.clock()
        bucket = self._known.pop(group, None) or _Bucket(now, self.size)
        bucket.left = min(self.size, bucket.left + (now - bucket.at) / self.seconds)
        bucket.at = now
        self._known[group] = bucket
        if len(self._known) > ADDRESSES:
            self._known.popitem(last=False)
        return bucket


def _group(address: str) -> str:
    """An IPv6 network of 64 bits is one caller: anybody has as many addresses of it as they like."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6 and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
