"""What another tree would make of the records that the intake keeps, beside what the one in force makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from crossdock.errors import ConfigError
from crossdock_controller.commands import naming
from crossdock_controller.paths import DataDirectory
from crossdock_controller.preview.model import (
    MOST_CHANGES,
    SHOWN_CHANGES,
    DocumentChange,
    FieldCount,
    Request,
    SourceCount,
)
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, facts, proposals, revisions

SECONDS = 60.0
MOST_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Preview:
    """Over everything received since *since_us*. *left*: records that were not looked at because the time was over, or
    because their process ended; *more*: changed documents that are counted and not told."""

    proposed: str
    since_us: int
    seconds: float
    left: int
    sources: list[SourceCount]
    fields: list[FieldCount]
    changes: list[DocumentChange]
    more: int
    problems: list[str]


def preview(
    data: DataDirectory,
    named: str,
    since_us: int,
    *,
    by: str,
    now_us: int,
    source: str | None = None,
    site: str | None = None,
    changes: int = SHOWN_CHANGES,
    seconds: float = SECONDS,
) -> Preview:
    """*named* is a directory here, or a revision or proposal there."""
    from crossdock_controller.config import tree
    from crossdock_controller.config.errors import ConfigInvalid, errors_of

    options = {"source": source, "site": site, "changes": changes, "seconds": seconds}
    if not Path(named).is_dir():
        return preview_revision(data, named, since_us, by=by, now_us=now_us, **options)  # type: ignore[arg-type]
    read, problems = tree.read(Path(named))
    if errors_of(problems):
        raise ConfigInvalid(problems)
    return preview_tree(data, read, since_us, by=by, now_us=now_us, **options)  # type: ignore[arg-type]


@served
def preview_tree(
    data: DataDirectory,
    tree: Mapping[str, str],
    since_us: int,
    *,
    by: str,
    now_us: int,
    source: str | None = None,
    site: str | None = None,
    changes: Annotated[int, Meta(ge=0, le=MOST_CHANGES)] = SHOWN_CHANGES,
    seconds: Annotated[float, Meta(gt=0, le=MOST_SECONDS)] = SECONDS,
) -> Preview:
    """What *tree* would make of it. Raises ConfigInvalid for a tree with errors. On record: it shows what is in
    records."""
    return _look(data, dict(tree), "the tree", since_us, by, now_us, source, site, changes, seconds)


@served
def preview_revision(
    data: DataDirectory,
    name: str,
    since_us: int,
    *,
    by: str,
    now_us: int,
    source: str | None = None,
    site: str | None = None,
    changes: Annotated[int, Meta(ge=0, le=MOST_CHANGES)] = SHOWN_CHANGES,
    seconds: Annotated[float, Meta(gt=0, le=MOST_SECONDS)] = SECONDS,
) -> Preview:
    """What revision or proposal *name* would make of it. Raises ConfigError for a name that names nothing."""
    with closing(connection.connect(data.state)) as db:
        found = naming.named(db, name)
        tree = proposals.tree(db, found.proposal) if found.proposal else revisions.tree(db, found.revision)
    if tree is None:
        raise ConfigError(f"{found.text} has no tree", hint="'crossdock history' lists the revisions")
    return _look(data, dict(tree), found.text, since_us, by, now_us, source, site, changes, seconds)


def _look(
    data: DataDirectory,
    tree: dict[str, str],
    proposed: str,
    since_us: int,
    by: str,
    now_us: int,
    source: str | None,
    site: str | None,
    changes: int,
    seconds: float,
) -> Preview:
    from crossdock_controller.config import load
    from crossdock_controller.preview import asking

    with closing(connection.connect(data.state)) as db:
        environment = facts.environment(db)
        details = {"proposed": proposed, "source": source or "", "site": site or "", "since_us": since_us}
        with connection.transaction(db):
            audit.append(db, actor=by, action="mapping.diff", details=details, now_us=now_us)
    load.load(tree, environment)  # all its problems at once, before any process is started
    request = Request(tree=tree, environment=environment, changes=changes)
    looked = asking.look(data, request, since_us, site=site, source=source, seconds=seconds)
    found = looked.result
    told = sum(s.added + s.changed + s.removed + s.newly_dead + s.newly_healed for s in found.sources)
    return Preview(
        proposed, since_us, round(looked.seconds, 3), looked.left, found.sources, found.fields, found.changes,
        told - len(found.changes), found.problems,
    )  # fmt: skip
