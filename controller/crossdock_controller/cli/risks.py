"""`crossdock fleet`: who will lock out and when, one sentence each; who runs what it should not."""

from __future__ import annotations

import time

import click

from crossdock_controller import exits
from crossdock_controller.cli import words
from crossdock_controller.cli.options import data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import risks as commands
from crossdock_controller.paths import DataDirectory

_STYLES = {"locked": "bold red", "critical": "bold red", "urgent": "red", "soon": "yellow", "notice": "cyan"}


@click.group()
def fleet() -> None:
    """All agents together."""


@fleet.command("risks")
@data_option
@json_option
def fleet_risks(data: DataDirectory, as_json: bool) -> None:
    """Who will lock out and when: certificates, clocks, releases, clones, enrolments. The most urgent first.

    Ends with code 5 when something is locked, critical or urgent, with 0 when nothing is.
    """
    require_data(data)
    found = commands.risks(data, time.time_ns() // 1000)
    if as_json:
        emit(found)
    else:
        _show(found)
    if found.pressing:
        raise click.exceptions.Exit(exits.PRESSING)


@fleet.command("drift")
@data_option
@json_option
def fleet_drift(data: DataDirectory, as_json: bool) -> None:
    """Who runs another revision than it should, since when, and the reason it gave."""
    from crossdock_controller.cli.rollout import show_drift

    show_drift(data, as_json)


def _show(found: commands.Risks) -> None:
    from crossdock_controller.cli.screen import screen

    if not found.risks:
        screen().print("[green]Nobody will lock out.[/]")
        return
    for risk in found.risks:
        when = f" (locks out {words.ahead(risk.at_us, found.now_us)})" if risk.at_us > found.now_us else ""
        screen().print(f"[{_STYLES[risk.level]}]{risk.level:8}[/] ", end="")
        screen().print(f"{risk.sentence}{when}", markup=False, soft_wrap=True)
        screen().print(f"         next: {risk.next}", markup=False, soft_wrap=True, style="yellow")
