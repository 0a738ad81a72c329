"""The ledger of certificates knows which one of an agent is the newest, whatever the clocks say."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from crossdock_controller.store import certificates, connection, migrate
from crossdock_controller.store.certificates import Certificate


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    migrate(tmp_path / "state.db")
    with closing(connection.connect(tmp_path / "state.db")) as opened:
        yield opened


def issue(db: sqlite3.Connection, serial: str, issued_us: int = 0, agent: str = "atl1", **more: object) -> Certificate:
    made = Certificate(serial, agent, "ca1", f"key of {serial}", issued_us, issued_us + 100, "renewal", **more)  # type: ignore[arg-type]
    certificates.record(db, made)
    return made


def serials(found: list[Certificate]) -> list[str]:
    return [c.serial for c in found]


def test_a_certificate_is_the_newest_from_its_first_use_on_and_the_one_before_is_behind(db: sqlite3.Connection) -> None:
    first, second = issue(db, "aa"), issue(db, "bb")
    assert certificates.used(db, first, 7).use_order == 1
    assert certificates.newer_in_use(db, first) is None, "bb was never used: its answer may have been lost"
    assert certificates.used(db, second, 8).use_order == 2
    assert certificates.used(db, second, 9).first_used_us == 8, "only the first use counts"
    newer = certificates.newer_in_use(db, certificates.get(db, "aa") or first)
    assert newer is not None
    assert newer.serial == "bb"
    certificates.used(db, first, 10)
    assert certificates.newer_in_use(db, second) is None, "a copy that shows the old one does not become the newest"


def test_the_order_of_use_counts_also_when_the_controllers_clock_went_back_a_year(db: sqlite3.Connection) -> None:
    ahead, corrected = issue(db, "aa", 31_536_000_000_000), issue(db, "bb", 5)
    certificates.used(db, ahead, 31_536_000_000_001)
    certificates.used(db, corrected, 6)
    assert certificates.newer_in_use(db, certificates.get(db, "bb") or corrected) is None
    assert certificates.newer_in_use(db, certificates.get(db, "aa") or ahead) is not None


def test_one_that_was_never_used_is_behind_once_a_later_one_was(db: sqlite3.Connection) -> None:
    lost, kept = issue(db, "aa"), issue(db, "bb")
    certificates.used(db, kept, 7)
    assert certificates.newer_in_use(db, certificates.get(db, "aa") or lost) is not None
    assert certificates.used(db, lost, 8).use_order == 0


def test_a_certificate_of_a_release_without_a_ledger_comes_in_when_it_is_used(db: sqlite3.Connection) -> None:
    before = Certificate("ee", "atl1", "ca1", "key", 50, 150)
    row = certificates.used(db, before, 60)
    assert (row.how, row.use_order, row.first_used_us) == ("seen", 1, 60)
    later = issue(db, "ff", 120)
    certificates.used(db, later, 121)
    older = certificates.used(db, Certificate("dd", "atl1", "ca1", "key", 20, 120), 122)
    assert (older.how, older.use_order) == ("seen", 0), "it is older than what the agent uses"
    assert certificates.newer_in_use(db, older) is not None


def test_what_an_agent_may_hold_is_its_newest_in_use_and_whatever_was_issued_after_it(db: sqlite3.Connection) -> None:
    for serial in ("aa", "bb", "cc", "dd"):
        issue(db, serial)
    issue(db, "xx", agent="rtm1")
    assert serials(certificates.held(db)["atl1"]) == ["aa", "bb", "cc", "dd"]
    for at, serial in enumerate(("aa", "cc")):
        certificates.used(db, certificates.get(db, serial) or pytest.fail("it is there"), at + 1)
    held = certificates.held(db)
    assert sorted(serials(held["atl1"])) == ["cc", "dd"]
    assert serials(held["rtm1"]) == ["xx"]


def test_what_ended_long_ago_is_forgotten_but_never_the_newest_of_an_agent(db: sqlite3.Connection) -> None:
    for serial, issued_us in (("aa", 0), ("bb", 1000), ("cc", 2000), ("dd", 50)):
        issue(db, serial, issued_us)
    issue(db, "xx", 0, agent="rtm1")
    for at, serial in enumerate(("aa", "bb", "cc")):
        certificates.used(db, certificates.get(db, serial) or pytest.fail("it is there"), at + 1)
    certificates.used(db, certificates.get(db, "xx") or pytest.fail("it is there"), 9)
    assert certificates.prune(db, 5000, limit=2) == 2
    assert certificates.prune(db, 5000) == 1
    assert serials(certificates.of_agent(db, "atl1")) == ["cc"]
    assert serials(certificates.of_agent(db, "rtm1")) == ["xx"]
    assert certificates.prune(db, 5000) == 0


def test_what_an_agent_trusts_is_what_it_said_last_and_each_keeps_the_time_of_its_first_word(
    db: sqlite3.Connection,
) -> None:
    certificates.confirm(db, "atl1", ["ca1"], 5)
    certificates.confirm(db, "atl1", ["ca1", "ca2"], 6)
    certificates.confirm(db, "rtm1", ["ca2"], 7)
    assert certificates.trusts(db) == {"atl1": frozenset({"ca1", "ca2"}), "rtm1": frozenset({"ca2"})}
    assert db.execute("SELECT confirmed_us FROM trusts WHERE agent = 'atl1' ORDER BY authority").fetchall() == [
        (5,),
        (6,),
    ]
    certificates.confirm(db, "atl1", ["ca2"], 8)
    assert certificates.trusted_by(db, "atl1") == frozenset({"ca2"})
    certificates.confirm(db, "rtm1", [], 9)
    assert "rtm1" not in certificates.trusts(db)


def test_a_live_token_says_which_authority_its_site_trusts(db: sqlite3.Connection) -> None:
    db.executemany(
        "INSERT INTO tokens(hash, site, agent, uses_left, expires_us, created_us) VALUES(?,?,?,?,?,0)",
        [
            ("h1", "s", "live", 1, 100),
            ("h2", "s", "used", 0, 100),
            ("h3", "s", "ended", 1, 9),
            ("h4", "s", "old", 1, 99),
        ],
    )
    for name in ("h1", "h2", "h3"):
        certificates.note_token(db, name, "ca1")
    assert certificates.live_tokens(db, 10) == [("live", "ca1", 100), ("old", "", 99)]
