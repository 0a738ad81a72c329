"""Growing waits for those whose attempts fail. Pure: time comes in, as seconds of any steady clock.

An address has a few failures free; each one more doubles its wait. Who has not failed does not wait for
them: a site enrols while another address guesses. Against many addresses at once there is a pace for all that failed
together, and another, of its own, for all that are new. Memory is bounded: the addresses that were quiet for longest
are forgotten first.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass

FREE_FAILURES = 5
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 300.0
FORGET_SECONDS = 3600.0  # after so long without a failure an address is as good as new
ADDRESSES = 4096
PACE_PER_SECOND = 20.0  # attempts of all addresses together: those that failed before, and those that did not, each
BURST = 100.0


def address_of(peer: str) -> str:
    """Whom to hold responsible for gRPC's *peer*: "10.0.0.5"; of IPv6 the /64, which one customer has to spare."""
    kind, _, rest = urllib.parse.unquote(peer).partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return peer[:100]
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:100]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if not address.is_loopback:
            return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


@dataclass(slots=True)
class _Record:
    failures: int
    last: float
    until: float  # refused before this moment


class _Bucket:
    """*burst* at once, *rate* a second in the long run."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._level, self._at = burst, 0.0

    def take(self, now: float) -> float:
        """0 when there was one to take, else the seconds until there is."""
        self._level = min(self._burst, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._level < 1.0:
            return (1.0 - self._level) / self._rate
        self._level -= 1.0
        return 0.0

    def give_back(self) -> None:
        self._level = min(self._burst, self._level + 1.0)


class Proving:
    """What a call is judged with. *proved*: whoever calls has shown a secret or a key of ours, so that what it is
    refused for is no guess; a service says so with `proved`."""

    proved = False


def proved(context: object) -> None:
    """The caller behind *context* knows a secret of ours, or has a key that we certified."""
    if isinstance(context, Proving):
        context.proved = True


class Throttle:
    """Ask `wait` before an attempt; say `failed` after one that failed, `passed` after one that did not. *paced*: those
    that have nothing against them, and those that have, go at a pace together."""

    def __init__(self, *, paced: bool = True) -> None:
        self._paced = paced
        self._records: OrderedDict[str, _Record] = OrderedDict()
        self._known = _Bucket(PACE_PER_SECOND, BURST)
        self._fresh = _Bucket(PACE_PER_SECOND, BURST)

    def __len__(self) -> int:
        return len(self._records)

    def wait(self, address: str, now: float) -> float:
        """0 when *address* may try now, else the seconds until it may."""
        record = self._record(address, now)
        if record is not None and record.until > now:
            return record.until - now
        if not self._paced:
            return 0.0
        return (self._fresh if record is None else self._known).take(now)

    def failed(self, address: str, now: float) -> None:
        record = self._record(address, now) or _Record(0, now, now)
        record.failures += 1
        record.last = now
        beyond = record.failures - FREE_FAILURES
        if beyond > 0:
            record.until = now + min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** min(beyond - 1, 30))
        self._records[address] = record
        self._records.move_to_end(address)
        while len(self._records) > ADDRESSES:
            self._records.popitem(last=False)

    def passed(self, address: str, now: float) -> None:
        """A good attempt costs nothing, and takes one failure back: a site of many hands behind one address is not
        held up by typing errors, and who owns one good token does not buy endless guesses with it."""
        record = self._record(address, now)
        if record is None:
            self._fresh.give_back()
            return
        self._known.give_back()
        record.failures -= 1
        if record.failures <= 0:
            del self._records[address]

    def _record(self, address: str, now: float) -> _Record | None:
        record = self._records.get(address)
        if record is not None and now - record.last > FORGET_SECONDS:
            del self._records[address]
            return None
        return record
