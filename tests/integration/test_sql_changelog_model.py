"""A change log under any sequence of writes, passes, releases, crashes and lost disks, against the table's history.

Each key must end as it ended in the table; every logged version must come, in the order of its key, and once unless the
disk was lost; nothing may leave the log that was not sent.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from crossdock_agent.sql.installing import install
from crossdock_agent.sql.settings import SqlTableSettings
from crossdock_agent.sql.writing import WritableSqlite
from support.table_site import Sqlite, TableSite

KEYS = st.integers(1, 12)


class ChangeLogModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        path = Path(self._directory.name) / "erp.db"
        self.database = Sqlite(path)
        self.database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x INTEGER)")
        self.present: dict[int, int] = {}
        self.versions = 0
        self.sent: list[tuple[int, int, str, int]] = []
        self.lost_disk = False

    @initialize(
        rows=st.integers(0, 12), page_rows=st.sampled_from([2, 3, 5000]), limit=st.sampled_from([2, 10**6]),
        start=st.sampled_from(["beginning", "now"]),
    )  # fmt: skip
    def choose(self, rows: int, page_rows: int, limit: int, start: str) -> None:
        for key in range(1, rows + 1):
            self._write(key, "INSERT INTO t VALUES (?, ?)")
        self.before = dict(self.present) if start == "now" else {}
        self.site = TableSite(
            connection=self.database.connection, table="t", mode="change_log", key=["id"], page_rows=page_rows,
            start=start, change_log={"max_in_flight": limit},
        )  # fmt: skip
        writable = WritableSqlite(str(self.database.path), "t", 30.0, "utf-8", lambda: 0)
        with closing(writable):
            install(writable, msgspec.convert(self.site.settings, type=SqlTableSettings))

    def _write(self, key: int, sql: str) -> None:
        self.versions += 1
        values = [key, self.versions] if sql.startswith("INSERT") else [self.versions, key]
        self.database.execute(sql, values)
        self.present[key] = self.versions

    @rule(key=KEYS)
    def write(self, key: int) -> None:
        self._write(key, "UPDATE t SET x = ? WHERE id = ?" if key in self.present else "INSERT INTO t VALUES (?, ?)")

    @precondition(lambda self: self.present)
    @rule(key=KEYS)
    def delete(self, key: int) -> None:
        self.database.execute("DELETE FROM t WHERE id = ?", [key])
        self.present.pop(key, None)

    @precondition(lambda self: self.present)
    @rule(key=KEYS, to=KEYS)
    def move(self, key: int, to: int) -> None:
        if key in self.present and to not in self.present:
            self.database.execute("UPDATE t SET id = ? WHERE id = ?", [to, key])
            self.present[to] = self.present.pop(key)

    @rule(advance=st.sampled_from([0.0, 1.0, 61.0]))
    def poll(self, advance: float) -> None:
        self._take(self.site.poll(advance=advance))

    @rule(after=st.integers(0, 3))
    def crash(self, after: int) -> None:
        self._take(self.site.poll(crash_after=after))

    @precondition(lambda self: self.site.tokens)
    @rule(recorded=st.booleans())
    def release(self, recorded: bool) -> None:
        before = self._logged()
        self.site.source.release(self.site.tokens[0])
        assert before - self._logged() <= {version for *_, version in self.sent}
        if recorded:
            self.site.tokens.pop(0)
        else:
            self.site.restart()

    @rule()
    def lose_the_disk(self) -> None:
        self.site.tokens.clear()
        self.site.ledger.clear()
        self.site.restart()
        self.lost_disk = True

    def _logged(self) -> set[int]:
        return {int(n) for (n,) in self.database._writer.execute("SELECT crossdock_seq FROM crossdock_log_t")}

    def _take(self, rows: list[list[object]]) -> None:
        self.sent += [(int(str(r[0])), int(str(r[1])), str(r[2]), int(str(r[3]))) for r in rows]
        if not self.lost_disk:
            times = Counter((key, version) for key, _, _, version in self.sent)
            assert max(times.values(), default=1) == 1, "a version was sent twice"

    def teardown(self) -> None:
        if hasattr(self, "site"):
            for _ in range(200):
                self._take(self.site.poll(advance=61.0))
                self.site.acknowledge()
                if not self._logged():
                    break
            self._take(self.site.poll(advance=61.0))
            assert not self._logged()
            self._check()
            self.site.source.close()
        self.database.close()
        self._directory.cleanup()

    def _check(self) -> None:
        """As the controller sees it: what it has by key, version and content is not taken again."""
        known: set[tuple[int, int, str, int]] = set()
        ends = dict(self.before)
        for row in self.sent:
            if row in known:
                continue
            known.add(row)
            key, x, op, _ = row
            if op == "delete":
                ends.pop(key, None)
            else:
                ends[key] = x
        assert ends == self.present
        by_key: dict[int, list[int]] = {}
        for key, _, _, version in sorted(known, key=self.sent.index):
            by_key.setdefault(key, []).extend([version] if version else [])
        assert all(versions == sorted(versions) for versions in by_key.values())
        last = self.database.scalar("SELECT COALESCE(MAX(seq), 0) FROM sqlite_sequence WHERE name = 'crossdock_log_t'")
        assert {version for *_, version in known} >= set(range(1, int(str(last)) + 1))


TestChangeLogModel = ChangeLogModel.TestCase
TestChangeLogModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
