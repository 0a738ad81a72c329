"""`crossdock agents`: how the sites are."""

from __future__ import annotations

import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import fleet
from crossdock_controller.paths import DataDirectory


@click.group(invoke_without_command=True)
@data_option
@json_option
@click.pass_context
def agents(ctx: click.Context, data: DataDirectory, as_json: bool) -> None:
    """Who is connected, under which revision, with how much still in the outbox."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = data
        return
    require_data(data)
    now_us = time.time_ns() // 1000
    found = fleet.agents(data, now_us)
    if as_json:
        emit({"agents": found})
        return
    _show(found, now_us)


@agents.command("adopt")
@click.argument("name")
@click.option("--site", default="", metavar="SITE", help="The site it works for. [default: NAME]")
@click.pass_obj
def agents_adopt(data: DataDirectory, name: str, site: str) -> None:
    """Let agent NAME in again, which enrolled after the backup that was restored. It goes on by itself."""
    require_data(data)
    adopted = fleet.adopt(data, name, site, time.time_ns() // 1000, by=actor())
    click.echo(f"agent {name} of site {adopted} is on the list again; it connects within half a minute")


def _show(found: list[fleet.AgentView], now_us: int) -> None:
    from crossdock_controller.cli.screen import next_steps, number, screen, state, table

    if not found:
        screen().print("No agent has enrolled yet.")
        next_steps(["crossdock token create --site NAME, and paste what it prints at the site"])
        return
    grid = table(
        "agent", "site", "state", "last seen", "version", "revision", ">outbox", ">oldest", "forecast", "~host"
    )
    for agent in found:
        waiting = agent.outbox.records
        grid.add_row(
            agent.agent, agent.site, state(agent.state), words.ago(agent.last_seen_us, now_us), agent.version,
            revision_of(agent), number(waiting),
            words.duration((now_us - agent.outbox.oldest_us) / 1e6) if agent.outbox.oldest_us else "-",
            outlook_of(agent, now_us), agent.host,
        )  # fmt: skip
    screen().print(grid)
    for agent in found:
        for problem in agent.problems:
            screen().print(f"[yellow]![/] {agent.agent}: ", end="")
            screen().print(problem, markup=False)
    show_throttled(found)
    show_paused(found, now_us)
    next_steps(steps(found))


def share_of(outbox: fleet.OutboxHealth) -> str:
    """How full it is: "-" when empty, "<1%", "83%"."""
    if not outbox.bytes or not outbox.limit_bytes:
        return "-"
    percent = outbox.bytes * 100 // outbox.limit_bytes
    return f"{percent}%" if percent else "<1%"


def outlook_of(agent: fleet.AgentView, now_us: int) -> str:
    """ "83%, full in 3 h", "4%" without a forecast, "-" for an empty outbox."""
    told = [text for text in (share_of(agent.outbox), forecast_of(agent, now_us)) if text != "-"]
    return ", ".join(told) or "-"


def forecast_of(agent: fleet.AgentView, now_us: int) -> str:
    """ "full in 3 d 4 h", "drained in 20 min", or "-"."""
    outbox = agent.outbox
    if outbox.fills_at_us:
        return f"full {_roughly(outbox.fills_at_us, now_us)}"
    return f"drained {_roughly(outbox.drained_at_us, now_us)}" if outbox.drained_at_us else "-"


def _roughly(at_us: int, now_us: int) -> str:
    """As `words.ahead`, without the seconds beside minutes."""
    told = words.ahead(at_us, now_us)
    minutes, mark, _ = told.partition(" min ")
    return f"{minutes} min" if mark and told.startswith("in ") else told


def show_throttled(found: list[fleet.AgentView]) -> None:
    """What holds connected agents back now, on purpose: no problem, and good to know."""
    from crossdock_controller.cli.screen import screen

    for agent in found:
        for limit in agent.limits if agent.state == "connected" else ():
            if limit.throttling:
                screen().print(f"[cyan]~[/] {agent.agent}: ", end="")
                screen().print(limit.sentence, markup=False)


def show_paused(found: list[fleet.AgentView], now_us: int) -> None:
    """Sources that somebody has paused: not to be forgotten."""
    from crossdock_controller.cli.screen import screen

    for agent, source in paused(found):
        since = words.ago(source.paused_since_us - agent.clock_offset_us, now_us)
        screen().print(f"[yellow]=[/] {agent.agent}: ", end="")
        screen().print(f"{source.source} was paused {since} by {source.paused_by}", markup=False)


def paused(found: list[fleet.AgentView]) -> list[tuple[fleet.AgentView, fleet.SourceHealth]]:
    return [(a, source) for a in found if a.state != "revoked" for source in a.sources if source.paused_since_us]


def revision_of(agent: fleet.AgentView) -> str:
    """ "7", or "6, 7 offered" while it has not applied what it is to run, "6, refused 7" when it could not."""
    if agent.config_state == "failed":
        return f"{agent.revision or '-'}, refused {agent.desired_revision}"
    if agent.desired_revision not in {0, agent.revision}:
        return f"{agent.revision or '-'}, {agent.desired_revision} offered"
    return str(agent.revision or "-")


def steps(found: list[fleet.AgentView]) -> list[str]:
    """What to do about agents that are not well."""
    todo = [f"at {a.host or a.site}: crossdock-agent check" for a in found if a.state in {"offline", "silent"}]
    todo += [
        f"is {a.agent} one of yours, and not revoked? let it in: crossdock agents adopt {a.agent} --site SITE"
        for a in found
        if a.state == "unknown"
    ]
    todo += [f"correct the tree and apply it again: {a.agent} refused it" for a in found if a.config_state == "failed"]
    todo += [f"crossdock command {a.agent} resume {s.source}: its data waits there" for a, s in paused(found)]
    return list(dict.fromkeys(todo))
