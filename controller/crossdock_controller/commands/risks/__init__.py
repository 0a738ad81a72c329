"""Who will lock out and when, the most urgent first: `crossdock fleet risks`."""

from __future__ import annotations

from contextlib import closing

from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands import fleet as fleet_commands
from crossdock_controller.commands.risks import agents, api, authorities, joining, lives
from crossdock_controller.commands.risks.risk import DAY_US, LEVELS, Risk, Risks, in_order
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import certificates, connection, enrolments, facts, machines, people, refusals, tokens

__all__ = ["LEVELS", "Risk", "Risks", "risks"]

OF_AGENTS = frozenset({"certificate", "clock", "identity", "move", "protocol", "renewal", "trust", "version"})
DEFAULT_GRACE_US = 30 * DAY_US  # where no controller of this release has run yet


@served
def risks(data: DataDirectory, now_us: int, *, authorities_too: bool = True, within: Sites = EVERYWHERE) -> Risks:
    """All of them at *now_us*, of agents at sites in *within*; what is of no agent only for who sees every site. Reads
    only; works whether or not the controller runs.

    Without *authorities_too* the authorities' files are not read, which is quicker: of the controller's own
    certificates it says what the running controller last noted, and nothing of a replacement that is under way.
    """
    fleet = fleet_commands.agents(data, now_us)
    with closing(connection.connect(data.state)) as db, connection.snapshot(db):
        newest = certificates.newest(db)
        forged = certificates.unissued(db, now_us - 30 * DAY_US)
        day_ago = now_us - DAY_US
        identity = refusals.since(db, day_ago, refusals.IDENTITY)
        port = refusals.since(db, day_ago, refusals.PORT)
        bound, waiting, open_tokens = machines.list_all(db), enrolments.waiting(db), tokens.list_all(db)
        people_tokens = people.tokens(db)
        names = (facts.GRACE, facts.SERVER_ENDS, facts.AUTHORITY_ENDS)
        grace_us, server_us, authority_us = (int(facts.get(db, name) or b"0") for name in names)
        grace_us = grace_us if facts.get(db, facts.GRACE) else DEFAULT_GRACE_US
    spans = {a.agent: life for a in fleet if (life := lives.life_of(a, newest.get(a.agent))) is not None}
    found = [
        *lives.certificates(fleet, spans, grace_us, now_us),
        *authorities.server(server_us, now_us),
        *authorities.unissued(forged),
        *(_authorities(data, now_us) if authorities_too else authorities.noted(authority_us, now_us)),
        *agents.clocks(fleet, spans, server_us, now_us),
        *agents.releases(fleet),
        *agents.strangers(fleet),
        *agents.copies(identity, {a.agent: a.site for a in fleet}, now_us),
        *agents.moves(bound, now_us),
        *joining.waiting(waiting, now_us),
        *joining.open_tokens(open_tokens, now_us),
        *joining.refused(port, now_us),
        *api.tokens(people_tokens, now_us),
        *(api.certificate(data.api, now_us) if authorities_too else ()),
    ]
    if not within.everything:
        known = {agent.agent for agent in fleet if within(agent.site)}
        found = [risk for risk in found if risk.kind in OF_AGENTS and risk.subject in known]
    return Risks(now_us, sum(risk.pressing for risk in found), in_order(found))


def _authorities(data: DataDirectory, now_us: int) -> list[Risk]:
    """From the authorities' own files, and from what each agent trusts."""
    if not data.authority.exists():
        return []
    from crossdock_controller.commands import authorities as commands

    known = commands.listing(data, now_us)
    return [*authorities.endings(known, now_us), *authorities.lacking(known)]
