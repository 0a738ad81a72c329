"""A command's module is imported when that command runs, and only then: `crossdock --help` answers at once."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import click

from crossdock_controller.cli.failures import shown
from crossdock_controller.hints import did_you_mean


@dataclass(frozen=True, slots=True)
class Entry:
    """*place* is "module:attribute" below `crossdock_controller`; *help* is the line in the list of commands, empty for
    a command that only our own processes use."""

    place: str
    help: str


class LazyGroup(click.Group):
    """A group that knows its commands by name; the root one also turns our errors into a message and exit code 1."""

    def __init__(self, *args: Any, entries: dict[str, Entry], sections: dict[str, list[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries
        self._sections = sections

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [name for name, entry in self._entries.items() if entry.help]

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        entry = self._entries.get(name)
        if entry is None:
            return None
        module, attribute = entry.place.split(":")
        command = getattr(importlib.import_module(f"crossdock_controller.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - the table beside the root names commands
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._entries and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {did_you_mean(args[0], self._entries)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name, self._entries[name].help) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        with shown():
            return super().invoke(ctx)
