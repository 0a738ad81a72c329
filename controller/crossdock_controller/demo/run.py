"""Sets the stage, tells the story, and leaves nothing behind but what was asked for."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from crossdock_controller.cli.screen import screen
from crossdock_controller.demo.business import FAMOUS_ORDER, Business
from crossdock_controller.demo.distributor import example
from crossdock_controller.demo.plant import Plant, agent_command
from crossdock_controller.demo.stage import Stage
from crossdock_controller.demo.story import Story
from crossdock_controller.demo.webshop import Webshop

IDLE_TICK_SECONDS = 5.0  # how often the business stirs while someone plays with it


@dataclass(frozen=True, slots=True)
class Options:
    """*keep*: leave everything running at the end until Ctrl-C. *speed* above 1 tells it faster, with fewer records."""

    keep: bool = False
    speed: float = 1.0


def run_demo(options: Options) -> None:
    """Tell the story; returns when it ended well. Raises DemoFailed, and leaves the directory for a look then."""
    agent_command()  # missing: say so before anything else
    directory = Path(tempfile.mkdtemp(prefix="crossdock-demo-"))
    stage = Stage(screen(), options.speed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # told to end: clean up as for Ctrl-C
    try:
        _tell(options, stage, directory)
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    except Exception:
        stage.say(f"[yellow]Everything is left in {directory} (logs in {directory / 'logs'}).[/]")
        raise
    shutil.rmtree(directory, ignore_errors=True)


def _tell(options: Options, stage: Stage, directory: Path) -> None:
    """Processes and servers of the demo live as long as this call."""
    with ExitStack() as stack:
        (directory / "logs").mkdir()
        webshop = Webshop()
        stack.callback(webshop.close)
        business = Business(directory / "sites", (example() / "erp_schema.sql").read_text("utf-8"))
        plant = Plant(directory)
        stack.callback(plant.close)
        story = Story(stage, plant, business, webshop, options.speed)
        stack.callback(story.close)
        story.tell()
        if options.keep:
            with contextlib.suppress(KeyboardInterrupt):
                _keep(stage, story, plant)


def _keep(stage: Stage, story: Story, plant: Plant) -> None:
    """Business goes on slowly until Ctrl-C."""
    variable = "$env:CROSSDOCK_DATA =" if os.name == "nt" else "export CROSSDOCK_DATA="
    stage.panel(
        "It keeps running: try these in another terminal",
        [
            f'  [bold]{variable}"{plant.data.root}"[/]',
            "",
            "  [bold]crossdock status[/]               the whole picture",
            "  [bold]crossdock top[/]                  what flows, live",
            f"  [bold]crossdock trace order {FAMOUS_ORDER}[/]     one order's way",
            "  [bold]crossdock account[/]              the proof",
            "  [bold]crossdock dead list --all[/]      what was mended",
            f"  [bold]crossdock plan {plant.directory / 'config'}[/]",
            "      edit a file there first, then apply, history, rollback 1",
            "",
            f"Everything is in {plant.directory}",
            "and will be removed. [bold]Ctrl-C[/] ends it.",
        ],
    )
    story.open_day(IDLE_TICK_SECONDS)
    while not plant.dead_parts() and plant.controller.alive():
        time.sleep(0.5)
