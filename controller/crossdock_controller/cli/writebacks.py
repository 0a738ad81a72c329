"""`crossdock writebacks`, `crossdock undo`: what went back to sites, and taking it back."""

from __future__ import annotations

import sys
import time

import click

from crossdock_controller.cli import words
from crossdock_controller.cli.options import actor, data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands import writebacks as commands
from crossdock_controller.paths import DataDirectory
from crossdock_controller.store.site_deliveries import SiteDelivery

LOOK_SECONDS = 0.3
STATES = ("waiting", "applied", "rejected", "undone")


@click.command()
@click.option("--sink", metavar="NAME", help="Of one sink only.")
@click.option("--document", metavar="NAME", help="Of one kind of document only.")
@click.option("--key", metavar="KEY", help="Of one document only.")
@click.option("--state", type=click.Choice(STATES), help="In this state only.")
@click.option("--limit", type=click.IntRange(1, commands.MOST), default=commands.PAGE, show_default=True)
@data_option
@json_option
def writebacks(
    sink: str | None,
    document: str | None,
    key: str | None,
    state: str | None,
    limit: int,
    data: DataDirectory,
    as_json: bool,
) -> None:
    """What was sent back to sites and what they said, newest first."""
    require_data(data)
    found = commands.writebacks(data, sink=sink, document=document, key=key, state=state, limit=limit)
    if as_json:
        emit({"writebacks": found})
        return
    from crossdock_controller.cli.screen import screen, table
    from crossdock_controller.cli.screen import state as shown

    if not found:
        screen().print("Nothing was sent back to sites.")
        return
    now_us = time.time_ns() // 1000
    grid = table("sink", "document", "state", "~what the site said", "since")
    for row in found:
        what = f"{'undo of ' if row.kind == 'undo' else ''}{row.document} {row.key}"
        said = row.place if row.state in ("applied", "undone") else f"{row.code} {row.reason}".strip()
        since = words.ago(row.receipt_us or row.created_us, now_us)
        grid.add_row(f"{row.sink}\n{row.site}", what, shown(row.state), said, since)
    screen().print(grid)


@click.command()
@click.argument("sink")
@click.option("--document", required=True, metavar="NAME", help='Its kind: "SalesOrder".')
@click.option("--key", required=True, metavar="KEY", help="Its business key.")
@click.option("--because", required=True, metavar="WHY", help="It stays on record.")
@click.option("--wait", default=30.0, show_default=True, type=click.FloatRange(0, 3600), help="Seconds for the answer.")
@data_option
@json_option
def undo(sink: str, document: str, key: str, because: str, wait: float, data: DataDirectory, as_json: bool) -> None:
    """Put back what was at the site before a document was written there. Exits 1 when the site refuses.

    \b
      crossdock undo erp-atl1 --document SalesOrder --key 4711 --because "sent to the wrong site"
    """
    require_data(data)
    order = commands.undo(data, sink, document, key, because, actor(), time.time_ns() // 1000)
    found = _settled(data, order, time.monotonic() + wait)
    if as_json:
        emit(found)
    elif found.state == "applied":
        click.echo(f"{document} {key} is taken back at {found.site}: {found.place}")
    elif found.state == "rejected":
        click.echo(f"{document} {key} is not taken back at {found.site}: {found.reason}", err=True)
    else:
        click.echo(f"the order waits for site {found.site}; see: crossdock writebacks --sink {sink} --key {key}")
    sys.exit(1 if found.state == "rejected" else 0)


def _settled(data: DataDirectory, order: SiteDelivery, deadline: float) -> SiteDelivery:
    """The order with the site's answer, or as it is at the deadline."""
    found = order
    while found.state == "waiting" and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        rows = commands.writebacks(data, sink=order.sink, document=order.document, key=order.key, limit=20)
        found = next((row for row in rows if row.id == order.id), found)
    return found
