"""The account: every record that came in is delivered, on its way, set aside, or left out for a reason."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands.fleet import AgentView, agents
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import account as store
from crossdock_controller.store import views
from crossdock_controller.store.account import AccountRow


@dataclass(frozen=True, slots=True)
class AccountLine:
    """Records of one source at one site (or of all). *in_* = delivered + superseded + pending + held + dead + discarded
    + ignored + duplicates + unrouted when it is *balanced*; *missing* is what is nowhere, negative when some
    are counted twice.

    *waiting* is the part of *pending* not normalized yet, *retrying* the part that failed at least once.
    """

    site: str
    source: str
    in_: int
    delivered: int
    pending: int
    held: int
    dead: int
    discarded: int
    ignored: int
    duplicates: int
    unrouted: int
    waiting: int
    retrying: int
    missing: int
    balanced: bool
    superseded: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """*lost* and *doubled* are summed over the sources: one source's surplus never hides another's loss.

    *outbox_records* wait at the sites, as the agents last said; they are not part of "in" yet.
    """

    now_us: int
    sources: list[AccountLine]
    total: AccountLine
    lost: int
    doubled: int
    balanced: bool
    outbox_records: int


@served
def account(data: DataDirectory, now_us: int, within: Sites = EVERYWHERE) -> Account:
    """The account at this moment; consistent while everything runs."""
    lines = [_line(row) for row in store.account(data.state, data.intake) if within(row.site)]
    outbox = sum(_in_outbox(data, agent) for agent in agents(data, now_us, within))
    lost = sum(max(0, line.missing) for line in lines)
    doubled = sum(max(0, -line.missing) for line in lines)
    return Account(now_us, lines, _total(lines), lost, doubled, not lost and not doubled, outbox)


def _in_outbox(data: DataDirectory, agent: AgentView) -> int:
    """What the agent's outbox held at its last heartbeat, less what has come in since."""
    if agent.state == "revoked" or not agent.outbox.records or not data.intake.exists():
        return 0
    with closing(views.open_intake(data.intake)) as intake:
        return max(0, agent.outbox.records - views.received_since(intake, agent.agent, agent.last_seen_us))


def _line(row: AccountRow) -> AccountLine:
    return AccountLine(
        row.site, row.source, row.received, row.delivered, row.pending, row.held, row.dead, row.discarded, row.ignored,
        row.duplicates, row.unrouted, row.waiting, row.retrying, row.missing, row.balanced,
        row.superseded,
    )  # fmt: skip


def _total(lines: list[AccountLine]) -> AccountLine:
    def add(field: str) -> int:
        return sum(getattr(line, field) for line in lines)

    return AccountLine(
        "", "", add("in_"), add("delivered"), add("pending"), add("held"), add("dead"), add("discarded"),
        add("ignored"), add("duplicates"), add("unrouted"), add("waiting"), add("retrying"), add("missing"),
        all(line.balanced for line in lines), add("superseded"),
    )  # fmt: skip
