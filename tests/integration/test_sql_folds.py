"""Local times without a zone through the nights in which clocks go back and forward: each row once, none hidden."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from crossdock_agent.sql.folds import Folds, fold_is_near
from crossdock_agent.sql.settings import SqlTableSettings
from support.table_site import Sqlite, TableSite, site_of

START = datetime(2024, 6, 1, 12, tzinfo=UTC)  # where the site's clock begins
AMSTERDAM = ZoneInfo("Europe/Amsterdam")
BACK, FORWARD = datetime(2024, 10, 27, 1, tzinfo=UTC), datetime(2024, 3, 31, 1, tzinfo=UTC)
SETTINGS = {"table": "t", "mode": "timestamp", "column": "at", "key": ["id"], "zone": "Europe/Amsterdam"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Sqlite]:
    opened = Sqlite(tmp_path / "erp.db")
    opened.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT)")
    opened.execute("CREATE INDEX t_at ON t (at, id)")
    yield opened
    opened.close()


def night(database: Sqlite, site: TableSite, around: datetime, restarts: frozenset[int] = frozenset()) -> list[int]:
    """A row every 45 s, stamped by the wall clock, for three hours around the change, and a poll after each."""
    seen: list[int] = []
    moment = around - timedelta(minutes=90)
    for number in range(240):
        moment += timedelta(seconds=45)
        site.seconds = (moment - START).total_seconds()
        stamp = moment.astimezone(AMSTERDAM).strftime("%Y-%m-%d %H:%M:%S")
        database.execute("INSERT INTO t VALUES (?, ?)", [number, stamp])
        if number in restarts:
            site.restart()
        seen += [row[0] for row in site.poll()]
    return seen + [row[0] for row in site.cycle(passes=60, advance=60)]


@pytest.mark.parametrize("restarts", [frozenset(), frozenset(range(100, 200, 7))])
@pytest.mark.parametrize("around", [BACK, FORWARD])
def test_every_row_of_the_night_the_clocks_change_comes_once(
    database: Sqlite, around: datetime, restarts: frozenset[int]
) -> None:
    with site_of(database, **SETTINGS, poll_seconds=45) as site:
        assert Counter(night(database, site, around, restarts)) == Counter(range(240))


def test_without_the_longer_look_back_rows_of_the_second_hour_were_hidden(
    database: Sqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossdock_agent.sql.folds.FOLD_SECONDS", 0.0)
    with site_of(database, **SETTINGS, poll_seconds=45) as site:
        assert len(night(database, site, BACK)) < 240


def test_a_time_that_happened_twice_or_never_is_read_as_it_stands(database: Sqlite) -> None:
    database.execute("INSERT INTO t VALUES (1, '2024-10-27 02:30:00'), (2, '2024-10-27 02:30:00')")
    database.execute("INSERT INTO t VALUES (3, '2024-03-31 02:30:00'), (4, '2024-03-31 03:30:00')")
    with site_of(database, **SETTINGS) as site:
        assert sorted(row[1] for row in site.poll()) == [
            "2024-03-31 02:30:00", "2024-03-31 03:30:00", "2024-10-27 02:30:00", "2024-10-27 02:30:00",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("minutes", "near"), [(-121, False), (-119, True), (0, True), (60, True), (120, True), (122, False)]
)
def test_a_fold_is_near_for_two_hours_on_both_sides_and_the_look_back(minutes: int, near: bool) -> None:
    moment = int((BACK + timedelta(minutes=minutes)).timestamp() * 1e6)
    assert fold_is_near("Europe/Amsterdam", moment, 60.0) is near
    forward = int((FORWARD + timedelta(minutes=minutes)).timestamp() * 1e6)
    assert not fold_is_near("Europe/Amsterdam", forward, 60.0)


def test_a_server_that_is_not_at_utc_is_taken_to_have_folds_unless_the_zone_is_named() -> None:
    settings = {"connection": {"odbc": "x", "dialect": "mariadb"}, "table": "t", "mode": "timestamp"}
    hour = 3_600_000_000

    def folds(**more: object) -> Folds:
        import msgspec

        return Folds(msgspec.convert({**settings, "column": "at", "key": ["id"], **more}, SqlTableSettings))

    at_utc = folds()
    assert at_utc.look_back_seconds(0, 0, 0.0) == 60
    assert at_utc.look_back_seconds(0, hour, 10.0) == 7260
    assert at_utc.look_back_seconds(0, 0, 3600.0) == 7260  # London just after its fold
    assert at_utc.look_back_seconds(0, 0, 20_000.0) == 60
    assert folds(clock="utc").look_back_seconds(0, hour, 0.0) == 60
    assert folds(zone="America/New_York").look_back_seconds(0, -5 * hour, 0.0) == 60


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"zone": "Mars/Olympus"}, "zone 'Mars/Olympus' is not known"), ({"clock": "utc", "zone": "UTC"}, "one of them")],
)
def test_a_zone_is_a_known_one_and_stands_in_place_of_the_clock(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SqlTableSettings(
            connection={"sqlite": "x"},
            table="t",
            mode="timestamp",
            column="at",
            key=["id"],
            **settings,  # type: ignore[arg-type]
        )
