"""How full the outbox is and will be, watched every few seconds, kept over a restart, told before it is full.

A day of rates is a file of a few KiB beside the outbox, written every five minutes. It is a convenience: when it cannot
be written or read, the forecast begins anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE
from crossdock.siteconfig import LANE_SHARES
from crossdock_agent.files import write_atomic
from crossdock_agent.outbox import Outbox
from crossdock_agent.outbox.forecast import DAY_SECONDS, HOUR_SECONDS, Forecast, Linked, Reading, forecast
from crossdock_agent.problems import Problems

PROBLEM = "forecast"
WARN_SECONDS = 3 * DAY_SECONDS  # full within this: a person should know
WARN_SHARE = 0.8  # as full as this: a person should know, whenever it will be full
QUIET_SHARE = 0.1  # with a link, below this there is nothing to say: a burst is no outage
OUTAGE_SECONDS = 300.0  # a shorter break of the link is no outage
STALE_SECONDS = 7 * DAY_SECONDS  # rates that were kept before this tell nothing of today
MISSED_SECONDS = 60.0  # a longer gap between two samples: the machine slept, nobody watched


class _Kept(msgspec.Struct, frozen=True):
    saved_us: int
    spans: list[tuple[float, int]]


class Outlook:
    """*linked*: whether the controller is connected now. `sample` belongs to one thread; the rest is for any."""

    def __init__(
        self,
        outbox: Outbox,
        path: Path,
        problems: Problems,
        linked: Callable[[], bool],
        monotonic: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.forecast = Forecast()
        self._outbox = outbox
        self._path = path
        self._problems = problems
        self._is_linked = linked
        self._monotonic = monotonic
        self._wall_us = wall_us
        self._reading = self._load()
        self._linked = Linked()
        self._sampled_at = monotonic()
        self._unlinked_at = self._sampled_at
        self._seen_in = outbox.appended_bytes
        self._unwritable = False

    def sample(self) -> Forecast:
        """Look now; called every few seconds. Costs no statement."""
        now, total = self._monotonic(), self._outbox.appended_bytes
        held, room = self._outbox.held_bytes(), self._outbox.room_bytes()
        seconds, came = now - self._sampled_at, total - self._seen_in
        self._sampled_at, self._seen_in = now, total
        if self._outbox.takes("bulk") and seconds <= MISSED_SECONDS and self._reading.add(seconds, came):
            self._save()
        is_linked = self._is_linked()
        if is_linked:
            self._unlinked_at = now
            self._linked.add(now, total, held)
        else:
            self._linked.clear()
        self.forecast = forecast(self._reading, self._linked if is_linked else None, held, room)
        self._tell(is_linked, now - self._unlinked_at, held)
        return self.forecast

    def at_us(self, seconds: float | None) -> int:
        """The moment *seconds* from now; 0 for None."""
        return 0 if seconds is None else self._wall_us() + int(seconds * 1e6)

    def _tell(self, linked: bool, unlinked_seconds: float, held: int) -> None:
        ahead, limit = self.forecast, self._outbox.limits.max_bytes
        if linked and ahead.out_per_hour is None:  # the link just came: what was said stands until more is known
            return
        share = held / limit
        soon = ahead.fills_in is not None and ahead.fills_in <= WARN_SECONDS
        if linked:
            worth = share >= QUIET_SHARE and ahead.drains_in is None and (soon or share >= WARN_SHARE)
        else:
            worth = share >= WARN_SHARE or (soon and unlinked_seconds >= OUTAGE_SECONDS)
        if worth:
            self._problems.report(PROBLEM, sentence(ahead, held, limit, self._wall_us(), linked=linked))
        else:
            self._problems.clear(PROBLEM)

    def _load(self) -> Reading:
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return Reading()
        except (OSError, *UNREADABLE) as error:
            logger.bind(file=str(self._path)).warning("kept rates cannot be read, they are watched anew: {}", error)
            return Reading()
        age = (self._wall_us() - kept.saved_us) / 1e6
        return Reading.of(kept.spans) if 0 <= age <= STALE_SECONDS else Reading()

    def _save(self) -> None:
        kept = msgspec.json.encode(_Kept(self._wall_us(), self._reading.pairs()))
        try:
            write_atomic(self._path, kept, durable=False)
        except OSError as error:
            if not self._unwritable:
                logger.bind(file=str(self._path)).warning("rates cannot be kept for the next start: {}", error)
            self._unwritable = True
        else:
            self._unwritable = False


def sentence(ahead: Forecast, held: int, limit: int, now_us: int, *, linked: bool) -> str:
    """What a person should know of an outbox that fills. Rounded, so that it does not change with every look."""
    full = f"the outbox holds {percent(held, limit)} of its {size(limit)}"
    if ahead.fills_in is None:
        when = " and it is not known when it will be full"
    elif ahead.fills_in < 60:
        when = " and takes no more"
    else:
        when = f" and is full at about {moment(now_us, ahead.fills_in)} at the present rate"
    stops = f"bulk sources stop reading at {LANE_SHARES['bulk']:.0%}, standard at {LANE_SHARES['standard']:.0%}"
    what = "find out why it takes less than comes in" if linked else "bring the controller or the link back"
    return (
        f"{full}{when}; {stops}, critical when it is full, and the sources keep their data; {what}, "
        "or raise the site's outbox.max_bytes"
    )


def percent(held: int, limit: int) -> str:
    """In steps of five, rounded down: "less than 5%", "85%", "100%"."""
    steps = int(held / limit * 20) * 5
    return f"{steps}%" if steps else "less than 5%"


def moment(now_us: int, seconds: float) -> str:
    """ "Tue 1 Dec 14:00 UTC": rounded down to the hour or to ten minutes; up to five minutes when it is near, because a
    forecast of the past is none."""
    at = now_us / 1e6 + seconds
    if seconds < HOUR_SECONDS:
        at, step = at + 299.0, 300
    else:
        step = 600 if seconds < 6 * HOUR_SECONDS else 3600
    then = datetime.fromtimestamp(at - at % step, UTC)
    return f"{then:%a} {then.day} {then:%b %H:%M} UTC"


def size(count: float) -> str:
    """ "820 KB", "1.4 GB": decimal, as the settings are read."""
    for unit in ("bytes", "KB", "MB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 9.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
