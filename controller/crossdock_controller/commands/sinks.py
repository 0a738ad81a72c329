"""Whether a sink can be reached, asked of the sink itself. Nothing is delivered."""

from __future__ import annotations

from contextlib import closing

from msgspec import Struct

from crossdock.errors import Refused
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.dispatch import opener
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import connection, revisions


class Checked(Struct, frozen=True):
    """*found* is one line in the sink's own words."""

    sink: str
    kind: str
    found: str


@served
def check_sink(data: DataDirectory, sink: str) -> Checked:
    """Raises Refused when the revision in force has no such sink, and what the sink's own check raises."""
    with closing(connection.connect(data.state)) as db:
        number = revisions.head_number(db)
        tree = revisions.tree(db, number)
    sinks = Runtime.from_tree(tree, number).sinks if tree is not None else {}
    if sink not in sinks:
        names = ", ".join(sorted(sinks)) or "none"
        raise Refused(f"there is no sink {sink!r} in revision {number}", hint=f"its sinks: {names}")
    opened, _ = opener(data)(sink, sinks[sink])
    with closing(opened):
        return Checked(sink, sinks[sink].kind, opened.check())
