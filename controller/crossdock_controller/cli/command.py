"""`crossdock command`: what is asked of a site, and what it answered."""

from __future__ import annotations

import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import click

from crossdock.errors import ConfigError
from crossdock.sitecommands import KINDS, LEVELS
from crossdock_controller.cli import words
from crossdock_controller.cli.options import Period, actor, assignments, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import sitecommands
from crossdock_controller.commands.sitecommands import CommandView
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import Elsewhere

_OF = {"since": "logs", "level": "logs", "grep": "logs", "records": "try", "out": "support-bundle"}
_EPILOG = """
\b
crossdock command atl1 check
crossdock command atl1 try wms-shipments --records 5
crossdock command --label region=us rescan
crossdock command atl1 logs --since 2h --level WARNING --grep timeout
crossdock command atl1 support-bundle --out atl1.zip
crossdock command list
crossdock command show 3f21

A site can refuse: its policy.toml has the last word (docs/guide/fleet/commands.md).
"""


@click.command(epilog=_EPILOG, options_metavar="[OPTIONS]")
@click.argument("words_", nargs=-1, required=True, metavar="SITE|AGENT COMMAND [SOURCE]")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="At all sites with this label.")
@click.option("--all", "everyone", is_flag=True, help="At all sites.")
@click.option("--since", type=Period(), default=None, help="logs: from so long ago on. [default: 1h]")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="logs: of at least this level.")
@click.option("--grep", default=None, metavar="TEXT", help="logs: with this text in it, in any case.")
@click.option("--records", type=click.IntRange(1, 999), default=None, help="try: how many records. [default: 10]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="support-bundle: the file to write.")
@click.option("--timeout", type=Period(), default="3m", show_default=True, help="How long to wait for the answer.")
@click.option("--no-wait", is_flag=True, help="Do not wait; see 'crossdock command show ID' later.")
@click.option(
    "--for", "lasts", type=Period(), default="60s", show_default=True, help="How long it waits for an agent to connect."
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=sitecommands.SHOWN, show_default=True, help="list: so many."
)
@data_option
@json_option
def command(words_: tuple[str, ...], data: DataDirectory, as_json: bool, **options: Any) -> None:
    """Ask an agent or tell it: check, try, rescan, logs, restart, pause, resume, support-bundle."""
    require_data(data)
    several = bool(options["labels"] or options["everyone"])
    if not several and words_[0] == "list" and words_[1:2] not in [(name,) for name in KINDS]:
        _list(words_[1:], data, options["limit"], as_json)
    elif not several and words_[0] == "show" and words_[1:2] not in [(name,) for name in KINDS]:
        _show(words_[1:], data, options["out"], as_json)
    else:
        _give(words_, data, as_json, options, several=several)


def _give(
    words_: tuple[str, ...], data: DataDirectory, as_json: bool, options: dict[str, Any], *, several: bool
) -> None:
    target = "" if several else words_[0]
    name, *rest = words_ if several else words_[1:] or ("",)
    arguments = _arguments(name, rest, options)
    meant = sitecommands.Target(target, assignments(options["labels"]), options["everyone"])
    out: Path | None = options["out"]
    if out is not None and (out.exists() or len(sitecommands.targets(data, meant)) > 1):
        raise ConfigError(
            f"--out {out}: " + ("that file is there already" if out.exists() else "several agents are meant")
        )
    given = sitecommands.give(data, meant, name, arguments, actor(), time.time_ns() // 1000, options["lasts"])
    ids = [view.id for view in given]
    if options["no_wait"]:
        found = given
    else:
        found = sitecommands.waited(data, ids, options["timeout"], actor(), (lambda _v: None) if as_json else _tell)
    if out is not None and found[0].state == "done":
        _write(out, data, ids[0])
    if as_json:
        emit({"commands": found})
    else:
        _say_open(found, data, waited=not options["no_wait"])
    sys.exit(0 if options["no_wait"] or all(view.state == "done" for view in found) else 1)


def _arguments(name: str, rest: list[str], options: dict[str, Any]) -> dict[str, str]:
    """What goes with the command. Raises a usage error for what it does not take."""
    kind = KINDS.get(name)
    if kind is None:
        raise click.UsageError(f"name a command behind the site or agent: {', '.join(KINDS)}")
    takes_source = "source" in kind.arguments or "source" in kind.optional
    if len(rest) > int(takes_source):
        raise click.UsageError(f"{name} takes {'one SOURCE' if takes_source else 'nothing behind it'}, not {rest!r}")
    if "source" in kind.arguments and not rest:
        raise click.UsageError(f"{name} needs a SOURCE: crossdock command SITE {name} SOURCE")
    for option, of in _OF.items():
        if options[option] is not None and of != name:
            raise click.UsageError(f"--{option} is for {of}, not for {name}")
    found = {"source": rest[0]} if rest else {}
    if name == "logs":
        found["since_seconds"] = str(max(1, round(options["since"] or 3600.0)))
    found |= {key: str(options[key]) for key in ("level", "grep", "records") if options[key] is not None}
    return found


def _list(rest: tuple[str, ...], data: DataDirectory, limit: int, as_json: bool) -> None:
    from crossdock_controller.cli.screen import screen, state, table

    found = sitecommands.listed(data, limit, rest[0] if rest else "")
    if as_json:
        emit({"commands": found})
        return
    if not found:
        click.echo("No command was given yet.")
        return
    now_us = time.time_ns() // 1000
    grid = table("id", "agent", "command", "state", "given", "by", "~said")
    for view in found:
        what = " ".join([view.name, *(shown(value) for value in view.arguments.values())])
        grid.add_row(
            view.id, view.agent, what, state(view.state), words.ago(view.created_us, now_us), view.by, shown(view.error)
        )
    screen().print(grid)


def _show(rest: tuple[str, ...], data: DataDirectory, out: Path | None, as_json: bool) -> None:
    if len(rest) != 1:
        raise click.UsageError("crossdock command show ID")
    view = sitecommands.show(data, rest[0], actor(), time.time_ns() // 1000)
    if out is not None:
        _write(out, data, view.id)
    elif as_json:
        emit(view)
    else:
        what = " ".join([view.name, *(f"{key}={shown(value)}" for key, value in view.arguments.items())])
        click.echo(f"{what} for {view.agent}, given by {view.by} at {words.moment(view.created_us)}")
        _tell(view)


def _tell(view: CommandView) -> None:
    """One answer, as it comes in."""
    took = f" in {words.duration((view.ended_us - view.created_us) / 1e6)}" if view.ended_us else ""
    click.echo(f"{view.agent}: {view.state}{took}" + (f": {shown(view.error)}" if view.error else ""))
    for line in view.text:
        click.echo("  " + shown(line))


def _say_open(found: list[CommandView], data: DataDirectory, *, waited: bool) -> None:
    for view in found:
        if view.state == "done" and view.name == "support-bundle":
            click.echo(f"the bundle has {words.size(view.output_bytes)}; crossdock command show {view.id} --out FILE")
        elif not view.ended:
            what = "no answer yet, " if waited else ""
            why = " (is the controller running?)" if waited and view.state == "waiting" and not _runs(data) else ""
            click.echo(f"{view.agent}: {what}{view.state}{why}; later: crossdock command show {view.id}")


def _runs(data: DataDirectory) -> bool:
    from crossdock.lock import is_held

    return isinstance(data, Elsewhere) or is_held(data.lock)


def _write(out: Path, data: DataDirectory, id_: str) -> None:
    content = sitecommands.file_of(data, id_, actor(), time.time_ns() // 1000)
    try:
        with out.open("xb") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror or error}", hint="name another file") from error
    click.echo(f"written: {out}, {words.size(len(content))}", err=True)


def shown(text: str) -> str:
    """*text* of a site for a terminal: what would move the cursor, or say something else than it shows, is escaped."""
    return "".join(
        c if c == "\t" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else f"\\x{ord(c):02x}"
        for c in text
    )
