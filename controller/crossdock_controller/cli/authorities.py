"""`crossdock ca`: the certificate authorities, and replacing the one in use in four phases."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.commands.authorities import Authorities, AuthorityView, Step

_GUIDE = "docs/guide/fleet/ca-rotation.md"


@click.group(invoke_without_command=True)
@data_option
@json_option
@click.pass_context
def ca(ctx: click.Context, data: DataDirectory, as_json: bool) -> None:
    """Certificate authorities: what each is for, who trusts it, and the next step of a replacement.

    A replacement goes in phases: add, issue, switch, retire. Each refuses while it would lock an agent out.
    """
    require_data(data)
    if ctx.invoked_subcommand is not None:
        ctx.obj = data
        return
    from crossdock_controller.commands import authorities

    now_us = time.time_ns() // 1000
    found = authorities.listing(data, now_us)
    if as_json:
        emit(found)
    else:
        _show(found, now_us)


@ca.command("bundle")
@click.pass_obj
def ca_bundle(data: DataDirectory) -> None:
    """Print the certificates of all that are trusted, PEM: what CROSSDOCK_CA and other clients of the API need."""
    from crossdock_controller.commands import authorities

    click.echo("".join(one.certificate for one in authorities.listing(data, _now_us()).authorities), nl=False)


@ca.command("add")
@json_option
@click.pass_obj
def ca_add(data: DataDirectory, as_json: bool) -> None:
    """Make a new authority. Agents learn to trust it beside the one in use; nothing else changes."""
    from crossdock_controller.commands import authorities

    _told(authorities.add(data, _now_us(), actor()), "is there, agents learn to trust it now", as_json=as_json)


@ca.command("issue")
@json_option
@click.pass_obj
def ca_issue(data: DataDirectory, as_json: bool) -> None:
    """Let the new authority make agents' certificates from now on; connected agents renew theirs at once."""
    from crossdock_controller.commands import authorities

    _told(authorities.issue(data, _now_us(), actor()), "issues agents' certificates from now on", as_json=as_json)


@ca.command("switch")
@click.option("--force", is_flag=True, help="Although the agents named would be locked out: they need a visit then.")
@json_option
@click.pass_obj
def ca_switch(data: DataDirectory, force: bool, as_json: bool) -> None:
    """Let the new authority sign the controller's own certificate, and configurations, from now on."""
    from crossdock_controller.commands import authorities

    done = authorities.switch(data, _now_us(), actor(), force=force)
    _told(done, "serves from now on", as_json=as_json)


@ca.command("retire")
@click.argument("fingerprint")
@click.option("--force", is_flag=True, help="Although the agents named would be locked out: they need a visit then.")
@json_option
@click.pass_obj
def ca_retire(data: DataDirectory, fingerprint: str, force: bool, as_json: bool) -> None:
    """Trust authority FINGERPRINT (or how it begins) no more, and delete its key."""
    from crossdock_controller.commands import authorities

    done = authorities.retire(data, fingerprint, _now_us(), actor(), force=force)
    _told(done, "is retired: nobody is to trust it any more, and its key is deleted", as_json=as_json)


def _show(found: Authorities, now_us: int) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    grid = table("authority", "state", "made", "ends", ">trusted by", ">in use at")
    for one in found.authorities:
        ends = f"retired {_day(one.retired_us)}" if one.retired_us else _day(one.ends_us)
        grid.add_row(
            _short(one), state("retired" if one.retired_us else "ok", one.state), _day(one.made_us), ends,
            f"{one.trusted_by} of {found.agents}", f"{one.held_by} of {found.agents}",
        )  # fmt: skip
    screen().print(grid)
    if found.server_ends_us:
        screen().print(f"The controller's own certificate ends {words.ahead(found.server_ends_us, now_us)}.")
    for one in found.authorities:
        for need in one.needed_by:
            screen().print(f"[yellow]![/] {_short(one)}: ", end="")
            screen().print(f"{need.agent} {need.reason}; {need.step}", markup=False)
    next_steps([found.next_step] if found.next_step else [])


def _told(done: Step, what: str, *, as_json: bool) -> None:
    if as_json:
        emit(done)
        return
    click.echo(f"authority {done.fingerprint[:12]} {what}")
    if not done.taken_up:
        click.echo("the controller that runs has not taken it up yet: see its log", err=True)
    for need in done.locked_out:
        click.echo(f"locked out: {need.agent} {need.reason}", err=True)
    click.echo("next: crossdock backup DIR; a backup from before this step restores what was before it")
    if done.next_step:
        click.echo(f"next, once 'crossdock ca' names nobody in the way: {done.next_step} (see {_GUIDE})")


def _short(one: AuthorityView) -> str:
    return one.fingerprint[:12]


def _day(at_us: int) -> str:
    """ "2036-11-23"."""
    return words.minute(at_us)[:10]


def _now_us() -> int:
    return time.time_ns() // 1000
