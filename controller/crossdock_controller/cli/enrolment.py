"""`crossdock token`, and what `crossdock agents` decides: who gets in, under which name, on which machine."""

from __future__ import annotations

import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.fleet import agents
from crossdock_controller.cli.options import Period, author, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import enrolment
from crossdock_controller.paths import DataDirectory

__all__ = ["agents", "token"]


def actor() -> str:
    """Who gives the command on this machine, for the audit log."""
    return f"local:{author()}"


def _now_us() -> int:
    return time.time_ns() // 1000


@click.group()
def token() -> None:
    """Join tokens: for one use or several, short-lived, shown once."""


@token.command("create")
@click.option("--site", required=True, metavar="SITE", help="The site the agent works for, as in sites/*.yaml.")
@click.option("--agent", default="", metavar="NAME", help="The agent's name, when a site has several. [default: SITE]")
@click.option("--ttl", type=Period(), default="1h", show_default=True, help="How long it may be used: 15m, 1h, 1d.")
@click.option(
    "--uses", type=click.IntRange(1, enrolment.MOST_USES), default=1, show_default=True, metavar="N",
    help="How many agents it enrols; of several each is named SITE-HOST.",
)  # fmt: skip
@click.option("--approve", is_flag=True, help="Each waits until a person says 'crossdock agents approve NAME'.")
@click.option(
    "--for", "system", type=click.Choice(["linux", "windows"]), help="The line for this system only. [default: both]"
)
@data_option
@json_option
def token_create(
    site: str, agent: str, ttl: float, uses: int, approve: bool, system: str | None, data: DataDirectory, as_json: bool
) -> None:
    """Make a join token and print the line to paste at the site: one for a Linux shell, one for PowerShell."""
    made = enrolment.create_token(data, site, agent, ttl, _now_us(), uses=uses, approve=approve, by=actor())
    if as_json:
        emit(made)
        return
    whom = f"agent {made.agent} of site {made.site}" if made.agent else f"agents of site {made.site}"
    times = "one use" if uses == 1 else f"{uses} uses"
    click.echo(f"Token {made.id} for {whom}, for {times} within {words.duration(ttl)}.", err=True)
    click.echo(f"It leads to {made.enrollment}. Paste this line at the site:\n", err=True)
    for name, line, where in (
        ("linux", made.linux, "Linux, in a shell:"), ("windows", made.windows, "Windows, in an elevated PowerShell:"),
    ):  # fmt: skip
        if system in {None, name}:
            click.echo(where, err=True)
            click.echo(line)
    if made.approve:
        click.echo("\nThen compare the code that the site shows: crossdock agents pending", err=True)
    if made.replaces:
        click.echo(
            f"\nnote: agent {made.agent} exists. Enrolling with this token gives its name to the new machine.", err=True
        )


@token.command("list")
@data_option
@json_option
def token_list(data: DataDirectory, as_json: bool) -> None:
    """Tokens and what is left of them. Never a secret: none is stored."""
    require_data(data)
    now_us = _now_us()
    found = enrolment.list_tokens(data, now_us)
    if as_json:
        emit({"tokens": found})
        return
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    if not found:
        screen().print("There are no join tokens.")
        next_steps(["crossdock token create --site NAME"])
        return
    grid = table("token", "site", "agent", "state", ">uses left", "ends", "approval", "~made by")
    for row in found:
        grid.add_row(
            row.id, row.site, row.agent or "SITE-HOST", state(row.state), f"{row.uses_left} of {row.uses}",
            words.ahead(row.expires_us, now_us), "by a person" if row.approve else "-", row.made_by or "-",
        )  # fmt: skip
    screen().print(grid)


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@data_option
def token_revoke(token_id: str, data: DataDirectory) -> None:
    """Nobody enrols with token ID any more; who waits on it is denied. Agents that enrolled with it stay."""
    require_data(data)
    row = enrolment.revoke_token(data, token_id, _now_us(), by=actor())
    click.echo(f"token {row.id} of site {row.site} is revoked; {row.uses - row.uses_left} of {row.uses} uses were made")


@agents.command("pending")
@json_option
@click.pass_obj
def agents_pending(data: DataDirectory, as_json: bool) -> None:
    """Agents that wait for a person. Compare the code with the one that the site shows before you approve."""
    require_data(data)
    now_us = _now_us()
    found = enrolment.pending(data)
    if as_json:
        emit({"pending": found})
        return
    from crossdock_controller.cli.screen import next_steps, screen, table

    if not found:
        screen().print("No agent waits for a person.")
        return
    grid = table("agent", "site", "code", "waits", "last asked", "address", "~host")
    for row in found:
        grid.add_row(
            row.agent, row.site, row.code, words.duration((now_us - row.first_us) / 1e6),
            words.ago(row.last_us, now_us), row.address, _machine_of(row),
        )  # fmt: skip
    screen().print(grid)
    for row in found:
        if row.replaces:
            screen().print(f"[yellow]![/] {row.agent} exists: approving gives its name to the new machine.")
    next_steps(
        [f"does {row.host or row.site} show code {row.code}? crossdock agents approve {row.agent} --code {row.code}"
         for row in found]
    )  # fmt: skip


def _machine_of(row: enrolment.PendingView) -> str:
    """ "wms-07 (Windows Server 2016, machine 3f9c21aa)"."""
    known = [word for word in (row.platform, f"machine {row.machine[:8]}" if row.machine else "") if word]
    return f"{row.host} ({', '.join(known)})" if known else row.host


@agents.command("approve")
@click.argument("name")
@click.option("--code", default="", metavar="CODE", help="Only if its key has this code.")
@click.pass_obj
def agents_approve(data: DataDirectory, name: str, code: str) -> None:
    """Let agent NAME, which waits, in."""
    require_data(data)
    agreed = enrolment.decide(data, name, _now_us(), approve=True, by=actor(), code=code)
    click.echo(f"agent {name} with code {agreed} is let in; it asks again within seconds")


@agents.command("deny")
@click.argument("name")
@click.option("--code", default="", metavar="CODE", help="Only if its key has this code.")
@click.option("--because", default="", metavar="TEXT", help="Why; the site is told.")
@click.pass_obj
def agents_deny(data: DataDirectory, name: str, code: str, because: str) -> None:
    """Do not let agent NAME, which waits, in; its use of the token is spent."""
    require_data(data)
    denied = enrolment.decide(data, name, _now_us(), approve=False, by=actor(), code=code, because=because)
    click.echo(f"agent {name} with code {denied} is denied; crossdock token list shows whether its token is still open")


@agents.command("move")
@click.argument("name")
@click.pass_obj
def agents_move(data: DataDirectory, name: str) -> None:
    """The next machine that greets as agent NAME has its identity: new hardware, or a restored virtual machine."""
    require_data(data)
    host = enrolment.move(data, name, _now_us(), by=actor())
    click.echo(f"the next machine that greets as {name} within a day has its identity, which {host or 'one'} had")


@agents.command("revoke")
@click.argument("name")
@click.option("--because", default="", metavar="TEXT", help="Why, for the audit log and for who looks later.")
@click.pass_obj
def agents_revoke(data: DataDirectory, name: str, because: str) -> None:
    """Take agent NAME off the allow-list: its streams are cut, its certificate is worth nothing from now on."""
    require_data(data)
    enrolment.revoke(data, name, _now_us(), by=actor(), because=because)
    click.echo(f"agent {name} is revoked; 'crossdock token create' lets it in again")
