"""`crossdock plan`, `apply`, `history`, `rollback`: one tree of YAML files in, numbered revisions out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crossdock.errors import ConfigError
from crossdock_controller.cli import words
from crossdock_controller.cli.approvals import needs_lines
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import Period, actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.cli.plans import plain, show_plan
from crossdock_controller.commands import configuration
from crossdock_controller.commands.fleet import AgentView
from crossdock_controller.commands.fleet import agents as fleet_agents
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.rollouts import LIVE

if TYPE_CHECKING:
    from crossdock_controller.commands.rollout import InWaves, Prepared
    from crossdock_controller.config.diff import Plan

WAIT_SECONDS = 30.0
_PROMOTION = "A slip that says where this very tree ran: crossdock config promote."
_BREAK_GLASS = (
    "In force at once, without the second person that the policy asks for; it is shown until one confirms it."
)
_F = TypeVar("_F", bound=Callable[..., Any])


def _waves_options(command: _F) -> _F:
    """`--wave`, `--then`, `--hold`, `--patience`: the command gets them as *wave*, *then*, *hold* and *patience*."""
    options = [
        click.option("--wave", metavar="[NAME=]SITES", help="Roll out in waves, these first: atl1,rtm1 or 10% or all."),
        click.option(
            "--then",
            metavar="SITES",
            multiple=True,
            help="The next wave: 10%, region=us, all. May be given several times; what none selects is a last wave.",
        ),
        click.option("--hold", type=Period(), default="10m", show_default=True, help="How long each wave is watched."),
        click.option(
            "--patience",
            type=Period(),
            default="10m",
            show_default=True,
            help="How long a wave waits for its agents that are not connected.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _in_waves(wave: str | None, then: tuple[str, ...], hold: float, patience: float) -> InWaves | None:
    """None when no wave was asked for."""
    from crossdock_controller.commands.rollout import InWaves
    from crossdock_controller.rollouts import waves

    if wave is None:
        if then:
            raise click.UsageError("--then follows a --wave: which sites are first?")
        return None
    return InWaves((waves.first(wave), *(waves.following(text) for text in then)), hold, patience)


_WAIT = f"Wait until every connected agent has it, at most {WAIT_SECONDS:.0f} s; with --wave, until all is done."
_TREE = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.command()
@_TREE
@click.option("--site", default="", metavar="NAME", help="Only what changes at this site.")
@click.option("--environment", default=None, metavar="NAME", help="As it would be there, not where this controller is.")
@_waves_options
@data_option
@json_option
def plan(
    directory: Path,
    site: str,
    environment: str | None,
    wave: str | None,
    then: tuple[str, ...],
    hold: float,
    patience: float,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """What the tree in DIR would change, and every error in it. Nothing is changed.

    Exit code 1 when the tree has an error.
    """
    from crossdock_controller.cli.screen import working

    with working("reading the tree"):
        planned = configuration.plan(data, directory, environment, _in_waves(wave, then, hold, patience))
    _refuse_unknown(site, planned.plan)
    if as_json:
        waves = {"rollout": planned.rollout} if planned.rollout is not None else {}
        emit({"revision": planned.revision, "needs": planned.needs, **waves, **planned.plan.as_json()})
    else:
        show_plan(planned.plan, planned.revision, str(directory), site, planned.needs)
        if planned.rollout is not None:
            from crossdock_controller.cli import rollout

            rollout.show_plan(planned.rollout)
    if not planned.plan.applicable:
        raise click.exceptions.Exit(PROBLEM)


@click.command()
@_TREE
@click.option("-m", "--message", default="", help="Why; it stands in the history.")
@_waves_options
@click.option("--promotion", default=None, metavar="FILE", type=click.Path(path_type=Path), help=_PROMOTION)
@click.option("--break-glass", default="", metavar="REASON", help=_BREAK_GLASS)
@click.option("--wait", is_flag=True, help=_WAIT)
@data_option
@json_option
def apply(
    directory: Path,
    message: str,
    wave: str | None,
    then: tuple[str, ...],
    hold: float,
    patience: float,
    promotion: Path | None,
    break_glass: str,
    wait: bool,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Make the tree in DIR the next revision. Each site gets its part at once, or in waves, each held until it is known
    to be well; an agent that cannot use it keeps what it has and says why. Where the policy in force asks for a second
    person, it waits for them.
    """
    require_data(data)
    from crossdock_controller.cli.screen import working
    from crossdock_controller.config.errors import ConfigInvalid

    waves = _in_waves(wave, then, hold, patience)
    try:
        with working("reading the tree"):
            applied = configuration.apply(
                data, directory, actor(), message, time.time_ns() // 1000, waves,
                promotion=promotion, break_glass=break_glass,
            )  # fmt: skip
    except ConfigInvalid:
        planned = configuration.plan(data, directory)
        if as_json:
            emit({"revision": planned.revision, "changed": False, **planned.plan.as_json()})
        else:
            show_plan(planned.plan, planned.revision)
        raise click.exceptions.Exit(PROBLEM) from None
    _answer(applied, data, wait, as_json)


@click.command()
@data_option
@json_option
def history(data: DataDirectory, as_json: bool) -> None:
    """Revisions, newest first, and which agents run them."""
    require_data(data)
    found = configuration.history(data, time.time_ns() // 1000)
    if as_json:
        emit({"revisions": found})
        return
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    if not found:
        screen().print("There is no revision yet.")
        next_steps(["crossdock apply DIR"])
        return
    grid = table(">rev", "hash", "", "applied", "by", "~message", "~run by")
    for revision in found:
        mark = state("running", "in force") if revision.current else ""
        if revision.rollout and not revision.current and revision.rollout != "complete":
            mark = state("retrying" if revision.rollout in LIVE else "failed", revision.rollout)
        if revision.damaged:
            mark = state("damaged")
        elif revision.approval == "unconfirmed":
            mark = state("open", "in force, unconfirmed" if revision.current else "unconfirmed")
        grid.add_row(
            str(revision.revision), revision.hash[:12], mark, words.minute(revision.created_us), revision.author,
            revision.message or "-", _run_by(revision.agents),
        )  # fmt: skip
    screen().print(grid)
    for revision in found:
        if revision.why:
            screen().print(f"[yellow]![/] {revision.revision} was taken back: ", end="")
            screen().print(revision.why, markup=False, soft_wrap=True)
    if any(revision.damaged for revision in found):
        next_steps(
            ["a damaged revision is not what was applied and is offered to nobody: restore a backup, or apply again"]
        )


@click.command()
@click.argument("revision", metavar="REV")
@_waves_options
@click.option("--break-glass", default="", metavar="REASON", help=_BREAK_GLASS)
@click.option("--wait", is_flag=True, help=_WAIT)
@data_option
@json_option
def rollback(
    revision: str,
    wave: str | None,
    then: tuple[str, ...],
    hold: float,
    patience: float,
    break_glass: str,
    wait: bool,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Go back to the tree of revision REV (its number, or the beginning of its hash); it becomes the next revision, so
    that nothing is lost from the history."""
    require_data(data)
    waves = _in_waves(wave, then, hold, patience)
    applied = configuration.rollback(data, revision, actor(), time.time_ns() // 1000, waves, break_glass=break_glass)
    _answer(applied, data, wait, as_json)


def _answer(applied: configuration.Applied, data: DataDirectory, wait: bool, as_json: bool) -> None:
    if applied.rollout is not None and applied.changed:
        _answer_rollout(applied, applied.rollout, data, wait, as_json)
        return
    waited = _wait_for_agents(data, applied.revision) if wait and applied.changed else []
    failed = [a.agent for a in waited if a.config_state == "failed" and a.desired_revision == applied.revision]
    if as_json:
        agents = [{"agent": a.agent, "state": a.config_state, "reason": a.config_reason} for a in waited]
        proposal = f"p{applied.proposal}" if applied.proposal else ""
        emit(
            {
                "revision": applied.revision, "changed": applied.changed, "proposal": proposal, "needs": applied.needs,
                "agents": agents, **applied.plan.as_json(),
            }
        )  # fmt: skip
    else:
        from crossdock_controller.cli.screen import next_steps, screen, state

        if not applied.changed and not applied.proposal:
            screen().print(f"Revision {applied.revision} holds exactly this tree: nothing to do.")
            return
        show_plan(applied.plan, applied.revision - 1)
        show_outcome(applied)
        for agent in waited:
            screen().print(
                "  ", agent.agent, state(agent.config_state or "offered"), plain(agent.config_reason), sep=" "
            )
        if applied.changed and not wait:
            next_steps(["crossdock agents shows who has applied it"])
    if failed:
        raise click.exceptions.Exit(PROBLEM)


def _answer_rollout(
    applied: configuration.Applied, prepared: Prepared, data: DataDirectory, wait: bool, as_json: bool
) -> None:
    """Exit code 1 when it was waited for, and the revision was taken back."""
    from crossdock_controller.cli import rollout as shown
    from crossdock_controller.cli.screen import next_steps, screen
    from crossdock_controller.commands.rollout import rollout

    if not as_json:
        show_plan(applied.plan, applied.revision - 1)
        screen().print(f"[green]Revision {applied.revision} is rolled out in waves.[/]")
        shown.show_plan(prepared)
    found = shown.wait_for(data, applied.revision) if wait else rollout(data, time.time_ns() // 1000, applied.revision)
    if as_json:
        emit({"revision": applied.revision, "changed": True, "rollout": found, "later": prepared.later,
              **applied.plan.as_json()})  # fmt: skip
    elif wait and found is not None:
        shown.show(found, time.time_ns() // 1000)
    else:
        next_steps(["crossdock rollout shows where it is, and what the gate sees"])
    if wait and (found is None or found.state != "complete"):
        raise click.exceptions.Exit(PROBLEM)


def show_outcome(applied: configuration.Applied) -> None:
    """In force, or waiting for whom."""
    from crossdock_controller.cli.screen import next_steps, screen

    if applied.changed:
        screen().print(f"[green]Revision {applied.revision} is in force.[/]")
        if applied.proposal:
            screen().print(
                f"[bold red]The glass is broken:[/] p{applied.proposal} is to be confirmed by a second person."
            )
            next_steps([f"a second person: crossdock approve p{applied.proposal}"])
    elif applied.proposal:
        screen().print(f"[yellow]Proposed as p{applied.proposal}; revision {applied.revision} stays in force.[/]")
        for line in needs_lines(applied.needs):
            screen().print("  needs", plain(line), soft_wrap=True)
        next_steps([f"a second person: crossdock diff p{applied.proposal}, then crossdock approve p{applied.proposal}"])


def _run_by(agents: list[str]) -> str:
    shown = ", ".join(agents[:3]) or "-"
    return f"{shown} and {len(agents) - 3} more" if len(agents) > 4 else ", ".join(agents) or "-"


def _refuse_unknown(site: str, plan: Plan) -> None:
    """A site that neither side has would look like one at which nothing changes."""
    if site and plan.sites and site not in plan.sites:
        raise ConfigError(f"there is no site {site!r}", hint=did_you_mean(site, plan.sites))


def _wait_for_agents(data: DataDirectory, revision: int) -> list[AgentView]:
    """Connected agents once each has applied *revision* or refused it (or the time is up)."""
    from crossdock_controller.cli.screen import working

    deadline = time.monotonic() + WAIT_SECONDS
    with working("waiting for the agents"):
        while True:
            found = [a for a in fleet_agents(data, time.time_ns() // 1000) if a.state == "connected"]
            settled = all(a.revision == revision or _refused(a, revision) for a in found)
            if settled or time.monotonic() > deadline:
                return found
            time.sleep(0.1)


def _refused(agent: AgentView, revision: int) -> bool:
    return agent.config_state == "failed" and agent.desired_revision == revision
