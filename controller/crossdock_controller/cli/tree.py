"""`crossdock config ...`: sites and secrets, the environment, promotion, and what runs as files again."""

from __future__ import annotations

import time
from pathlib import Path

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import environments
from crossdock_controller.commands import pull as pulling
from crossdock_controller.commands import sites as views
from crossdock_controller.paths import DataDirectory

_TREE = click.argument("directory", metavar="[DIR]", required=False, type=click.Path(path_type=Path))


@click.group()
def config() -> None:
    """The configuration: sites and secrets, environments and promotion, and what runs as files."""


@config.command()
@_TREE
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="Only sites with it; NAME!=VALUE without.")
@click.option("--revision", default="", metavar="REV", help="Of this revision instead of the one in force.")
@data_option
@json_option
def sites(directory: Path | None, labels: tuple[str, ...], revision: str, data: DataDirectory, as_json: bool) -> None:
    """Which sources run where: of the tree in DIR, else of what is in force."""
    found = views.sites(data, directory, labels=labels, revision=revision)
    if as_json:
        emit({"sites": found})
        return
    from crossdock_controller.cli.screen import screen, state, table

    if not found:
        screen().print("No site has these labels." if labels else "There is no site.")
        return
    grid = table("site", "~labels", "environment", "~groups", "~sources")
    for site in found:
        labels_text = ", ".join(f"{name}: {value}" for name, value in sorted(site.labels.items()))
        runs = "stopped on purpose" if site.stopped else ", ".join(site.sources) or "-"
        environment = ", ".join(site.environments)
        place = state("running" if site.served else "idle", environment) if environment else "-"
        grid.add_row(site.site, labels_text or "-", place, ", ".join(site.groups) or "-", runs)
    screen().print(grid)
    screen().print(words.plural(len(found), "site"))


@config.command()
@_TREE
@click.option("--revision", default="", metavar="REV", help="Of this revision instead of the one in force.")
@data_option
@json_option
def secrets(directory: Path | None, revision: str, data: DataDirectory, as_json: bool) -> None:
    """Which secrets must be set where before the tree in DIR (else what is in force) can run. Never a value."""
    found = views.secrets(data, directory, revision=revision)
    if as_json:
        emit({"secrets": found})
        return
    from crossdock_controller.cli.screen import screen, state, table

    if not found:
        screen().print("No secret is needed.")
        return
    grid = table("where", "secret", "set here", "~used by", "~environment variable, or file")
    for secret in found:
        known = (
            state("idle", "-")
            if secret.known is None
            else state("ok", "yes")
            if secret.known
            else state("failed", "no")
        )
        grid.add_row(
            secret.where, secret.secret, known, ", ".join(secret.used_by), f"{secret.variable}, or {secret.file}"
        )
    screen().print(grid)
    screen().print("A site's file lies in the state directory of its agent; 'crossdock-agent check' reads it there.")


@config.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--none", "no_environment", is_flag=True, help="Serve none: for trees without environments.")
@click.option(
    "--break-glass", default="", metavar="REASON", help="In force without the second person a policy asks for."
)
@data_option
@json_option
def environment(name: str | None, no_environment: bool, break_glass: str, data: DataDirectory, as_json: bool) -> None:
    """The environment that this controller serves; with NAME, serve that one from now on."""
    require_data(data)
    if no_environment and name is not None:
        raise click.UsageError("NAME and --none are two answers")
    name = "" if no_environment else name
    if name is None:
        found = environments.environment(data)
        if as_json:
            emit(found)
            return
        from crossdock_controller.cli.screen import screen

        screen().print(f"This controller serves {found.serves or 'no environment'}.")
        if found.known:
            screen().print(f"Revision {found.revision} knows {', '.join(found.known)}.")
        return
    done = environments.set_environment(data, name, actor(), time.time_ns() // 1000, break_glass=break_glass)
    if as_json:
        applied = done.applied
        emit(
            {
                "serves": done.serves, "revision": applied.revision if applied else 0,
                "proposal": f"p{applied.proposal}" if applied and applied.proposal else "",
            }
        )  # fmt: skip
        return
    from crossdock_controller.cli.configuration import show_outcome
    from crossdock_controller.cli.screen import screen

    if done.applied is not None:
        show_outcome(done.applied)
    screen().print(f"This controller serves {done.serves or 'no environment'}.")


@config.command()
@click.option("--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Where to write the slip.")
@data_option
@json_option
def promote(out: Path, data: DataDirectory, as_json: bool) -> None:
    """Write a slip that says what runs here, for the controller of the next environment.

    There: crossdock apply DIR --promotion FILE, with the same tree.
    """
    require_data(data)
    made = environments.promote(data, out, actor(), time.time_ns() // 1000)
    found = made.slip
    if as_json:
        emit({"slip": found, "authority": made.authority, "file": str(out)})
        return
    from crossdock_controller.cli.screen import next_steps, screen

    trouble = f" (before that: {found.trouble})" if found.trouble else ""
    screen().print(
        f"Revision {found.revision}, tree {found.tree[:12]}, has run in {found.environment} for "
        f"{words.duration(found.quiet_us / 1e6)} without trouble{trouble}.", soft_wrap=True,
    )  # fmt: skip
    screen().print(f"This controller's CA, for 'authority' in policy.yaml: {made.authority}", soft_wrap=True)
    next_steps([f"on the next controller: crossdock apply DIR --promotion {out}"])


@config.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--revision", default="", metavar="REV", help="This one instead of the one in force; p3 for a proposal.")
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
@data_option
@json_option
def pull(directory: Path, revision: str, force: bool, data: DataDirectory, as_json: bool) -> None:
    """Write what runs to DIR, byte for byte as it was applied. A plan of DIR then says there is nothing to do."""
    require_data(data)
    found = pulling.pull(data, directory, revision=revision, force=force)
    if as_json:
        emit(found)
        return
    from crossdock_controller.cli.screen import next_steps, screen

    same = f", {words.plural(len(found.same), 'file')} the same already" if found.same else ""
    screen().print(
        f"{words.plural(len(found.written), 'file')} of {found.of} written to {directory}{same}.",
        soft_wrap=True,
        markup=False,
    )
    if found.others:
        others = ", ".join(found.others)
        screen().print(f"Not part of {found.of}, and left alone: {others}", soft_wrap=True, markup=False)
        next_steps(["remove them, or a plan adds them"])
