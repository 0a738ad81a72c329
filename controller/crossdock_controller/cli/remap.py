"""`crossdock mapping replay|replays|cancel`: records of before, normalized again by the mapping in force."""

from __future__ import annotations

import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import Period, actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import remap as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.remaps import Remap, RemapCounts

_POLL_SECONDS = 0.5


@click.command("replay")
@click.option("--source", required=True, metavar="NAME", help="The source whose records are mapped again.")
@click.option("--site", default="", metavar="NAME", help="Of one site only.")
@click.option("--last", type=Period(), metavar="TIME", help="What came in so lately: 24h, 7d.")
@click.option("--unit", default="", metavar="FILE", help="What came of this file, by its name in the source; a table.")
@click.option("--because", default="", metavar="TEXT", help="Why; it stays on record.")
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="Records a second; as fast as it goes without.")
@click.option("--dry-run", "dry", is_flag=True, help="Only say what it would make; nothing is written.")
@click.option("--wait", is_flag=True, help="Until it has ended.")
@data_option
@json_option
def replay(
    source: str,
    site: str,
    last: float | None,
    unit: str,
    because: str,
    rate: float,
    dry: bool,
    wait: bool,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """Normalize records again by the mapping in force. A document that comes out otherwise is a new version and goes
    where its route leads; one of which a later record made a version is left alone; dead letters that can be mapped now
    are resolved.
    """
    if last is None and not unit:
        raise click.UsageError("say what is to be mapped again: --last 24h, or --unit FILE")
    if not dry and not because.strip():
        raise click.UsageError("--because is needed: why is it done? It stays on record")
    require_data(data)
    now_us = time.time_ns() // 1000
    since_us = 0 if last is None else now_us - int(last * 1_000_000)
    if dry:
        _show_dry(commands.dry_run(data, source, site=site, since_us=since_us, unit=unit), as_json)
        return
    found = commands.replay_records(
        data, source, because, by=actor(), now_us=now_us, site=site, since_us=since_us, unit=unit, rate=rate
    )
    while wait and found.state == "running":
        time.sleep(_POLL_SECONDS)
        found = commands.replay(data, found.id)
    if as_json:
        emit(found)
        return
    _show_all([found])


@click.command("replays")
@click.option("--limit", type=click.IntRange(1, 1000), default=commands.PAGE, help="At most so many.")
@data_option
@json_option
def replays(limit: int, data: DataDirectory, as_json: bool) -> None:
    """Replays of records, newest first, with what became of them."""
    require_data(data)
    found = commands.replays(data, limit=limit)
    if as_json:
        emit({"replays": found})
        return
    _show_all(found)


@click.command("cancel")
@click.argument("number", type=int, metavar="ID")
@data_option
@json_option
def cancel(number: int, data: DataDirectory, as_json: bool) -> None:
    """End a replay of records where it is. What it made stays."""
    require_data(data)
    found = commands.cancel(data, number, by=actor(), now_us=time.time_ns() // 1000)
    if as_json:
        emit(found)
        return
    _show_all([found])


def _show_all(found: list[Remap]) -> None:
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import next_steps, screen, state, table

    if not found:
        screen().print("No records were ever replayed.")
        return
    grid = table(">id", "source", "state", ">records", "~made", "~because")
    for entry in found:
        where = f"{entry.source} at {entry.site}" if entry.site else entry.source
        grid.add_row(
            str(entry.id), f"{where}\n{entry.chosen}", state(entry.state), f"{entry.counts.records:,}/{entry.total:,}",
            _made(entry.counts), f"{entry.because}\n{entry.created_by}",
        )  # fmt: skip
    screen().print(grid)
    for entry in found:
        if entry.problem:
            screen().print("[bold red]failed[/]", plain(f"{entry.id}: {entry.problem}"), soft_wrap=True)
    if any(entry.state == "running" for entry in found):
        next_steps(["crossdock mapping replays shows how far it is; crossdock mapping cancel ID ends it"])


def _show_dry(found: commands.DryRun, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    from crossdock_controller.cli.plans import plain
    from crossdock_controller.cli.screen import next_steps, screen

    screen().print(plain(f"{words.plural(found.total, 'record')} would be mapped again: {_made(found.counts)}"))
    if found.problem:
        screen().print("[bold red]problem[/]", plain(found.problem), soft_wrap=True)
    if found.left:
        screen().print(f"[yellow]![/] {found.left:,} of them were not looked at: the time was over")
    next_steps(["without --dry-run, with --because TEXT, it is done"])


def _made(counts: RemapCounts) -> str:
    told = [
        (counts.changed, "new versions"), (counts.added, "new documents"), (counts.healed, "healed"),
        (counts.unchanged, "unchanged"), (counts.superseded, "superseded by later records"),
        (counts.kept, "settled by a person and kept"), (counts.dead, "records dead"),
        (counts.ignored, "records ignored"), (counts.unread, "records unreadable"),
    ]  # fmt: skip
    return ", ".join(f"{count:,} {word}" for count, word in told if count) or "nothing yet"
