"""Four eyes: what waits for a second person, and what that person says.

Nobody approves what they proposed, whichever way they come: `local:anna` and `user:anna` are one person. A proposal is
for the revision it was planned against: once another is in force nobody has seen what it would change, and it is stale.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError, Refused
from crossdock_controller.commands import gate
from crossdock_controller.commands.naming import Named, named
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, facts, proposals, revisions
from crossdock_controller.store.proposals import Approval, Proposal

if TYPE_CHECKING:
    from crossdock_controller.commands.rollout import Prepared
    from crossdock_controller.config.policy import Need

WAITING = (proposals.OPEN, proposals.UNCONFIRMED)


@dataclass(frozen=True, slots=True)
class ProposalView:
    """*name* is "p3". *state*: open, approved, rejected, stale; unconfirmed or confirmed for one that broke the glass,
    then *revision* is in force and *reason* says why it could not wait. *missing*: how many people still. *promoted*:
    where it ran, when it came with a slip."""

    name: str
    state: str
    base: int
    hash: str
    environment: str
    by: str
    action: str
    message: str
    needs: list[Need]
    approvals: list[Approval]
    missing: int
    created_us: int
    settled_us: int
    settled_by: str
    reason: str
    revision: int
    promoted: str = ""


@dataclass(frozen=True, slots=True)
class Settled:
    """*state* of the proposal now. *revision*: what it became, 0 while it waits; *missing*: for how many people."""

    name: str
    state: str
    revision: int
    missing: int
    in_waves: bool = False


@served
def approvals(data: DataDirectory, *, everything: bool = False) -> list[ProposalView]:
    """What waits for a second person, newest first; *everything*: also what is settled."""
    with closing(connection.connect(data.state)) as db:
        head = revisions.head_number(db)
        found = proposals.list_all(db, () if everything else WAITING)
        return [view(db, proposal, head) for proposal in found]


def view(db: sqlite3.Connection, proposal: Proposal, head: int) -> ProposalView:
    """One that is planned against another revision than *head* is stale, also before somebody tries to approve it."""
    needs = gate.needs_of(proposal.needs)
    given = proposals.approvals(db, proposal.number)
    stale = proposal.state == proposals.OPEN and proposal.base != head
    waits = proposal.state in WAITING and not stale
    return ProposalView(
        f"p{proposal.number}", proposals.STALE if stale else proposal.state, proposal.base, proposal.hash,
        proposal.environment, proposal.actor, proposal.action, proposal.message, needs, given,
        _missing(needs, len(given)) if waits else 0, proposal.created_us, proposal.settled_us,
        proposal.settled_by, proposal.reason, proposal.revision, _promoted(proposal),
    )  # fmt: skip


def steps(db: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """For the status: (what is in force and should not be, damaged or without a second person; what waits for one)."""
    head = revisions.head_number(db)
    found = [view(db, proposal, head) for proposal in proposals.list_all(db, WAITING)]
    _, damaged = revisions.sound(db, [head])
    loud = [f"{error.message}; the last good one runs: {error.hint}" for error in damaged.values()]
    loud += [
        f"revision {p.revision} was put in force by {p.by} without a second person: {p.reason}; look at it, then "
        f"confirm it: crossdock diff {p.name}, crossdock approve {p.name}"
        for p in found
        if p.state == proposals.UNCONFIRMED
    ]
    calm = [
        f"{p.name} by {p.by} waits for a second person: crossdock diff {p.name}" for p in found if p.state == "open"
    ]
    return loud, calm


@served
def approve(data: DataDirectory, name: str, by: str, now_us: int, *, comment: str = "") -> Settled:
    """The word of *by* for what *name* names ("p3", the beginning of a hash; the number of a revision that broke the
    glass). With the last one that was missing it is in force.

    Raises Refused for its author, for one who approved already, and for what no longer waits.
    """
    _only_people(by)
    with closing(connection.connect(data.state)) as db:
        proposal = _found(db, name)
        if gate.person(by) == gate.person(proposal.actor):
            raise Refused(
                f"p{proposal.number} is by {proposal.actor}, and nobody approves their own change",
                hint="a second person must: crossdock approve, by another user of this machine or of the API",
            )
        if proposal.state == proposals.UNCONFIRMED:
            return _confirm(db, proposal, by, comment, now_us)
        _still_good(db, proposal, by, now_us)
        change = _change(db, proposal)  # raises when this release no longer accepts the tree
        prepared = gate.prepare(data, db, change)
        with connection.transaction(db):
            return _approved(db, proposal, change, prepared, by, comment, now_us)


@served
def reject(data: DataDirectory, name: str, by: str, because: str, now_us: int) -> Settled:
    """*name* is never put in force. Its author may also take it back. Raises Refused when it no longer waits."""
    _only_people(by)
    with closing(connection.connect(data.state)) as db:
        proposal = _found(db, name)
        if proposal.state == proposals.UNCONFIRMED:
            raise Refused(
                f"revision {proposal.revision} is in force already",
                hint=f"go back instead: crossdock rollback {proposal.base}",
            )
        with connection.transaction(db):
            if not proposals.settle(db, proposal, proposals.REJECTED, by=by, now_us=now_us, reason=because):
                raise Refused(f"p{proposal.number} was settled meanwhile", hint="crossdock approvals --all")
            details = {"because": because, "hash": proposal.hash}
            audit.append(
                db, actor=by, action="proposal.reject", target=f"p{proposal.number}", details=details, now_us=now_us
            )
    return Settled(f"p{proposal.number}", proposals.REJECTED, 0, 0)


def _found(db: sqlite3.Connection, name: str) -> Proposal:
    what: Named = named(db, name)
    proposal = proposals.get(db, what.proposal) if what.proposal else proposals.of_revision(db, what.revision)
    if proposal is None:
        raise ConfigError(f"revision {what.revision} waits for nobody", hint="'crossdock approvals' shows what waits")
    if proposal.state not in WAITING:
        became = f" and is revision {proposal.revision}" if proposal.revision else ""
        raise Refused(f"p{proposal.number} is {proposal.state}{became}", hint="'crossdock approvals' shows what waits")
    return proposal


def _still_good(db: sqlite3.Connection, proposal: Proposal, by: str, now_us: int) -> None:
    """Raises Refused for a proposal whose base is no longer in force; it stays on record as stale."""
    head = revisions.head_number(db)
    if head == proposal.base:
        return
    with connection.transaction(db):
        if proposals.settle(db, proposal, proposals.STALE, by=by, now_us=now_us):
            details = {"base": proposal.base, "in_force": head}
            audit.append(
                db, actor=by, action="proposal.stale", target=f"p{proposal.number}", details=details, now_us=now_us
            )
    raise Refused(
        f"p{proposal.number} was planned against revision {proposal.base}, and revision {head} is in force now",
        hint="its author plans and applies it again: crossdock plan DIR, crossdock apply DIR",
    )


def _change(db: sqlite3.Connection, proposal: Proposal) -> gate.Change:
    from crossdock_controller.config import diff
    from crossdock_controller.config.errors import ConfigInvalid

    tree, current = proposals.tree(db, proposal.number), revisions.tree(db, proposal.base)
    made = diff.plan(current, tree, proposal.environment)
    if not made.applicable:
        raise ConfigInvalid(made.problems)
    head = gate.Head(proposal.base, current, facts.environment(db))
    slip, waves = gate.slip_of(proposal.options), gate.waves_of(proposal.options)
    signed = (slip, ()) if slip is not None else None
    return gate.Change(made, head, proposal.actor, proposal.action, proposal.message, signed, waves=waves)


def _approved(
    db: sqlite3.Connection,
    proposal: Proposal,
    change: gate.Change,
    prepared: Prepared | None,
    by: str,
    comment: str,
    now_us: int,
) -> Settled:
    name, needs = f"p{proposal.number}", gate.needs_of(proposal.needs)
    now = proposals.get(db, proposal.number)
    if now is None or now.state != proposals.OPEN:
        raise Refused(f"{name} was settled meanwhile", hint="crossdock approvals --all")
    if not proposals.approve(db, proposal.number, person=gate.person(by), actor=by, comment=comment, now_us=now_us):
        raise Refused(f"{by} has approved {name} already", hint="another person must")
    details = {"comment": comment, "hash": proposal.hash, "author": proposal.actor}
    audit.append(db, actor=by, action="proposal.approve", target=name, details=details, now_us=now_us)
    given = proposals.approvals(db, proposal.number)
    missing = _missing(needs, len(given))
    if missing:
        return Settled(name, proposals.OPEN, 0, missing)
    approved = ", ".join(approval.actor for approval in given)
    number = gate.store(db, change, prepared, now_us, actor=by, approved=approved)
    proposals.settle(db, proposal, proposals.APPROVED, by=by, now_us=now_us, revision=number)
    return Settled(name, proposals.APPROVED, number, 0, prepared is not None)


def _confirm(db: sqlite3.Connection, proposal: Proposal, by: str, comment: str, now_us: int) -> Settled:
    """One that broke the glass is in force; as many people as it needed still look at it."""
    name, needs = f"p{proposal.number}", gate.needs_of(proposal.needs)
    with connection.transaction(db):
        if not proposals.approve(db, proposal.number, person=gate.person(by), actor=by, comment=comment, now_us=now_us):
            raise Refused(f"{by} has confirmed {name} already", hint="another person must")
        missing = _missing(needs, len(proposals.approvals(db, proposal.number)))
        if not missing:
            proposals.settle(db, proposal, proposals.CONFIRMED, by=by, now_us=now_us)
        audit.append(
            db, actor=by, action="revision.confirm", target=str(proposal.revision), now_us=now_us,
            details={"comment": comment, "author": proposal.actor, "missing": missing},
        )  # fmt: skip
    state = proposals.UNCONFIRMED if missing else proposals.CONFIRMED
    return Settled(name, state, proposal.revision, missing)


def _missing(needs: list[Need], given: int) -> int:
    """How many people still. One that broke the glass past a promotion alone is looked at by one."""
    return max(0, max(gate.people(needs), 1) - given)


def _promoted(proposal: Proposal) -> str:
    slip = gate.slip_of(proposal.options)
    if slip is None:
        return ""
    before = f", before that {slip.trouble}" if slip.trouble else ""
    return f"from {slip.environment}, revision {slip.revision}, {slip.quiet_hours:.1f} hours without trouble{before}"


def _only_people(by: str) -> None:
    if not by.startswith(("local:", "user:")) or not gate.person(by):
        raise Refused(
            f"{by!r} is no person: people approve changes", hint="log in as a user, or use the controller's machine"
        )
