"""Between the sink "agent" and a site: what is said when nobody is there, what is asked again, what a site forbids."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from crossdock.errors import SinkUnavailable
from crossdock_agent.inbox import Arrived, Inbox
from crossdock_agent.writers.base import Verdict as Said
from crossdock_controller.sinks.agent import AgentSettings, AgentSink
from crossdock_controller.sinks.base import Outgoing, SinkContext, Verdict
from crossdock_controller.store import agents, connection, site_deliveries, site_links
from crossdock_controller.store.site_deliveries import Settled
from support.gateway import wait_until
from support.pipeline import template
from support.sink_rigs import refused, thing
from support.site_rig import AGENT, SITE, SiteRig


class Store:
    """A controller's store with site atl1; nobody carries anything."""

    def __init__(self, base: Path) -> None:
        self.base = base
        shutil.copy(template(), base / "state.db")
        self.db = connection.connect(base / "state.db")
        self.enrol(AGENT)

    def enrol(self, agent: str, *, takes: bool = True, connected: bool = True) -> None:
        agents.record_enrolled(self.db, agent, SITE, host="", platform="", version="9", expires_us=1, now_us=1)
        site_links.greeted(self.db, agent, takes=takes, version="0.1")
        site_links.linked(self.db, agent, connected=connected, now_us=1)

    def sink(self, **settings: object) -> AgentSink:
        given = {"site": SITE, "writer": "erp", "wait_seconds": 0.2, **settings}
        return AgentSink(AgentSettings.model_validate(given), SinkContext("back", lambda text: text, str(self.base)))

    def write(self, *run: Outgoing, **settings: object) -> list[Verdict]:
        with closing(self.sink(**settings)) as sink:
            return list(sink.write(run))

    def waiting(self, agent: str = AGENT) -> list[str]:
        return [row.key for row in site_deliveries.waiting(self.db, agent, 0, 100)]

    def says(self, verdict: str, key: str, code: str = "", reason: str = "", agent: str = AGENT) -> None:
        """The site's receipt for what waits there of *key*."""
        (row,) = [row for row in site_deliveries.waiting(self.db, agent, 0, 100) if row.key == key]
        with connection.transaction(self.db):
            receipt = Settled(row.id, row.attempt, verdict, code, reason, "there")
            site_deliveries.settle(self.db, agent, [receipt], 5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.db.close()


def test_a_site_that_is_offline_gives_no_verdict_and_what_waits_there_stays(store: Store) -> None:
    site_links.linked(store.db, AGENT, connected=False, now_us=1_700_000_000_000_000)
    with pytest.raises(SinkUnavailable, match="a1 of site atl1 takes no deliveries now, since 2023-11-14"):
        store.write(thing(1, "A"), thing(2, "B"))
    assert store.waiting() == ["A", "B"]


def test_an_agent_of_an_older_release_is_named_with_the_next_step(store: Store) -> None:
    site_links.greeted(store.db, AGENT, takes=False, version="0.1")
    with pytest.raises(
        SinkUnavailable, match=r"a1 \(crossdock 0.1\) is of a release that does not write back.*upgrade"
    ):
        store.write(thing(1, "A"))


def test_of_several_agents_the_one_that_writes_is_named(store: Store) -> None:
    store.enrol("a2")
    with pytest.raises(SinkUnavailable, match="2 agents: a1, a2"):
        store.write(thing(1, "A"))
    with pytest.raises(SinkUnavailable, match="no receipt has come yet"):
        store.write(thing(1, "A"), agent="a2")
    assert store.waiting("a2") == ["A"]
    with pytest.raises(SinkUnavailable, match="no agent a9"):
        store.write(thing(1, "A"), agent="a9")


def test_what_waits_for_an_agent_that_was_replaced_goes_to_the_new_one(store: Store) -> None:
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A"))
    store.db.execute("UPDATE agents SET state = 'revoked' WHERE agent = ?", (AGENT,))
    store.enrol("a2")
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A"))
    assert (store.waiting(), store.waiting("a2")) == ([], ["A"])


def test_what_has_no_receipt_is_put_off_without_an_attempt_and_found_settled_later(store: Store) -> None:
    run = [thing(1, "A", "a1"), thing(2, "B", "b1"), thing(3, "B", "b2")]
    with pytest.raises(SinkUnavailable):
        store.write(*run)
    assert store.waiting() == ["A", "B"]  # of B one version at a time
    store.says("applied", "A")
    verdicts = store.write(*run)
    assert [(v.outcome, v.code) for v in verdicts] == [("done", ""), ("retry", "held"), ("retry", "held")]
    store.says("applied", "B")
    verdicts = store.write(*run[1:])
    assert [v.outcome for v in verdicts] == ["done", "retry"]
    assert [row.event_seq for row in site_deliveries.waiting(store.db, AGENT, 0, 9)] == [3]


def test_a_refused_document_is_sent_again_only_when_a_person_retries_it(store: Store) -> None:
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A"))
    store.says("rejected", "A", "conflict", "somebody changed it")
    for _ in range(2):  # the second time as after a kill before it was persisted
        (verdict,) = store.write(thing(1, "A"))
        assert (verdict.outcome, verdict.code, verdict.reason) == ("rejected", "conflict", "somebody changed it")
    items = store.db.execute("SELECT kind, site, sink, key, event_seq, state FROM exceptions").fetchall()
    assert items == [("conflict", SITE, "back", "A", 1, "open")]
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A", attempt=2))
    (row,) = site_deliveries.waiting(store.db, AGENT, 0, 9)
    assert row.attempt == 2
    store.says("applied", "A")
    assert store.db.execute("SELECT state, outcome FROM exceptions").fetchall() == [("resolved", "applied")]


def test_what_was_written_goes_to_the_site_again_when_a_replay_sends_it(store: Store) -> None:
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A"))
    store.says("applied", "A")
    again = msgspec.structs.replace(thing(1, "A"), replay=2)
    with pytest.raises(SinkUnavailable):
        store.write(again)
    assert store.waiting() == ["A"]
    store.says("applied", "A")
    for delivery in (thing(1, "A"), again):
        (verdict,) = store.write(delivery)
        assert verdict.outcome == "done"
    latest = site_deliveries.last_applied(store.db, "back", "Thing", "A")
    assert latest is not None
    assert bytes.fromhex(latest.id) == site_deliveries.id_of("back", again.identity)


def test_a_site_that_cannot_write_now_says_why(store: Store) -> None:
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A"))
    store.says("retry", "A", "unavailable", "D:/erp cannot be written: disk full")
    with pytest.raises(SinkUnavailable, match="disk full"):
        store.write(thing(1, "A"))
    assert store.waiting() == ["A"]


def test_a_receipt_of_another_agent_or_of_an_earlier_attempt_changes_nothing(store: Store) -> None:
    with pytest.raises(SinkUnavailable):
        store.write(thing(1, "A"))
    (row,) = site_deliveries.waiting(store.db, AGENT, 0, 9)
    with connection.transaction(store.db):
        for agent, attempt in (("a2", 1), (AGENT, 2)):
            site_deliveries.settle(store.db, agent, [Settled(row.id, attempt, "applied", "", "", "")], 5)
    assert store.waiting() == ["A"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("write_back = false\n", "lets nothing be written back"),
        ('writers = ["other"]\n', "nothing be written by 'erp'"),
    ],
)
def test_what_the_sites_policy_forbids_is_not_written(tmp_path: Path, text: str, said: str) -> None:
    with SiteRig(tmp_path) as rig:
        (tmp_path / "policy.toml").write_text(text, "utf-8")
        with closing(rig.make()) as sink:
            (verdict,) = sink.write([thing(1, "A")])
        assert (verdict.outcome, verdict.code) == ("rejected", "site_policy")
        assert said in verdict.reason
        assert rig.state() == {}


def test_while_the_sites_policy_cannot_be_read_nothing_is_written_and_nothing_given_up(tmp_path: Path) -> None:
    with SiteRig(tmp_path) as rig:
        (tmp_path / "policy.toml").write_text("write_back = perhaps\n", "utf-8")
        rig.settings["wait_seconds"] = 0.5
        with closing(rig.make()) as sink:

            def says_why() -> bool:
                with pytest.raises(SinkUnavailable) as caught:
                    sink.write([thing(1, "A", "text")])
                return "policy" in str(caught.value)

            wait_until(says_why, "the site's reason is told", 60)
            assert rig.state() == {}
            (tmp_path / "policy.toml").unlink()
            wait_until(lambda: rig.state() == {"A": ("text", [])}, "it is written", 120)


def test_an_agent_that_lost_its_inbox_writes_nothing_twice(tmp_path: Path) -> None:
    with SiteRig(tmp_path) as rig:
        with closing(rig.make()) as sink:
            assert [v.outcome for v in sink.write([thing(1, "A", "one"), refused(2, "B")])] == ["done", "rejected"]
            rig.courier.stop()
            rig.site.stop()
            (tmp_path / "inbox.db").write_bytes(b"not a database" * 100)
            for suffix in ("-wal", "-shm"):
                (tmp_path / f"inbox.db{suffix}").unlink(missing_ok=True)
            with closing(sqlite3.connect(rig.path)) as db:
                db.execute("UPDATE thing SET text = 'by hand'")
                db.commit()
            rig.site.start()
            again = thing(1, "A", "one")
            id_ = site_deliveries.id_of("finance", again.event_id)
            rig.site.writeback.received(Arrived(id_, 1, 1, "erp", "Thing", "A", 1, None, again.body))
            told = rig.site.writeback.inbox().receipts
            wait_until(lambda: [r.place for r in told(0, 9)] == ["applied before, by its receipt"], "it is known", 60)
        assert list(tmp_path.glob("inbox.db.corrupt-*"))
        assert rig.state() == {"A": ("by hand", [])}


def test_an_inbox_keeps_what_it_knows_over_a_restart(tmp_path: Path) -> None:
    one = Arrived(b"i" * 16, 1, 7, "erp", "Thing", "A", 3, None, b"{}")
    with closing(Inbox(tmp_path / "inbox.db")) as inbox:
        inbox.receive([one, one])
        assert [(job.key, job.version) for job in inbox.jobs("erp", 9)] == [("A", 3)]
        inbox.prepared([(one.id, b"note")])
    with closing(Inbox(tmp_path / "inbox.db")) as inbox:
        (job,) = inbox.jobs("erp", 9)
        assert job.note == b"note"
        inbox.settle("erp", [(job, Said("applied", remember=(("k", b"v"),)))], 1)
        assert inbox.recall("erp", "k") == b"v"
        assert [receipt.sequence for receipt in inbox.receipts(0, 9)] == [7]
        inbox.receive([one])  # sent again: its verdict stays
        assert inbox.jobs("erp", 9) == []
        inbox.acknowledged([one.id])
        assert inbox.receipts(0, 9) == []
        inbox.receive([one])  # a restored controller asks again: it is told, and nothing is written
        assert (inbox.jobs("erp", 9), len(inbox.receipts(0, 9))) == ([], 1)
        inbox.receive([Arrived(one.id, 2, 8, "erp", "Thing", "A", 3, None, b"{}")])
        assert [job.attempt for job in inbox.jobs("erp", 9)] == [2]
