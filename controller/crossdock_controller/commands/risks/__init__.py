"""Who will lock out and when, the most urgent first: `crossdock fleet risks`."""

from __future__ import annotations

from contextlib import closing

from crossdock_controller.commands import authorities as authority_commands
from crossdock_controller.commands import fleet as fleet_commands
from crossdock_controller.commands.risks import agents, authorities, joining, lives
from crossdock_controller.commands.risks.risk import DAY_US, LEVELS, Risk, Risks, in_order
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store import certificates, connection, enrolments, machines, refusals, tokens

__all__ = ["LEVELS", "Risk", "Risks", "risks"]


def risks(data: DataDirectory, now_us: int) -> Risks:
    """All of them at *now_us*. Reads only; works whether or not the controller runs."""
    fleet = fleet_commands.agents(data, now_us)
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        held = certificates.held(db)
        day_ago = now_us - DAY_US
        identity = refusals.since(db, day_ago, refusals.IDENTITY)
        port = refusals.since(db, day_ago, refusals.PORT)
        bound, waiting, open_tokens = machines.list_all(db), enrolments.waiting(db), tokens.list_all(db)
    known = authority_commands.listing(data, now_us) if data.authority.exists() else None
    grace_us = known.grace_us if known else authority_commands.DEFAULT_GRACE_US
    spans = {a.agent: life for a in fleet if (life := lives.life_of(a, held.get(a.agent, ()))) is not None}
    found = [
        *lives.certificates(fleet, held, grace_us, now_us),
        *(authorities.all_of(known, now_us) if known else ()),
        *agents.clocks(fleet, spans, known.server_ends_us if known else 0, now_us),
        *agents.releases(fleet),
        *agents.strangers(fleet),
        *agents.copies(identity, {a.agent: a.site for a in fleet}, now_us),
        *agents.moves(bound, now_us),
        *joining.waiting(waiting, now_us),
        *joining.open_tokens(open_tokens, now_us),
        *joining.refused(port, now_us),
    ]
    return Risks(now_us, sum(risk.pressing for risk in found), in_order(found))
