"""Do two systems agree? The reconciliations of the revision in force, what each found last, and one run now."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from crossdock.errors import ConfigError
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.reconciling import InForce, run
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, exception_views, reconciliations
from crossdock_controller.store.exception_views import ItemRow
from crossdock_controller.store.reconciliations import Run

SHOWN = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """*open* counts what differs now."""

    name: str
    document: str
    left: str
    right: str
    schedule: str
    zone: str
    last: Run | None
    open: int


@dataclass(frozen=True, slots=True)
class Result:
    """*items* are the open differences, at most SHOWN."""

    reconciliation: Listed
    items: list[ItemRow]


@served
def reconcile_list(data: DataDirectory) -> list[Listed]:
    """Every one of the revision in force, by name."""
    with closing(connection.connect(data.state)) as db:
        last = reconciliations.last(db)
        return [
            Listed(
                name, model.document, model.left.source, model.right.source, model.schedule, model.zone,
                last.get(name), len(exception_views.of_kind(db, f"difference:{name}:")),
            )
            for name, model in sorted(InForce().read(db).models.items())
        ]  # fmt: skip


@served
def reconcile(
    data: DataDirectory,
    name: Annotated[str, Meta(max_length=100)],
    *,
    now: bool = False,
    accept: bool = False,
    by: str,
    now_us: int,
) -> Result:
    """What *name* found last, or finds *now*, *accept*ing both sides as they are if so; on record.

    Raises ConfigError when there is none, Behind (to be tried again) while the current state is not that of the log.
    """
    with closing(connection.connect(data.state)) as db:
        in_force = InForce().read(db)
        model = in_force.models.get(name)
        if model is None:
            raise ConfigError(f"there is no reconciliation {name!r}", hint=did_you_mean(name, in_force.models))
        with connection.transaction(db):
            action, details = "reconcile.run" if now else "reconcile.show", {"accept": True} if accept else {}
            audit.append(db, actor=by, action=action, target=name, details=details, now_us=now_us)
        if now:
            run(db, model, in_force.labels, now_us, by=by, accept=accept)
        items = exception_views.of_kind(db, f"difference:{name}:")
    (listed,) = [found for found in reconcile_list(data) if found.name == name]
    return Result(listed, items[:SHOWN])
