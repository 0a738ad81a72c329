"""A site for the sink "agent": the agent's own inbox and writer into a SQLite table. A thread carries deliveries and
receipts between the two stores, as gateway and link do."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from crossdock.lifecycle import Stop, Supervisor
from crossdock.siteconfig import WriterConfig
from crossdock_agent.inbox import Arrived, Receipt
from crossdock_agent.problems import Problems
from crossdock_agent.writeback import WriteBack
from crossdock_agent.writers.receipts import statements
from crossdock_controller.store import agents, connection, site_deliveries, site_links
from crossdock_controller.store.site_deliveries import Settled
from support.pipeline import template
from support.sink_rigs import MadeRig, State

AGENT, SITE = "a1", "atl1"
WRITER = {
    "table": "thing", "key": ["number"], "columns": {"number": "number", "text": "text", "quantity": "quantity.value"},
    "lines": {"table": "thing_line", "parent": {"thing_number": "number"}, "columns": {"sku": "sku"}},
}  # fmt: skip
_SCHEMA = (
    "CREATE TABLE thing (number text PRIMARY KEY, text text, quantity numeric CONSTRAINT not_negative CHECK"
    " (quantity >= 0))",
    "CREATE TABLE thing_line (thing_number text, sku text)",
    "CREATE INDEX thing_line_by_parent ON thing_line (thing_number)",
)


class Site:
    """The agent's half. `start` and `stop` are its life; what it received stays in its inbox."""

    def __init__(self, base: Path, kind: str, settings: dict[str, object]) -> None:
        self.base = base
        self.config = WriterConfig(name="erp", kind=kind, settings=settings)
        self._life: tuple[Stop, Supervisor, WriteBack] | None = None

    def start(self) -> None:
        stop = Stop()
        supervisor = Supervisor(stop)
        made = WriteBack(
            self.base / "inbox.db", self.base / "policy.toml", Problems(), lambda text: text, random.Random(1)
        )
        writers, faults = made.build([self.config])
        assert faults == []
        made.use([self.config], writers)
        supervisor.start("inbox", made.run)
        self._life = (stop, supervisor, made)

    @property
    def writeback(self) -> WriteBack:
        assert self._life is not None
        return self._life[2]

    def stop(self) -> None:
        if self._life is not None:
            stop, supervisor, made = self._life
            stop.set()
            assert supervisor.join() == []
            made.stop()
            self._life = None


class Courier:
    """Between the controller's store and a site, over and over."""

    def __init__(self, state: Path, site: Site) -> None:
        self._state, self._site = state, site
        self.connected = threading.Event()
        self._stop = threading.Event()
        self._receipts: list[Receipt] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._site.writeback.listen(self._heard)
        self.link(connected=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def link(self, *, connected: bool) -> None:
        with closing(connection.connect(self._state)) as db:
            site_links.linked(db, AGENT, connected=connected, now_us=1)
        (self.connected.set if connected else self.connected.clear)()

    def _heard(self, receipts: Sequence[Receipt]) -> None:
        with self._lock:
            self._receipts += receipts

    def _run(self) -> None:
        sent = 0
        with closing(connection.connect(self._state)) as db:
            while not self._stop.is_set():
                if self.connected.is_set():
                    for row in site_deliveries.waiting(db, AGENT, sent, 500):
                        sent = row.sequence
                        self._site.writeback.received(
                            Arrived(
                                row.id, row.attempt, row.sequence, row.writer, row.document, row.key, row.event_seq,
                                row.undo_of, row.payload,
                            )
                        )  # fmt: skip
                    self._settle(db)
                time.sleep(0.002)

    def _settle(self, db: sqlite3.Connection) -> None:
        with self._lock:
            heard, self._receipts = self._receipts, []
        if not heard:
            return
        with connection.transaction(db):
            settled = [Settled(r.id, r.attempt, r.verdict, r.code, r.reason, r.place) for r in heard]
            site_deliveries.settle(db, AGENT, settled, time.time_ns() // 1000)
        self._site.writeback.inbox().acknowledged(r.id for r in heard if r.verdict != "retry")


class SiteRig(MadeRig):
    kind = "agent"

    def __init__(self, base: Path) -> None:
        self.base, self.path = base, base / "site.db"
        self.settings: dict[str, object] = {"site": SITE, "writer": "erp", "wait_seconds": 30}
        shutil.copy(template(), base / "state.db")
        with closing(connection.connect(base / "state.db")) as db:
            agents.record_enrolled(
                db, AGENT, SITE, host="", platform="", version="9", expires_us=1, now_us=1
            )  # fmt: skip
            site_links.greeted(db, AGENT, takes=True, version="9")
        with closing(sqlite3.connect(self.path)) as db:
            for statement in (*_SCHEMA, *statements("sqlite")):
                db.execute(statement)
        self.site = Site(base, "sql", {"connection": {"sqlite": str(self.path)}, **WRITER})
        self.courier = Courier(base / "state.db", self.site)

    def __enter__(self) -> SiteRig:
        self.site.start()
        self.courier.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.courier.stop()
        self.site.stop()

    def state(self) -> State:
        with closing(sqlite3.connect(self.path)) as db:
            found: State = {number: (text, []) for number, text in db.execute("SELECT number, text FROM thing")}
            for number, sku in db.execute("SELECT thing_number, sku FROM thing_line ORDER BY rowid"):
                found[number][1].append(sku)
            return found

    def effects(self) -> None:
        return None

    @contextlib.contextmanager
    def broken(self) -> Iterator[None]:
        """The site's line is cut."""
        self.courier.link(connected=False)
        yield
        self.courier.link(connected=True)
