"""`crossdock plan`, `apply`, `history`, `rollback`: one tree of YAML files in, numbered revisions out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import Period, author, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import configuration
from crossdock_controller.commands.fleet import AgentView
from crossdock_controller.commands.fleet import agents as fleet_agents
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.rollouts import LIVE

if TYPE_CHECKING:
    from crossdock_controller.commands.rollout import InWaves, Prepared
    from crossdock_controller.config.diff import Change, Plan

WAIT_SECONDS = 30.0
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
@data_option
@json_option
def plan(directory: Path, data: DataDirectory, as_json: bool) -> None:
    """What the tree in DIR would change, and every error in it. Nothing is changed.

    Exit code 1 when the tree has an error.
    """
    from crossdock_controller.cli.screen import working

    with working("reading the tree"):
        planned = configuration.plan(data, directory)
    if as_json:
        emit({"revision": planned.revision, **planned.plan.as_json()})
    else:
        _show_plan(planned.plan, planned.revision, str(directory))
    if not planned.plan.applicable:
        raise click.exceptions.Exit(PROBLEM)


@click.command()
@_TREE
@click.option("-m", "--message", default="", help="Why; it stands in the history.")
@_waves_options
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
    wait: bool,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Make the tree in DIR the next revision. Each site gets its part at once, or in waves, each held until it is known
    to be well; an agent that cannot use it keeps what it has and says why.
    """
    require_data(data)
    from crossdock_controller.cli.screen import working
    from crossdock_controller.config.errors import ConfigInvalid

    waves = _in_waves(wave, then, hold, patience)
    try:
        with working("reading the tree"):
            applied = configuration.apply(data, directory, author(), message, time.time_ns() // 1000, waves)
    except ConfigInvalid:
        planned = configuration.plan(data, directory)
        if as_json:
            emit({"revision": planned.revision, "changed": False, **planned.plan.as_json()})
        else:
            _show_plan(planned.plan, planned.revision)
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
    grid = table(">rev", "", "applied", "by", "~message", "~run by")
    for revision in found:
        mark = state("running", "in force") if revision.current else ""
        if revision.rollout and not revision.current and revision.rollout != "complete":
            mark = state("retrying" if revision.rollout in LIVE else "failed", revision.rollout)
        grid.add_row(
            str(revision.revision), mark, words.minute(revision.created_us), revision.author, revision.message or "-",
            ", ".join(revision.agents) or "-",
        )  # fmt: skip
    screen().print(grid)
    for revision in found:
        if revision.why:
            screen().print(f"[yellow]![/] {revision.revision} was taken back: ", end="")
            screen().print(revision.why, markup=False, soft_wrap=True)


@click.command()
@click.argument("revision", type=click.IntRange(min=1), metavar="REV")
@_waves_options
@click.option("--wait", is_flag=True, help=_WAIT)
@data_option
@json_option
def rollback(
    revision: int,
    wave: str | None,
    then: tuple[str, ...],
    hold: float,
    patience: float,
    wait: bool,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Go back to the tree of revision REV; it becomes the next revision, so that nothing is lost from the history."""
    require_data(data)
    waves = _in_waves(wave, then, hold, patience)
    applied = configuration.rollback(data, revision, author(), time.time_ns() // 1000, waves)
    _answer(applied, data, wait, as_json)


def _answer(applied: configuration.Applied, data: DataDirectory, wait: bool, as_json: bool) -> None:
    if applied.rollout is not None:
        _answer_rollout(applied, applied.rollout, data, wait, as_json)
        return
    waited = _wait_for_agents(data, applied.revision) if wait else []
    failed = [a.agent for a in waited if a.config_state == "failed" and a.desired_revision == applied.revision]
    if as_json:
        agents = [{"agent": a.agent, "state": a.config_state, "reason": a.config_reason} for a in waited]
        emit({"revision": applied.revision, "changed": applied.changed, "agents": agents, **applied.plan.as_json()})
    else:
        from crossdock_controller.cli.screen import next_steps, screen, state

        if not applied.changed:
            screen().print(f"Revision {applied.revision} holds exactly this tree: nothing to do.")
            return
        _show_plan(applied.plan, applied.revision - 1)
        screen().print(f"[green]Revision {applied.revision} is in force.[/]")
        for agent in waited:
            screen().print(
                "  ", agent.agent, state(agent.config_state or "offered"), _plain(agent.config_reason), sep=" "
            )
        if not wait:
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
        _show_plan(applied.plan, applied.revision - 1)
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


def _show_plan(plan: Plan, revision: int, ask: str = "") -> None:
    """Problems and changes; *ask* is the directory to apply next."""
    from crossdock_controller.cli.screen import next_steps, screen
    from crossdock_controller.config.errors import errors_of

    for problem in plan.problems:
        colour = "red" if problem.severity == "error" else "yellow"
        screen().print(f"[bold {colour}]{problem.severity}[/]", _plain(problem.text()), soft_wrap=True)
    errors = len(errors_of(plan.problems))
    if errors:
        screen().print(f"\n[bold red]{words.plural(errors, 'error')}: nothing was changed.[/]")
        next_steps(["correct the files above; all errors are shown at once"])
    elif plan.nothing_to_do:
        screen().print(f"Nothing to do: the tree is that of revision {revision}.")
    elif not plan.changes:
        screen().print("Only comments or layout differ.")
    else:
        for site in sorted({c.site for c in plan.changes}, key=lambda s: (not s, s)):
            screen().print(f"[bold]{f'site {site}' if site else 'controller'}[/]")
            for change in plan.changes:
                if change.site == site:
                    _show_change(change)
        if ask:
            next_steps([f"crossdock apply {ask} -m MESSAGE"])


def _show_change(change: Change) -> None:
    from crossdock_controller.cli.screen import screen

    mark, colour = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}[change.action]
    screen().print(f"  [{colour}]{mark}[/]", _plain(f"{change.part} {change.name}"), f"[{colour}]{change.action}[/]")
    for key in change.keys:
        screen().print("      ", _plain(key.text()), soft_wrap=True)


def _plain(text: str) -> object:
    from rich.text import Text

    return Text(text)
