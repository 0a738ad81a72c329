"""`crossdock sink check NAME`: can it be reached, with the secrets and settings in force?"""

from __future__ import annotations

import click
import msgspec

from crossdock_controller.cli.options import data_option, json_option, require_data
from crossdock_controller.cli.output import emit
from crossdock_controller.commands.sinks import check_sink
from crossdock_controller.paths import DataDirectory


@click.group()
def sink() -> None:
    """Sinks, as the revision in force has them."""


@sink.command("check")
@click.argument("name")
@data_option
@json_option
def check(name: str, data: DataDirectory, as_json: bool) -> None:
    """Connect to a sink and look at what it needs. Nothing is delivered.

    A file sink is locked by the controller that writes it: while one runs, the check says so.
    """
    require_data(data)
    found = check_sink(data, name)
    if as_json:
        emit(msgspec.to_builtins(found))
        return
    click.echo(f"{found.sink} ({found.kind}): {found.found}")
