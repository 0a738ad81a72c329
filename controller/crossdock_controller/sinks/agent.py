"""Sink "agent": write-back. Documents go to a writer at a site, over the link of the site's agent.

A delivery is done by the site's receipt and by nothing else. `write` puts the run into the store, from where the
gateway takes it to the agent, and waits a little for the receipts; what has none yet is put off without an attempt
being counted, and is found settled by the next call. So a site that is offline for days costs nothing but time.
Of each key one version is under way at a time: the agent needs no rule for what stands behind a rejected one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from crossdock.errors import SinkUnavailable
from crossdock_controller.paths import DataDirectory
from crossdock_controller.sinks.base import DONE, Outgoing, Sink, SinkContext, SinkSettings, Verdict, register
from crossdock_controller.store import connection, leases, site_deliveries, site_links
from crossdock_controller.store.site_deliveries import Addressed, id_of
from crossdock_controller.store.wake import Bell, Waker

RUN_SIZE = 500
LOOK_SECONDS = 0.05  # a look at a few rows by their ids
AGAIN_SECONDS = 0.2  # a delivery without a receipt is asked for again so soon
_HELD = Verdict("retry", "held", "an earlier version of this document is not done")
_NOT_YET = Verdict("retry", "held", "waits for the site's receipt", AGAIN_SECONDS)


class AgentSettings(SinkSettings):
    site: str = Field(min_length=1, description="where the documents go")
    writer: str = Field(min_length=1, description="one of `writers/` that is at that site")
    agent: str | None = Field(default=None, description="of several agents of the site, the one that writes")
    wait_seconds: float = Field(default=3.0, gt=0, le=60, description="how long a run waits for receipts")


class AgentSink:
    def __init__(self, settings: AgentSettings, context: SinkContext) -> None:
        self._settings, self._sink = settings, context.name
        self._data = DataDirectory(Path(context.base_directory), context.holder)
        self._opened: sqlite3.Connection | None = None
        self._waker: Waker | None = None
        self._owner: leases.Owner | None = None
        self._bell: Bell | None = None

    def write(self, run: Sequence[Outgoing]) -> Sequence[Verdict]:
        agent = self._agent()
        found: list[Verdict | None] = [None] * len(run)
        deadline = time.monotonic() + self._settings.wait_seconds
        bell = self._listening()
        while True:
            heads = _heads(run, found)
            if not heads:
                break
            self._put([run[i] for i in heads], agent)
            if not self._collect(run, heads, found):
                self._must_be_connected(agent)
                if time.monotonic() >= deadline:
                    break
                bell.wait(min(LOOK_SECONDS, max(0.01, deadline - time.monotonic())))
        if run and all(verdict is None for verdict in found):
            raise SinkUnavailable(self._silence(run, agent))
        return _completed(run, found)

    def check(self) -> str:
        agent = self._agent()
        self._must_be_connected(agent)
        return f"agent {agent} at {self._settings.site} is connected; writer {self._settings.writer}"

    def close(self) -> None:
        for part in (self._bell, self._waker, self._owner):
            if part is not None:
                part.close()
        self._bell = self._waker = self._owner = None
        db, self._opened = self._opened, None
        if db is not None:
            db.close()

    # --- the site

    def _agent(self) -> str:
        """Who writes there. Raises SinkUnavailable with the reason why nobody does."""
        site, named = self._settings.site, self._settings.agent
        agents = site_links.agents_of(self._db, site)
        if named is not None and named not in agents:
            known = ", ".join(agents) or "none"
            raise SinkUnavailable(f"there is no agent {named} at site {site}", hint=f"agents there: {known}")
        if not agents:
            raise SinkUnavailable(f"site {site} has no agent", hint=f"crossdock token create {site}")
        if named is None and len(agents) > 1:
            raise SinkUnavailable(
                f"site {site} has {len(agents)} agents: {', '.join(agents)}", hint="name the one that writes: 'agent'"
            )
        agent = named or agents[0]
        link = site_links.get(self._db, agent)
        if link is not None and not link.takes:
            raise SinkUnavailable(
                f"agent {agent} (crossdock {link.version or 'unknown'}) is of a release that does not write back",
                hint="upgrade it; its deliveries wait",
            )
        return agent

    def _must_be_connected(self, agent: str) -> None:
        link = site_links.get(self._db, agent)
        if link is None or not link.connected:
            since = time.strftime(", since %Y-%m-%d %H:%M UTC", time.gmtime(link.since_us / 1e6)) if link else ""
            raise SinkUnavailable(
                f"agent {agent} of site {self._settings.site} takes no deliveries now{since}; they wait",
                hint="is it connected, and does a writer run there (crossdock agents)?",
            )

    def _silence(self, run: Sequence[Outgoing], agent: str) -> str:
        first = site_deliveries.verdicts(self._db, [id_of(self._sink, run[0].identity)])
        said = next((reason for _, _, reason in first.values() if reason), "no receipt has come yet")
        return f"site {self._settings.site} has not written what waits there for agent {agent}: {said}"

    # --- the store

    @property
    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = connection.connect(self._data.state, cache_mib=1, fence=self._data.holder)
        return self._opened

    def _put(self, heads: list[Outgoing], agent: str) -> None:
        new = [
            Addressed(id_of(self._sink, d.identity), d.sequence, d.document, d.key, d.body, d.attempt) for d in heads
        ]
        known = site_deliveries.verdicts(self._db, [d.id for d in new])
        fresh = [d for d in new if d.id not in known or known[d.id][0] in ("rejected", "undone")]
        moved = self._moved_from(agent) if len(fresh) < len(new) else False
        if not fresh and not moved:
            return
        with connection.transaction(self._db):
            site_deliveries.put(
                self._db, new if moved else fresh, sink=self._sink, site=self._settings.site, agent=agent,
                writer=self._settings.writer, now_us=time.time_ns() // 1000,
            )  # fmt: skip
        if self._waker is not None:
            self._waker.wake("downlink")

    def _moved_from(self, agent: str) -> bool:
        """Whether something of this sink waits for another agent, or writer, than now."""
        return site_deliveries.is_elsewhere(self._db, self._sink, agent, self._settings.writer)

    def _collect(self, run: Sequence[Outgoing], heads: list[int], found: list[Verdict | None]) -> bool:
        """Take the verdicts there are; whether there was one."""
        ids = {id_of(self._sink, run[i].identity): i for i in heads}
        came = False
        for id_, (state, code, reason) in site_deliveries.verdicts(self._db, ids).items():
            if state == "applied":
                found[ids[id_]] = DONE
            elif state == "rejected":
                found[ids[id_]] = Verdict("rejected", code or "rejected", reason)
            else:
                continue
            came = True
        return came

    def _listening(self) -> Bell:
        if self._bell is None:
            self._waker = Waker(self._data.state)
            self._owner = leases.Owner(self._data.state, "receipts")
            self._bell = Bell(self._db, "receipts", self._owner.name)
        return self._bell


def _heads(run: Sequence[Outgoing], found: list[Verdict | None]) -> list[int]:
    """Of each key, the first that has no verdict; none behind one that was refused."""
    heads: list[int] = []
    busy: set[tuple[str, str]] = set()
    for i, (delivery, verdict) in enumerate(zip(run, found, strict=True)):
        key = (delivery.document, delivery.key)
        if key in busy:
            continue
        if verdict is None:
            heads.append(i)
        if verdict is None or verdict.outcome != "done":
            busy.add(key)
    return heads


def _completed(run: Sequence[Outgoing], found: list[Verdict | None]) -> list[Verdict]:
    behind: set[tuple[str, str]] = set()
    verdicts: list[Verdict] = []
    for delivery, verdict in zip(run, found, strict=True):
        key = (delivery.document, delivery.key)
        verdicts.append(verdict or (_HELD if key in behind else _NOT_YET))
        if verdict is None or verdict.outcome != "done":
            behind.add(key)
    return verdicts


def _create(settings: AgentSettings, context: SinkContext) -> Sink:
    return AgentSink(settings, context)


register("agent", AgentSettings, _create, run_size=RUN_SIZE)
