"""What a planned change needs before it is in force: people, by the policy in force, and a run in another environment.

made = gate.Change(plan, base=12, current=tree, by="local:anna", action="revision.apply", message="why")
gate.put(data, made, now_us)     # a new revision, or a proposal that waits for a second person
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from crossdock.errors import ConfigError, Refused
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import audit, connection, facts, proposals, revisions, rollouts

if TYPE_CHECKING:
    from crossdock_controller.commands.rollout import InWaves, Prepared
    from crossdock_controller.config.diff import Plan
    from crossdock_controller.config.policy import Need, Policy
    from crossdock_controller.config.slip import Slip

APPLY, ROLLBACK, ENVIRONMENT = "revision.apply", "revision.rollback", "environment.set"


@dataclass(frozen=True, slots=True)
class Head:
    """What is in force: revision *number* (0 and None: nothing yet), for the environment that this controller *serves*.

    *damaged*: its tree is not what was stored; *tree* is that of the last sound revision before it.
    """

    number: int
    tree: revisions.StoredTree | None
    serves: str
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """*plan* is the way from *head*. *slip* with the CAs that signed
    it, when one was given; *break_glass* is why it cannot wait; *waves* how it is brought to the sites."""

    plan: Plan
    head: Head
    by: str
    action: str
    message: str
    slip: tuple[Slip, Sequence[str]] | None = None
    break_glass: str = ""
    waves: InWaves | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """*revision* is in force now, or with *rollout* on its way to be. *proposal*: the number of the one that waits, or
    that is in force without the second person that it *needs*; 0 when none does."""

    revision: int
    changed: bool
    proposal: int = 0
    needs: tuple[Need, ...] = ()
    rollout: Prepared | None = None


def person(actor: str) -> str:
    """Who *actor* ("local:anna", "user:Anna") is: one person, however they came."""
    kind, colon, name = actor.partition(":")
    return (name if colon else kind).strip().casefold()


def put(data: DataDirectory, change: Change, now_us: int) -> Outcome:
    """Raises ConfigError when another revision was put in force meanwhile, Refused when the policy forbids it."""
    if change.break_glass and not change.by.startswith("local:"):
        raise Refused(
            "only an administrator on the controller's own machine may break the glass", hint="ask one of them"
        )
    needs = required(change)
    with closing(connection.connect(data.state)) as db:
        unmet = _promotion_unmet(db, change)
        if unmet is not None and not change.break_glass:
            raise unmet
        prepared = prepare(data, db, change)
        with connection.transaction(db):
            if needs and not change.break_glass:
                return _propose(db, change, needs, now_us)
            number = store(db, change, prepared, now_us)
            proposal = 0
            if change.break_glass and (needs or unmet is not None):
                proposal = _note_emergency(db, change, needs, number, now_us)
    return Outcome(number, True, proposal, tuple(needs), prepared)


def prepare(data: DataDirectory, db: sqlite3.Connection, change: Change) -> Prepared | None:
    """Which sites are in which of its waves; None without waves. Raises ConfigError when it cannot be rolled out so."""
    if change.waves is None:
        return None
    from crossdock_controller.commands import rollout

    revisions.refuse_during_rollout(db)  # before anything is said about the waves
    if change.head.damaged:
        raise ConfigError(
            f"revision {change.head.number} is damaged: there is none to go back to",
            hint="apply this one without --wave",
        )
    return rollout.prepare(data, change.waves, change.head.tree, planned_tree(change))


def planned_tree(change: Change) -> revisions.StoredTree:
    """What was planned, for the environment it was planned for."""
    tree = revisions.StoredTree(change.plan.tree)
    tree.environment = change.plan.environment
    return tree


def store(
    db: sqlite3.Connection,
    change: Change,
    prepared: Prepared | None,
    now_us: int,
    *,
    actor: str = "",
    approved: str = "",
) -> int:
    """The new revision's number, put in force (or on its way, as *prepared*) on behalf of its author; by *actor* when
    that is someone else, with the word of those who *approved* it. In a transaction."""
    author = change.by.partition(":")[2] or change.by
    number = revisions.add(
        db, change.plan.tree, hash_=change.plan.after, author=author, message=change.message, now_us=now_us,
        expected=change.head.number, environment=change.plan.environment,
    )  # fmt: skip
    if change.action == ENVIRONMENT:
        facts.set_environment(db, change.plan.environment)
    details = {"hash": change.plan.after, "message": change.message, "changes": len(change.plan.changes)}
    if change.plan.environment:
        details["environment"] = change.plan.environment
    if approved:
        details |= {"approved_by": approved, "author": change.by}
    if change.slip is not None:
        details["promoted_from"] = f"{change.slip[0].environment} revision {change.slip[0].revision}"
    audit.append(db, actor=actor or change.by, action=change.action, target=str(number), details=details, now_us=now_us)
    if prepared is not None:
        from crossdock_controller.commands import rollout

        rollout.begin(db, prepared, number, change.head.number, actor or change.by, now_us)
    return number


def required(change: Change) -> list[Need]:
    """What the policy in force asks of *change*; nothing before the first policy."""
    from crossdock_controller.config import policy as policies

    policy = _policy(change)
    needs = policies.needs(policy, change.plan.touched, change.plan.reached, change.plan.environment)
    if policy is not None and change.plan.moves:
        needs.append(policies.Need("the environment of this controller", 1, ()))
    return needs


def people(needs: Sequence[Need]) -> int:
    """How many must approve, besides the author."""
    return max((need.people for need in needs), default=0)


def needs_json(needs: Sequence[Need]) -> str:
    return json.dumps([asdict(need) for need in needs], ensure_ascii=False)


def options_json(change: Change) -> str:
    """What a proposal keeps: its waves, and the slip it came with."""
    options: dict[str, object] = {}
    if change.waves is not None:
        options["waves"] = asdict(change.waves)
    if change.slip is not None:
        options["slip"] = asdict(change.slip[0])
    return json.dumps(options, ensure_ascii=False)


def slip_of(text: str) -> Slip | None:
    """The slip that a proposal came with; it was looked at then."""
    from crossdock_controller.config.slip import Slip

    given = json.loads(text).get("slip")
    return Slip(**given) if given is not None else None


def waves_of(text: str) -> InWaves | None:
    """How a proposal is to be brought to the sites."""
    from crossdock_controller.commands.rollout import InWaves
    from crossdock_controller.rollouts.waves import Asked

    given = json.loads(text).get("waves")
    if given is None:
        return None
    asked = tuple(Asked(**one) for one in given["asked"])
    return InWaves(asked, given["hold_seconds"], given["patience_seconds"])


def needs_of(text: str) -> list[Need]:
    from crossdock_controller.config.policy import Need

    return [Need(n["rule"], n["people"], tuple(n["paths"])) for n in json.loads(text)]


def _policy(change: Change) -> Policy | None:
    from crossdock_controller.config.load import policy_of

    if change.head.tree is None:
        return None
    try:
        return policy_of(change.head.tree)
    except ConfigError:
        if change.break_glass:
            from crossdock_controller.config.policy import ApprovalRule, Policy

            return Policy(approvals=[ApprovalRule()])  # it cannot be read: what is done past it is to be confirmed
        raise


def _promotion_unmet(db: sqlite3.Connection, change: Change) -> Refused | None:
    """Why the policy in force forbids to apply this tree here now; None when it does not."""
    policy = _policy(change)
    rule = policy.promotion if policy is not None else None
    if change.slip is not None and change.slip[0].tree != change.plan.after:
        return Refused(
            f"the slip is for another tree: {change.slip[0].tree[:12]}, not {change.plan.after[:12]}",
            hint="apply exactly what ran there (the same commit), or promote what runs there now",
        )
    if rule is None or change.plan.environment == rule.from_ or _ran_here(db, change):
        return None
    if change.slip is None:
        return Refused(
            f"by the policy in force a tree must have run in {rule.from_!r} before it is applied here",
            hint="there: crossdock config promote --out FILE; here: crossdock apply DIR --promotion FILE",
        )
    slip, signers = change.slip
    if rule.authority not in signers:
        return Refused(
            f"the slip is signed by {signers[0][:16]}..., and the policy in force trusts {rule.authority[:16]}...",
            hint="promote from the controller that the policy names, or change the policy",
        )
    if slip.environment != rule.from_:
        return Refused(f"the slip is from {slip.environment!r}, and the policy in force asks for {rule.from_!r}")
    if slip.quiet_hours < rule.hours:
        return Refused(
            f"the tree had run for {slip.quiet_hours:.1f} hours without trouble in {slip.environment!r}, and the "
            f"policy in force asks for {rule.hours:g}" + (f"; before that: {slip.trouble}" if slip.trouble else ""),
            hint="wait, and promote again",
        )
    return None


def _ran_here(db: sqlite3.Connection, change: Change) -> bool:
    """Whether this very tree was in force here before: going back needs no run elsewhere."""
    taken_back = {number for number, (state, _why) in rollouts.states(db).items() if state != "complete"}
    return any(
        (row.hash, row.environment) == (change.plan.after, change.plan.environment) and row.number not in taken_back
        for row in revisions.list_all(db)
    )


def _propose(db: sqlite3.Connection, change: Change, needs: list[Need], now_us: int) -> Outcome:
    """Store it for a second person; the same change by the same author against the same base is one proposal. Another
    environment, or other waves, make it another: it would not be what was asked for that is approved."""
    head = revisions.head_number(db)
    if head != change.head.number:
        raise ConfigError(f"revision {head} was applied meanwhile", hint="look at the plan again, then apply")
    for known in proposals.list_all(db, (proposals.OPEN,)):
        if _asks_for(known, change):
            return Outcome(change.head.number, False, known.number, tuple(needs))
    number = proposals.add(
        db, dict(change.plan.tree), base=change.head.number, environment=change.plan.environment, actor=change.by,
        action=change.action, message=change.message, needs=needs_json(needs), options=options_json(change),
        now_us=now_us,
    )  # fmt: skip
    details = {
        "hash": change.plan.after,
        "message": change.message,
        "base": change.head.number,
        "people": people(needs),
    }
    audit.append(db, actor=change.by, action="proposal.make", target=f"p{number}", details=details, now_us=now_us)
    return Outcome(change.head.number, False, number, tuple(needs))


def _asks_for(known: proposals.Proposal, change: Change) -> bool:
    waves = json.loads(options_json(change)).get("waves")
    return (
        known.hash, known.base, person(known.actor), known.environment, known.action,
        json.loads(known.options).get("waves"),
    ) == (
        change.plan.after, change.head.number, person(change.by), change.plan.environment, change.action, waves,
    )  # fmt: skip


def _note_emergency(db: sqlite3.Connection, change: Change, needs: list[Need], revision: int, now_us: int) -> int:
    number = proposals.add(
        db, dict(change.plan.tree), base=change.head.number, environment=change.plan.environment, actor=change.by,
        action=change.action, message=change.message, needs=needs_json(needs), options="{}", now_us=now_us,
        state=proposals.UNCONFIRMED, reason=change.break_glass, revision=revision,
    )  # fmt: skip
    details = {"reason": change.break_glass, "hash": change.plan.after, "rules": [need.rule for need in needs]}
    audit.append(
        db, actor=change.by, action="revision.break_glass", target=str(revision), details=details, now_us=now_us
    )
    return number
