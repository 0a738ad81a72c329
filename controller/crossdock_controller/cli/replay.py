"""`crossdock replay events|list|show|cancel`: documents sent to a sink again, on purpose and on record."""

from __future__ import annotations

import datetime as dt
import re
import time
from typing import TYPE_CHECKING, Any

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import replay as commands
from crossdock_controller.paths import DataDirectory

if TYPE_CHECKING:
    from crossdock_controller.commands.replay import Begun
    from crossdock_controller.store.replays import Replay

_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:/s)?")


class Moment(click.ParamType[int]):
    """A moment, as microseconds UTC: so long ago (2h, 7d), or a date or time of this machine's zone."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return time.time_ns() // 1000 - int(words.seconds_of(str(value)) * 1_000_000)
        except ValueError:
            pass
        try:
            at = dt.datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no moment: write 2h, 7d, 2026-03-01 or 2026-03-01T14:30", param, ctx)
        return int((at if at.tzinfo else at.astimezone()).timestamp() * 1_000_000)


class PerSecond(click.ParamType[float]):
    name = "N/s"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        match = _RATE.fullmatch(str(value).strip())
        if match is None or not float(match[1]):
            self.fail(f"{value!r} is no rate: write 50/s", param, ctx)
        return float(match[1])


@click.group()
def replay() -> None:
    """Send documents to a sink again: chosen, counted, at a rate, on record."""


@replay.command("events")
@click.option("--sink", required=True, metavar="NAME", help="Where they are sent.")
@click.option("--document", default="", metavar="KIND", help="Of this kind: SalesOrder.")
@click.option("--key", default="", help="Of this business key.")
@click.option("--since", type=Moment(), default=None, help="Received since then: 2h, 7d, 2026-03-01T14:30.")
@click.option("--until", type=Moment(), default=None, help="... and before then.")
@click.option("--site", default="", metavar="NAME", help="Of this site.")
@click.option("--source", default="", metavar="NAME", help="Of this source.")
@click.option("--cause", default="", help="With this code of a dead letter, or cause of an exception.")
@click.option("--unrouted", is_flag=True, help="Also those that no route ever sent there: for a sink that is new.")
@click.option("--again", is_flag=True, help="Also what the sink has: the newest version of each key.")
@click.option("--all-versions", is_flag=True, help="With --again: every version, for a sink that keeps history.")
@click.option("--rate", type=PerSecond(), default=0.0, help="Deliveries a second at most. [default: no limit]")
@click.option("--because", default="", metavar="TEXT", help="Why; it stays on record. Needed unless --dry-run.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@data_option
@json_option
def replay_events(
    sink: str, rate: float, because: str, dry_run: bool, data: DataDirectory, as_json: bool,
    since: int | None, until: int | None, **chosen: Any,
) -> None:  # fmt: skip
    """Send documents that were chosen by key, time, origin or cause.

    \b
      crossdock replay events --sink finance --key 4711 --again --because "lost in their restore" --dry-run
      crossdock replay events --sink webshop --cause http_503 --rate 20/s --because "they were down"
    """
    require_data(data)
    from crossdock_controller.cli.screen import working
    from crossdock_controller.store.replays import Chosen

    wanted = Chosen(since_us=since or 0, until_us=until or 0, **chosen)
    with working("counting"):
        found = commands.replay_events(
            data, sink, wanted, because, by=actor(), now_us=time.time_ns() // 1000, rate=rate, dry_run=dry_run
        )
    if as_json:
        emit(found)
    else:
        _show_begun(found, again=wanted.again)


@replay.command("list")
@click.option("--limit", type=click.IntRange(1, commands.MOST), default=50, show_default=True, help="At most so many.")
@data_option
@json_option
def replay_list(limit: int, data: DataDirectory, as_json: bool) -> None:
    """Replays, newest first."""
    require_data(data)
    found = commands.replay_list(data, limit)
    if as_json:
        emit({"replays": found})
        return
    from crossdock_controller.cli.screen import number, screen, state, table

    grid = table(">id", "sink", "state", ">to send", ">sent", ">open", ">dead", "begun", "~because")
    for r in found:
        grid.add_row(
            str(r.id), r.sink, state(_word(r)), number(r.total), number(r.sent), number(r.open, "yellow"),
            number(r.dead, "bold red"), words.moment(r.created_us), f"{r.because} ({r.created_by})",
        )  # fmt: skip
    screen().print(grid if found else "Nothing was ever replayed.")


@replay.command("show")
@click.argument("number", type=int, metavar="ID")
@data_option
@json_option
def replay_show(number: int, data: DataDirectory, as_json: bool) -> None:
    """One replay: what was chosen, and how far it is."""
    require_data(data)
    found = commands.replay_show(data, number)
    if as_json:
        emit(found)
    else:
        _show(found)


@replay.command("cancel")
@click.argument("number", type=int, metavar="ID")
@data_option
@json_option
def replay_cancel(number: int, data: DataDirectory, as_json: bool) -> None:
    """Stop it. What the sink had before and did not get again yet counts as delivered, as it was."""
    require_data(data)
    found = commands.replay_cancel(data, number, by=actor(), now_us=time.time_ns() // 1000)
    if as_json:
        emit(found)
    else:
        _show(found)


def _show_begun(found: Begun, *, again: bool) -> None:
    from crossdock_controller.cli.screen import next_steps, screen

    counts = found.counts
    screen().print(f"{words.plural(counts.send, 'document')} to send to {found.sink}", markup=False)
    for n, said in (
        (counts.has_it, "the sink has already, or a person gave up"),
        (counts.older, "older than what the sink has, or than another one chosen"),
        (counts.waiting, "on their way already"),
    ):
        if n:
            screen().print(f"  left out: {words.count(n)} {said}")
    if found.replay is not None:
        screen().print(f"replay {found.replay.id} is begun")
        next_steps([f"crossdock replay show {found.replay.id}"])
    elif counts.has_it and not again:
        next_steps(["--again sends the newest version of what the sink has, too"])


def _show(found: Replay) -> None:
    from crossdock_controller.cli.screen import next_steps, screen, state

    screen().print(f"[bold]replay {found.id}[/] to {found.sink} ·", state(_word(found)))
    screen().print(f"{found.because} ({found.created_by}, {words.moment(found.created_us)})", markup=False)
    chosen = {name: getattr(found.chosen, name) for name in found.chosen.__struct_fields__}
    said = {n: words.moment(v) if n.endswith("_us") else v for n, v in chosen.items() if v}
    what = ", ".join(n if v is True else f"{n.removesuffix('_us')}={v}" for n, v in said.items())
    screen().print(f"chosen: {what or 'everything'}", markup=False)
    screen().print(
        f"{words.count(found.sent)} sent of {words.count(found.total)}, {words.count(found.open)} open,"
        f" {words.count(found.dead)} dead; left out: {words.count(found.has_it)} there already,"
        f" {words.count(found.older)} older, {words.count(found.waiting)} on their way"
    )
    if found.ended_by:
        screen().print(f"cancelled by {found.ended_by}", markup=False)
    if found.state == "running" or found.open:
        next_steps([f"crossdock replay cancel {found.id} stops it"])


def _word(found: Replay) -> str:
    """ "running" until all that became due is settled as well."""
    return "running" if found.state == "done" and found.open else found.state
