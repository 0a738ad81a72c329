"""The entry point of `crossdock-agent`. A plain `run` goes straight to the agent: it never uses click, which is 4 MB.

Everything else, help and mistyped options included, is for the commands in `commands`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from crossdock.errors import CrossdockError
from crossdock_agent.problems import explain

_OPTIONS = {"--state", "--config"}


def main() -> None:
    options, is_service = _plain_run(sys.argv[1:]), sys.argv[1:3] == ["service", "run"]
    if options is None:
        from crossdock_agent.commands import main as commands

        commands()
        return
    from crossdock_agent import app, priority, settings

    def load() -> settings.Settings:
        return settings.load(options.get("--state"), options.get("--config"))

    try:
        loaded = load()
        priority.lower(loaded.nice)
        if is_service:
            app.run_as_service(load)
        else:
            app.run(loaded, reload=load)
    except CrossdockError as error:
        sys.exit(explain(error))


def _plain_run(arguments: list[str]) -> dict[str, Path] | None:
    """The options of `[service] run [--state DIR] [--config FILE]`, or None when the arguments say anything else."""
    arguments = arguments[1:] if arguments[:2] == ["service", "run"] else arguments
    words = [part for word in arguments for part in word.split("=", 1)] if arguments[:1] == ["run"] else []
    if len(words) % 2 == 0 or not set(words[1::2]) <= _OPTIONS:
        return None
    options = {name: Path(value) for name, value in zip(words[1::2], words[2::2], strict=True)}
    state = os.environ.get("CROSSDOCK_AGENT_STATE")
    if state and "--state" not in options:
        options["--state"] = Path(state)
    return options


if __name__ == "__main__":
    main()
