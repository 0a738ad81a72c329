"""What every command shares: where the data is, and whether a program or a person reads the answer."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from crossdock.errors import ConfigError
from crossdock_controller.cli.words import seconds_of
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import Elsewhere

DATA_VARIABLE = "CROSSDOCK_DATA"
_F = TypeVar("_F", bound=Callable[..., Any])


def default_data() -> Path:
    """Where a service keeps its data on this system."""
    if sys.platform == "win32":
        return Path(os.environ.get("PROGRAMDATA", r"C:\ProgramData")) / "crossdock"
    return Path("/var/lib/crossdock")


def data_option(command: _F) -> _F:
    """`--data DIR`, else CROSSDOCK_DATA, else the system's place; the command gets *data*, a DataDirectory."""
    return click.option(
        "--data",
        envvar=DATA_VARIABLE,
        metavar="DIR",
        default=lambda: str(default_data()),
        show_default=str(default_data()),
        callback=_place,
        help=f"The controller's data directory ({DATA_VARIABLE}).",
    )(command)


def _place(ctx: click.Context, parameter: click.Parameter, value: str) -> DataDirectory:
    """The one place where it is decided whether a command is carried out here or by a controller elsewhere.

    What stands on the command line counts before the environment, and a server before a directory.
    """
    told = ctx.find_root().params
    here = ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
    named = ctx.find_root().get_parameter_source("server") is ParameterSource.COMMANDLINE
    if here and named:
        raise click.UsageError("give --server or --data, not both: where is it to be done?", ctx)
    if not told.get("server") or here:
        return DataDirectory(Path(value))
    from crossdock_controller import remote

    return Elsewhere(remote.Client(told["server"], remote.token(told.get("token_file")), told.get("ca")))


def json_option(command: _F) -> _F:
    """`--json`: the answer as one JSON value on stdout; its keys are stable."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")(command)


class Period(click.ParamType[float]):
    """A length of time, as seconds: 90s, 15m, 1h, 7d."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return seconds_of(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes: 500 MB, 10 GiB, or plain."""

    name = "SIZE"
    _forms = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B|B)?\s*", re.IGNORECASE)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = self._forms.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not a size: write 500 MB or 10 GiB", param, ctx)
        power = " KMGT".index((match[2] or " ").upper())
        return int(float(match[1]) * (1024 if match[3] else 1000) ** power)


def assignments(pairs: tuple[str, ...]) -> dict[str, str]:
    """("QTY=12", "NOTE=") as {"QTY": "12", "NOTE": ""}. Raises a usage error for anything without "="."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{pair!r} is not FIELD=VALUE", param_hint="--set")
        found[name.strip()] = value
    return found


def author() -> str:
    """Who gives the command, for the record: whose process this is, whatever LOGNAME and its like say. Four eyes would
    be worth nothing if a word in the environment made a second person."""
    if sys.platform == "win32":
        try:
            return os.getlogin()  # asks the system, GetUserName
        except OSError:
            return ""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no such user in the system's tables (a container)
        return f"uid-{os.getuid()}"


def actor() -> str:
    """Who gives the command, as the audit log names a person on the controller's own machine: "local:NAME"."""
    return f"local:{author() or 'unknown'}"


def require_data(data: DataDirectory) -> None:
    """Raises ConfigError when no controller ever ran on *data*; a controller elsewhere answers for itself."""
    if isinstance(data, Elsewhere):
        return
    if not data.state.exists():
        raise ConfigError(
            f"{data.root} holds no controller's data",
            hint=f"name its directory with --data or {DATA_VARIABLE}, or start one: crossdock controller run",
        )
