"""What was refused under the name of an agent, in words: a clone, another machine, an older certificate."""

from __future__ import annotations

import sqlite3

from crossdock_controller.store import agents, refusals, revocations
from crossdock_controller.store.refusals import Refusal

OVER_SECONDS = 600.0  # one that is refused tries again within a minute; after this long it has given up


def refused(db: sqlite3.Connection, now_us: int) -> dict[str, list[str]]:
    """{agent: a sentence for each} of what goes on now; of a revoked agent, why it was revoked and no more."""
    active = agents.active(db)
    found = {agent: [_why(row)] for agent, row in revocations.list_all(db).items() if agent not in active}
    for row in refusals.since(db, now_us - int(OVER_SECONDS * 1_000_000), refusals.IDENTITY):
        if row.subject in active:
            found.setdefault(row.subject, []).append(sentence(row))
    return found


def _why(row: revocations.Revocation) -> str:
    by = f" by {row.by}" if row.by else ""
    return f"was revoked{by}" + (f": {row.because}" if row.because else "")


def sentence(row: Refusal) -> str:
    """What was seen, and the next step."""
    if row.kind == "twin":
        return (
            f"a second process, on {row.detail or 'an unnamed host'}, uses its identity and is refused: a cloned "
            "machine? stop the agent there and enrol that machine under a name of its own"
        )
    if row.kind == "machine":
        return (
            f"another machine, {row.detail or 'unnamed'} at {row.address}, uses its identity and is refused: is it"
            " a copy? enrol it under a name of its own; if it takes the other's place: crossdock agents move "
            + row.subject
        )
    return (
        f"an older certificate than its newest is used from {row.address} and is refused: stolen, cloned, or a machine"
        " that was restored from an old copy; if it is the right machine, enrol it anew, if not, revoke the agent"
    )
