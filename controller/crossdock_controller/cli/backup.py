"""`crossdock backup`, `crossdock restore`: the controller's data, safe elsewhere, and back again."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import backup as backups
from crossdock_controller.commands import restore as restores
from crossdock_controller.paths import DataDirectory

_DIRECTORY = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--verify", is_flag=True, help="Only check the backup in DIR: every byte, every count.")
@data_option
@json_option
def backup(directory: Path, verify: bool, data: DataDirectory, as_json: bool) -> None:
    """Copy the controller's data to the new directory DIR while it runs, and verify the copy.

    DIR holds the key of the certificate authority and every document: keep it as safe as the controller.
    """
    began = time.monotonic()
    if verify:
        manifest = backups.verify(directory, _progress(as_json))
    else:
        require_data(data)
        manifest = backups.create(data, directory, time.time_ns() // 1000, _progress(as_json), by=actor())
    seconds = time.monotonic() - began
    if as_json:
        emit({"directory": str(directory), "seconds": round(seconds, 3), "bytes": manifest.bytes, **_plain(manifest)})
        return
    _show(directory, manifest, seconds, verify)


@click.command()
@click.argument("directory", metavar="DIR", type=_DIRECTORY)
@click.option("--replace", is_flag=True, help="Set aside what the data directory holds; nothing is deleted.")
@data_option
@json_option
def restore(directory: Path, replace: bool, data: DataDirectory, as_json: bool) -> None:
    """Make the data directory what the backup in DIR holds. The controller must not run."""
    done = restores.restore(data, directory, time.time_ns() // 1000, _progress(as_json), replace=replace, by=actor())
    if as_json:
        emit({**_plain(done), "next": _next(done)})
        return
    _say(done)


def _show(directory: Path, manifest: backups.Manifest, seconds: float, verified_only: bool) -> None:
    from crossdock_controller.cli.screen import next_steps, screen

    what = "is sound" if verified_only else "was made and verified"
    screen().print(f"The backup {directory} {what}, {manifest.bytes:,} bytes, {words.duration(seconds)}.")
    facts = {
        "made": f"{words.moment(manifest.created_us)}, by release {manifest.version}",
        "store": f"{manifest.store or '-'}, schemas {manifest.state.schema} and {manifest.intake.schema}",
    }
    for taken in (manifest.state, manifest.intake):
        counts = (f"{n:,} {name.replace('_', ' ')}" for name, n in taken.counts.items() if name != "last_event")
        facts[taken.name] = ", ".join(counts)
    for name, fact in facts.items():
        screen().print(f"[bold]{name:<11}[/]{fact}", soft_wrap=True)
    screen().print("[yellow]It holds the authority's private key:[/] whoever reads it can pose as any agent.")
    if not verified_only:
        next_steps([f"copy it to another machine, then there: crossdock backup --verify {directory}"])


def _say(done: restores.Restored) -> None:
    from crossdock_controller.cli.screen import next_steps, screen

    screen().print(f"Restored {done.data} from the backup of {words.moment(done.created_us)}.", soft_wrap=True)
    if done.replaced:
        screen().print(f"What was there is set aside in {done.replaced}.", soft_wrap=True)
    screen().print(f"New store id {done.store}; event numbers go on after {done.before_event:,}.", soft_wrap=True)
    active = [a.agent for a in done.agents if a.state == "active"]
    screen().print(f"Agents that may connect: {', '.join(active) or 'none'}.", soft_wrap=True)
    revoked = [a.agent for a in done.agents if a.state == "revoked"]
    if revoked:
        screen().print(f"Revoked in the backup: {', '.join(revoked)}.", soft_wrap=True)
    if done.disabled_again:
        screen().print(
            f"Users disabled or removed since, disabled now: {', '.join(done.disabled_again)}.", soft_wrap=True
        )
    if done.revoked_again:
        screen().print(f"Revoked since, and revoked again now: {', '.join(done.revoked_again)}.", soft_wrap=True)
    if done.authorities_kept:
        screen().print("Certificate authorities are those of the replaced data: they went on since.", soft_wrap=True)
    next_steps(_next(done))


def _next(done: restores.Restored) -> list[str]:
    steps = []
    if not done.known_since:
        steps.append(
            f"who was revoked after {words.minute(done.created_us)}? that is lost with the old store: "
            "crossdock agents revoke NAME, before the controller starts"
        )
    steps.append("apply the newest configuration, if the backup's is older: crossdock apply DIR")
    steps.append(f"crossdock controller run --data {done.data}")
    steps += [f"enrolled since, let in again: crossdock agents adopt {a.agent} --site {a.site}" for a in done.unknown]
    if not done.unknown:
        steps.append("crossdock agents: who enrolled since the backup is shown as unknown, and adopted by you")
    return steps


def _progress(quiet: bool) -> backups.Progress:
    """On a terminal, one line on stderr that says how far it is."""
    if quiet or not sys.stderr.isatty():
        return lambda _what, _done, _of: None
    shown = [0.0]

    def show(what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if now - shown[0] >= 0.5 or (of and done >= of):
            shown[0] = now
            share = f" {done * 100 // of}%" if of else ""
            click.echo(f"\r\x1b[K{what}{share}", nl=False, err=True)
            if of and done >= of:
                click.echo("\r\x1b[K", nl=False, err=True)

    return show


def _plain(value: object) -> dict[str, object]:
    import dataclasses

    import msgspec

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    built: dict[str, object] = msgspec.to_builtins(value)
    return built
