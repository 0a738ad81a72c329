"""`crossdock users`: people, their roles, and their API tokens."""

from __future__ import annotations

import time

import click

from crossdock_controller.access import ROLES
from crossdock_controller.cli import words
from crossdock_controller.cli.options import Period, actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import people
from crossdock_controller.paths import DataDirectory

_ROLE = click.option("--role", required=True, type=click.Choice(ROLES), help="Each includes the ones before it.")
_ON = click.option(
    "--on", multiple=True, metavar="LABELS", required=True,
    help="At the sites that carry these labels: region=us, or region=us,env=prod, or site=atl1; all for every site.",
)  # fmt: skip


@click.group()
def users() -> None:
    """People: their roles, at which sites, and their API tokens. There are no passwords."""


@users.command("add")
@click.argument("name")
@_ROLE
@_ON
@click.option("--email", default="", help="By which an OIDC issuer may name them.")
@click.option("--oidc-subject", default="", metavar="SUB", help="Or by this subject.")
@data_option
@json_option
def users_add(
    name: str, role: str, on: tuple[str, ...], email: str, oidc_subject: str, data: DataDirectory, as_json: bool
) -> None:
    """Make user NAME, who may do what the role allows at some sites.

    \b
      crossdock users add anna --role operator --on region=us
      crossdock users add ben --role admin --on all
    """
    require_data(data)
    made = people.add_user(data, name, role, list(on), email, oidc_subject, by=actor(), now_us=_now_us())
    if as_json:
        emit(made)
        return
    click.echo(f"user {name} is {_may(made)}")
    if not oidc_subject and not email:
        click.echo(f"  next: crossdock users token create {name}")


@users.command("list")
@data_option
@json_option
def users_list(data: DataDirectory, as_json: bool) -> None:
    """Who there is, and what they may do where."""
    require_data(data)
    now_us = _now_us()
    found = people.list_users(data, now_us)
    if as_json:
        emit({"users": found})
        return
    from crossdock_controller.cli.screen import next_steps, number, screen, table

    if not found:
        screen().print("There are no users yet.")
        next_steps(["crossdock users add NAME --role ROLE --on LABELS"])
        return
    grid = table("user", "~may", ">tokens", "last call", "made by")
    for user in found:
        grid.add_row(
            user.name, "[red]nothing: disabled[/]" if user.disabled else _may(user), number(user.tokens),
            words.ago(user.last_used_us, now_us), user.created_by,
        )  # fmt: skip
    screen().print(grid)


@users.command("grant")
@click.argument("name")
@_ROLE
@_ON
@data_option
@json_option
def users_grant(name: str, role: str, on: tuple[str, ...], data: DataDirectory, as_json: bool) -> None:
    """Give user NAME one more role."""
    require_data(data)
    _told(people.grant_role(data, name, role, list(on), by=actor(), now_us=_now_us()), as_json)


@users.command("link")
@click.argument("name")
@click.option("--email", help="By which an OIDC issuer may name them; empty for none.")
@click.option("--oidc-subject", metavar="SUB", help="Or by this subject; empty for none.")
@data_option
@json_option
def users_link(name: str, email: str | None, oidc_subject: str | None, data: DataDirectory, as_json: bool) -> None:
    """Say by what an OIDC issuer names user NAME."""
    if email is None and oidc_subject is None:
        raise click.UsageError("give --email or --oidc-subject")
    require_data(data)
    _told(people.link_user(data, name, email, oidc_subject, by=actor(), now_us=_now_us()), as_json)


@users.command("revoke-role")
@click.argument("name")
@_ROLE
@click.option("--on", metavar="LABELS", help="Only there. [default: wherever they have it]")
@data_option
@json_option
def users_revoke_role(name: str, role: str, on: str | None, data: DataDirectory, as_json: bool) -> None:
    """Take a role from user NAME; it counts from their next call on."""
    require_data(data)
    _told(people.revoke_role(data, name, role, on, by=actor(), now_us=_now_us()), as_json)


@users.command("disable")
@click.argument("name")
@click.option("--undo", is_flag=True, help="Let them in again.")
@data_option
@json_option
def users_disable(name: str, undo: bool, data: DataDirectory, as_json: bool) -> None:
    """Refuse every call of user NAME from now on; nothing is forgotten."""
    require_data(data)
    _told(people.disable_user(data, name, enable=undo, by=actor(), now_us=_now_us()), as_json)


@users.command("remove")
@click.argument("name")
@data_option
def users_remove(name: str, data: DataDirectory) -> None:
    """Forget user NAME, with roles and tokens. What they did stays in the audit log."""
    require_data(data)
    people.remove_user(data, name, by=actor(), now_us=_now_us())
    click.echo(f"user {name} is gone, and their tokens with them")


@users.group("token")
def users_token() -> None:
    """API tokens: shown once, expiring, stored as a hash."""


@users_token.command("create")
@click.argument("user", metavar="NAME")
@click.option("--ttl", type=Period(), default="90d", show_default=True, help="How long it works: 12h, 90d.")
@click.option("--name", default="", help="What it is for: laptop, grafana.")
@data_option
@json_option
def token_create(user: str, ttl: float, name: str, data: DataDirectory, as_json: bool) -> None:
    """Make an API token for user NAME and show it, once."""
    require_data(data)
    made = people.create_token(data, user, ttl, name, by=actor(), now_us=_now_us())
    if as_json:
        emit(made)
        return
    click.echo(f"An API token of {user}, for {words.duration(ttl)}. It is shown once and stored nowhere:\n", err=True)
    click.echo(made.token)
    click.echo(
        f"\n  next: keep it in a file that only they can read, and give that as --token-file ({made.id})", err=True
    )


@users_token.command("list")
@click.argument("user", metavar="[NAME]", required=False)
@data_option
@json_option
def token_list(user: str | None, data: DataDirectory, as_json: bool) -> None:
    """API tokens, of user NAME or of all: when they were used, and when they end."""
    require_data(data)
    now_us = _now_us()
    found = people.list_tokens(data, now_us, user)
    if as_json:
        emit({"tokens": found})
        return
    from crossdock_controller.cli.screen import screen, state, table

    if not found:
        screen().print("There are no API tokens.")
        return
    grid = table("id", "user", "name", "state", "ends", "last used", "made by")
    for token in found:
        grid.add_row(
            token.id, token.user, token.name or "-", state(token.state), words.minute(token.expires_us),
            words.ago(token.last_used_us, now_us), token.created_by,
        )  # fmt: skip
    screen().print(grid)


@users_token.command("revoke")
@click.argument("token", metavar="ID")
@data_option
@json_option
def token_revoke(token: str, data: DataDirectory, as_json: bool) -> None:
    """End the API token with this ID, at once."""
    require_data(data)
    found = people.revoke_token(data, token, by=actor(), now_us=_now_us())
    if as_json:
        emit(found)
        return
    click.echo(f"token {found.id} of {found.user} is revoked")


def _told(user: people.UserView, as_json: bool) -> None:
    if as_json:
        emit(user)
        return
    click.echo(f"user {user.name} is {'disabled' if user.disabled else _may(user)}")


def _may(user: people.UserView) -> str:
    """ "engineer on region=us, viewer on all"."""
    return ", ".join(f"{grant.role} on {grant.on}" for grant in user.grants) or "without a role"


def _now_us() -> int:
    return time.time_ns() // 1000
