"""`crossdock rollout`: where a revision is on its way to the sites, and a person's hand on it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.failures import PROBLEM
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.commands.rollout import Prepared
    from crossdock_controller.commands.rollout_views import RolloutView

_STATES = {"rolling": "running", "held": "paused", "reverting": "retrying", "reverted": "failed", "complete": "done"}
_WAVES = {"waiting": "waiting", "offered": "applying", "holding": "applying", "passed": "done", "taken back": "failed"}
_WHY = click.option("-m", "--message", default="", help="Why; it stands in the audit log.")


@click.group(invoke_without_command=True)
@data_option
@json_option
@click.pass_context
def rollout(ctx: click.Context, data: DataDirectory, as_json: bool) -> None:
    """The rollout that runs, or the last one: its waves, who runs what, and what the gate sees."""
    if ctx.invoked_subcommand is not None:
        ctx.obj = data
        return
    require_data(data)
    from crossdock_controller.commands import rollout as commands

    now_us = time.time_ns() // 1000
    found = commands.rollout(data, now_us)
    if as_json:
        emit({"rollout": found})
        return
    if found is None:
        from crossdock_controller.cli.screen import next_steps, screen

        screen().print("Nothing was rolled out in waves yet.")
        next_steps(["crossdock apply DIR -m WHY --wave canary=SITE --then 10% --then all --hold 10m"])
        return
    show(found, now_us)


@rollout.command("pause")
@_WHY
@json_option
@click.pass_obj
def rollout_pause(data: DataDirectory, message: str, as_json: bool) -> None:
    """Begin no further wave until `resume`. Sites that have the revision are judged all the same."""
    _tell("pause", data, message, as_json)


@rollout.command("resume")
@_WHY
@json_option
@click.pass_obj
def rollout_resume(data: DataDirectory, message: str, as_json: bool) -> None:
    """Go on with a rollout that was paused."""
    _tell("resume", data, message, as_json)


@rollout.command("halt")
@click.option("-m", "--message", required=True, help="Why; it stands in the history and the audit log.")
@json_option
@click.pass_obj
def rollout_halt(data: DataDirectory, message: str, as_json: bool) -> None:
    """Take the revision back from every site that has it."""
    _tell("halt", data, message, as_json)


@rollout.command("finish")
@click.option("-m", "--message", required=True, help="Why the holds may be skipped; it stands in the audit log.")
@json_option
@click.pass_obj
def rollout_finish(data: DataDirectory, message: str, as_json: bool) -> None:
    """Put the revision in force everywhere now, without the waves and holds that are left."""
    _tell("finish", data, message, as_json)


@rollout.command("wait")
@json_option
@click.pass_obj
def rollout_wait(data: DataDirectory, as_json: bool) -> None:
    """Wait until the rollout has ended. Exit code 1 when its revision was taken back."""
    require_data(data)
    found = wait_for(data, None)
    if as_json:
        emit({"rollout": found})
    elif found is not None:
        show(found, time.time_ns() // 1000)
    if found is not None and found.state != "complete":
        raise click.exceptions.Exit(PROBLEM)


@rollout.command("drift")
@json_option
@click.pass_obj
def rollout_drift(data: DataDirectory, as_json: bool) -> None:
    """Who runs something else than it should, since when, and the reason it gave."""
    show_drift(data, as_json)


def show_drift(data: DataDirectory, as_json: bool) -> None:
    require_data(data)
    from crossdock_controller.commands.drift import drift

    now_us = time.time_ns() // 1000
    found = drift(data, now_us)
    if as_json:
        emit({"drift": found})
        return
    from crossdock_controller.cli.screen import screen, state, table

    if not found:
        screen().print("Every agent runs what it should.")
        return
    grid = table("agent", "site", "state", ">should", ">offered", ">applied", ">runs", "since", "~reason")
    for d in found:
        numbers = [str(n or "-") for n in (d.desired, d.offered, d.applied, d.effective)]
        grid.add_row(
            d.agent, d.site, state("failed" if d.kind in {"refused", "other"} else d.kind, d.kind), *numbers,
            words.ago(d.since_us, now_us), d.reason,
        )  # fmt: skip
    screen().print(grid)
    for d in found:
        for line in d.log:
            screen().print(f"  {d.agent}: {line}", markup=False, soft_wrap=True)


def wait_for(data: DataDirectory, revision: int | None) -> RolloutView | None:
    """The rollout (of *revision*, or the one that runs) once it has ended."""
    from crossdock_controller.cli.screen import working
    from crossdock_controller.commands import rollout as commands

    with working("waiting for the rollout"):
        while True:
            found = commands.rollout(data, time.time_ns() // 1000, revision)
            if found is None or not found.live:
                return found
            revision = found.revision
            time.sleep(0.25)


def show_plan(prepared: Prepared) -> None:
    """The waves before they begin."""
    from crossdock_controller.cli.screen import screen

    for number, wave in enumerate(prepared.plan.waves, start=1):
        screen().print(f"  wave {number}, {wave.name}: {_sites(list(wave.sites))}", markup=False, soft_wrap=True)
    hold = words.duration(prepared.plan.hold_seconds)
    screen().print(f"  each is held for {hold}, and the revision is taken back when a site turns ill", markup=False)
    if prepared.later:
        later = ", ".join(prepared.later)
        screen().print(f"  changed when the rollout is complete, not before: {later}", markup=False, soft_wrap=True)


def show(found: RolloutView, now_us: int) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    at = f", {found.at}" if found.live else ""
    screen().print(f"[bold]revision {found.revision}[/]", state(_STATES[found.state], found.state + at), end="")
    screen().print(f", over revision {found.base}; each wave is held for {words.duration(found.hold_seconds)}")
    if found.why:
        screen().print("[bold]why[/]  ", end="")
        screen().print(found.why, markup=False, soft_wrap=True)
    for line in found.evidence:
        screen().print(f"     {line}", markup=False, soft_wrap=True)
    grid = table("wave", "state", ">sites", ">agents", ">have it", "began", "~sites")
    for wave in found.waves:
        has = sum(a.state == "taken" for a in wave.agents)
        grid.add_row(
            wave.name, state(_WAVES[wave.state], wave.state + _until(wave.passes_us, now_us)), str(len(wave.sites)),
            str(len(wave.agents)), str(has), words.ago(wave.began_us, now_us) if wave.began_us else "-",
            _sites(wave.sites),
        )  # fmt: skip
    screen().print(grid)
    for wave in found.waves:
        for agent in wave.agents if found.live else ():
            if wave.began_us and agent.state not in {"taken", "back"}:
                screen().print(f"  {agent.agent}: {agent.state} {agent.detail}", markup=False, soft_wrap=True)
    for doubt in found.doubts:
        screen().print("[yellow]![/] ", end="")
        screen().print(doubt, markup=False, soft_wrap=True)
    for agent_name, reason in sorted(found.left.items()):
        screen().print(f"[yellow]![/] {agent_name} has not said that it is back: ", end="")
        screen().print(reason, markup=False)
    next_steps(steps(found))


def steps(found: RolloutView) -> list[str]:
    if found.state == "held":
        return ["crossdock rollout resume, or halt -m WHY"]
    if found.state == "reverted":
        return [f"correct the tree and apply it again; revision {found.base} runs meanwhile"]
    return []


def _tell(what: str, data: DataDirectory, message: str, as_json: bool) -> None:
    require_data(data)
    from crossdock_controller.commands import rollout as commands

    call = {"pause": commands.pause, "resume": commands.resume, "halt": commands.halt, "finish": commands.finish}[what]
    changed = call(data, actor(), message, time.time_ns() // 1000)
    if as_json:
        emit({"revision": changed.revision, "state": changed.state})
        return
    said = {
        "pause": "no wave begins or passes until 'crossdock rollout resume'",
        "resume": "the rollout goes on",
        "halt": f"every site that has it gets revision {changed.base} again; 'crossdock rollout' shows how far it is",
        "finish": "it is in force everywhere from now on",
    }[what]
    click.echo(f"revision {changed.revision}: {said}")


def _until(passes_us: int, now_us: int) -> str:
    left = (passes_us - now_us) / 1e6
    return f", {words.duration(left)} left" if left > 0 else ""


def _sites(sites: list[str], most: int = 8) -> str:
    more = f" and {len(sites) - most} more" if len(sites) > most else ""
    return ", ".join(sites[:most]) + more
