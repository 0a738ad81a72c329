"""Local times without a zone, around the hour that happens twice when clocks go back.

A row written at 02:10 the second time stands before one written at 02:50 the first time, so what was settled at 02:49
would hide it. Near such a fold the look-back is two hours longer; nothing is converted and no time is refused, for the
database alone compares values. When clocks go forward an hour is missing, which hides nothing.

Where the zone is named, folds are known beforehand. Where it is not, a server whose clock is not at UTC is taken to
have them at any time: naming the zone saves the longer look-back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.times import SECOND_US

FOLD_SECONDS = 7_200.0  # clocks go back by an hour, in one place by half an hour; twice that
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def frame(settings: SqlTableSettings) -> str:
    """Whose wall clock stamps rows without a zone: "server", "utc" or "zone"."""
    if settings.zone is not None:
        return "zone"
    return settings.clock or ("utc" if settings.connection.sqlite is not None else "server")


def present(settings: SqlTableSettings, utc: int, server: int) -> int:
    """The wall clock of that frame, in microseconds: *utc* and *server* are the database's own clock."""
    where = frame(settings)
    if settings.zone is not None:
        return utc + _offset_us(settings.zone, utc)
    return utc if where == "utc" else server


class Folds:
    """How far to look back, pass by pass; it remembers what it saw of a server's clock."""

    def __init__(self, settings: SqlTableSettings) -> None:
        self._settings = settings
        self._apart_until = float("-inf")  # until then the server's clock counts as not being at UTC

    def look_back_seconds(self, utc: int, server: int, now: float) -> float:
        """*now* is the steady clock."""
        base = self._settings.look_back_seconds
        where = frame(self._settings)
        if self._settings.zone is not None:
            return base + FOLD_SECONDS if fold_is_near(self._settings.zone, utc, base) else base
        if where == "server" and abs(server - utc) >= SECOND_US:
            self._apart_until = now + 2 * FOLD_SECONDS  # London is at UTC just after its fold
        return base + FOLD_SECONDS if now < self._apart_until else base


def fold_is_near(zone: str, utc: int, look_back_seconds: float) -> bool:
    """True from two hours before clocks go back until two hours and the look-back after it."""
    around = int(FOLD_SECONDS) * SECOND_US
    return _offset_us(zone, utc + around) < _offset_us(zone, utc - around - int(look_back_seconds * SECOND_US))


def _offset_us(zone: str, utc: int) -> int:
    offset = (_EPOCH + timedelta(microseconds=utc)).astimezone(_zone(zone)).utcoffset()
    return offset // timedelta(microseconds=1) if offset is not None else 0


@cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
