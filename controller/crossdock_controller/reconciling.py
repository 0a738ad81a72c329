"""Reconciliations: what two systems sent of the same documents, compared on a schedule; differences are exceptions.

One open item for each document that differs: it is reworded when it differs otherwise, and resolves itself when both
agree again. All of a comparison is one transaction.
"""

from __future__ import annotations

import datetime as dt
import sqlite3
import time
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import msgspec
from loguru import logger

from crossdock import cron
from crossdock.errors import Corrupt, Retryable
from crossdock_controller import comparing
from crossdock_controller.config import parts, selection
from crossdock_controller.config.reconciliations import Reconciliation, Side
from crossdock_controller.config.tree import folder_of
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import (
    connection,
    exception_views,
    exceptions,
    projection,
    reconciliations,
    revisions,
    targets,
)
from crossdock_controller.store.bodies import Bodies
from crossdock_controller.store.exceptions import Item
from crossdock_controller.store.reconciliations import Run

LOOK_SECONDS = 20.0
LOOK_BACK = dt.timedelta(days=1)  # a controller that was down for longer runs what it missed at its next time
BY = "controller"
_MINUTE = dt.timedelta(minutes=1)
_READ = frozenset({"sites", "groups", "environments", "reconciliations", "shared"})


class Behind(Retryable):
    """The current state is not that of the log yet: a comparison would take what is on its way for missing."""


class InForce:
    """Reconciliations and labels of sites of the revision in force; read again when another one is."""

    def __init__(self) -> None:
        self._number = -1
        self.models: Mapping[str, Reconciliation] = {}
        self.labels: Mapping[str, Mapping[str, str]] = {}

    def read(self, db: sqlite3.Connection) -> InForce:
        number = targets.in_force(db)
        if number != self._number:
            tree = revisions.tree(db, number)
            own = {name: text for name, text in (tree or {}).items() if folder_of(name) in _READ}
            found = parts.read_parts(own)
            self.models = parts.models(found.reconciliations)
            self.labels = {p.name: p.model.all_labels() for p in found.sites if p.model is not None}
            self._number = number
        return self


class Reconciler:
    """`step` runs what is due; from any one thread at a time."""

    def __init__(self, data: DataDirectory, now_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._data = data
        self._now_us = now_us
        self._in_force = InForce()

    def step(self) -> list[str]:
        """Names of those that ran. One that is behind, or whose documents cannot be read, says so in its problem and is
        run again at the next look."""
        ran = []
        with closing(connection.connect(self._data.state, fence=self._data.holder)) as db:
            in_force = self._in_force.read(db)
            last = reconciliations.last(db)
            for name, model in sorted(in_force.models.items()):
                now_us = self._now_us()
                known = last.get(name)
                if known is None:
                    with connection.transaction(db):
                        reconciliations.looked(db, name, now_us)  # its first time is the next one, not one long past
                elif due(model, known.looked_us, now_us):
                    try:
                        run(db, model, in_force.labels, now_us)
                    except (Behind, Corrupt) as error:
                        with connection.transaction(db):
                            reconciliations.keep(db, replace(known, problem=str(error)))
                        continue
                    ran.append(name)
        return ran


def due(model: Reconciliation, after_us: int, now_us: int) -> bool:
    """Whether a time of the schedule lies after *after_us* and not after *now_us*."""
    times, zone = cron.parse(model.schedule), zoneinfo.ZoneInfo(model.zone)
    now = _utc(now_us)
    at = max(_utc(after_us), now - LOOK_BACK).replace(second=0, microsecond=0) + _MINUTE
    while at <= now:
        local = at.astimezone(zone)
        if (
            local.minute in times.minutes
            and local.hour in times.hours
            and local.month in times.months
            and local.day in times.days
            and local.weekday() in times.weekdays
        ):
            return True
        at += _MINUTE
    return False


def _utc(at_us: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at_us // 1_000_000, dt.UTC)


def run(
    db: sqlite3.Connection,
    model: Reconciliation,
    labels: Mapping[str, Mapping[str, str]],
    now_us: int,
    *,
    by: str = BY,
    accept: bool = False,
) -> Run:
    """Compare now; *accept* what the brake would not believe. Raises Behind while the current state is not that of the
    log, Corrupt for a damaged document."""
    name = model.reconciliation
    before = reconciliations.last(db).get(name, Run(name, now_us))
    with connection.snapshot(db):
        if projection.cursor(db) < projection.newest(db):
            raise Behind(
                "the current state is still taking in the event log", after_seconds=5.0, hint="try again in a minute"
            )
        left = list(_side(db, model, model.left, labels))
        right = list(_side(db, model, model.right, labels))
    outcome = comparing.compare(model, left, right, (before.left, before.right), now_us, accept=accept)
    with connection.transaction(db):
        _tell(db, model, outcome, by, now_us)
        kept = _kept(before, outcome, now_us)
        reconciliations.keep(db, kept)
    log = logger.bind(reconciliation=name, left=outcome.left, right=outcome.right, differ=len(outcome.differences))
    if outcome.brake:
        log.warning("compared, and not believed: {}", outcome.brake)
    else:
        log.info("compared")
    return kept


def _kept(before: Run, outcome: comparing.Outcome, now_us: int) -> Run:
    if outcome.brake:  # what was believed last is what the next one is measured by
        return replace(before, looked_us=now_us, ran_us=now_us, problem=outcome.brake)
    counts = outcome.counts()
    return Run(
        before.name, now_us, now_us, outcome.left, outcome.right, counts["missing-left"], counts["missing-right"],
        counts["different"], len(outcome.young),
    )  # fmt: skip


def _side(
    db: sqlite3.Connection, model: Reconciliation, side: Side, labels: Mapping[str, Mapping[str, str]]
) -> Iterator[comparing.Seen]:
    numbers = [
        number
        for number, site in reconciliations.sources(db, side.source)
        if selection.matches(side.on, labels.get(site, {"site": site}))
    ]
    bodies = Bodies(db)
    for key, seq, at_us, site, *place in projection.latest_of(db, model.document, numbers):
        body: Any = msgspec.json.decode(bodies.get(*place))
        found = comparing.seen(model, key, body, at_us, site, seq)
        if found is not None:
            yield found


def _tell(db: sqlite3.Connection, model: Reconciliation, outcome: comparing.Outcome, by: str, now_us: int) -> None:
    """Open, reword and resolve items so that they say what *outcome* found."""
    prefix = f"difference:{model.reconciliation}:"
    known = {item.key: item for item in exception_views.of_kind(db, prefix) if item.cause != prefix + "brake"}
    brake = [item.id for item in exception_views.items(db, prefix + "brake")]
    if outcome.brake:
        if not brake:
            exceptions.add(db, [_brake(model, prefix, outcome.brake)], now_us)
        return
    exceptions.resolve_items(db, brake, by=by, outcome="both sides are to be believed again", now_us=now_us)
    found = {d.match: d for d in outcome.differences}
    agreed = [item.id for key, item in known.items() if key not in found and key not in outcome.young]
    exceptions.resolve_items(db, agreed, by=by, outcome="both agree again", now_us=now_us)
    fresh = [d for match, d in found.items() if match not in known]
    exceptions.add(db, [_item(model, prefix, d) for d in fresh], now_us)
    reworded = [
        (known[match].id, prefix + d.what, d.text[: exceptions.TITLE_CHARACTERS])
        for match, d in found.items()
        if match in known and (known[match].cause, known[match].title) != (prefix + d.what, d.text)
    ]
    exceptions.reword(db, reworded)


def _item(model: Reconciliation, prefix: str, found: comparing.Difference) -> Item:
    return Item(
        kind="difference", severity="warn", cause=prefix + found.what, title=found.text[: exceptions.TITLE_CHARACTERS],
        site=found.site, source=model.right.source, document=model.document, key=found.match,
    )  # fmt: skip


def _brake(model: Reconciliation, prefix: str, said: str) -> Item:
    return Item(
        kind="difference", severity="hold", cause=prefix + "brake", title=f"not compared: {said}",
        source=model.right.source, document=model.document,
    )  # fmt: skip
