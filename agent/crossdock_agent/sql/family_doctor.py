"""What `check` finds out about the tables of an aggregate: the parent as any table, then each child."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from crossdock.errors import CrossdockError
from crossdock_agent.sources.base import Finding
from crossdock_agent.sql.children import Child
from crossdock_agent.sql.connections import Database
from crossdock_agent.sql.doctor import examine
from crossdock_agent.sql.families import Families, Member, child_settings
from crossdock_agent.sql.reading import prepare
from crossdock_agent.sql.settings import SqlTableSettings


def examine_family(
    settings: SqlTableSettings, connect: Callable[[], Database], wall_us: Callable[[], int]
) -> Iterator[Finding]:
    """Findings in order; the first that fails for want of a connection or a table is the last."""
    well = True
    for finding in examine(settings, connect, wall_us):
        well &= finding.ok or finding.name not in ("login", "table and columns", "read")
        yield finding
    if not well:
        return
    aggregate = settings.aggregate
    assert aggregate is not None  # noqa: S101 - who examines a family has children
    stage = "children"
    try:
        with closing(connect()) as database:
            marked = [child for child in aggregate.children if child.watermark]
            readings = {child.name: prepare(database, child_settings(settings, child)) for child in marked}
            families = Families(database, settings, prepare(database, settings), readings)
            yield _index(database, "parent's key index", families.members[0], settings.table, settings.key, "")
            for child, member in zip(aggregate.children, families.members[1:], strict=True):
                stage = f"child {child.name}"
                yield from _child(database, child, member)
    except CrossdockError as error:
        yield Finding(stage, ok=False, detail=error.message, hint=error.hint)


def _child(database: Database, child: Child, member: Member) -> Iterator[Finding]:
    kind = "view" if member.table.is_view else "table"
    yield Finding(f"child {child.name}", ok=True, detail=f"{kind} {child.table}, {len(member.columns)} columns")
    yield _index(database, f"child {child.name} index", member, child.table, list(child.on), "of one parent")
    if child.watermark:
        yield _index(database, f"child {child.name} watermark index", member, child.table, child.watermark, "")
    else:
        yield Finding(
            f"child {child.name} watermark", ok=True,
            detail="none: a change of its rows is seen when the parent's row is touched",
        )  # fmt: skip


def _index(database: Database, name: str, member: Member, table: str, columns: Sequence[str], of: str) -> Finding:
    """An index that begins with one of *columns*."""
    names = ", ".join(columns)
    if member.table.is_view:
        return Finding(name, ok=True, detail=f"not known for a view; {names} should be indexed in the table beneath")
    indexed = database.indexed(member.table)
    if any(column.lower() in indexed for column in columns):
        return Finding(name, ok=True, detail=f"{names} is indexed")
    detail = f"{names} of {table} is not indexed: "
    detail += f"the rows {of} are found by reading the whole table" if of else "each read goes through the whole table"
    return Finding(name, ok=True, detail=detail, hint=f"create an index on {table} ({names})")
