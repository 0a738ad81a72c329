"""Where the story is shown: a live picture on a terminal, plain lines elsewhere. It holds no part of the story."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.text import Text

FRAMES_PER_SECOND = 5
LINE_SECONDS = 3.0  # without a terminal a picture becomes a line this often
WIDTH = 80

LORRY = r"""
      ______________________
     |                      |___
     |   c r o s s d o c k  |   \__
     |   nothing lost       | []   |
     |   nothing doubled    |      |
     '--(o)(o)-----------(o)'-(o)--'
"""


class Stage:
    """Speaks on *console*; `speed` above 1 shortens the pauses that are only there for readers."""

    def __init__(self, console: Console, speed: float = 1.0) -> None:
        self.console = console
        self._speed = speed
        self._began = time.monotonic()

    @property
    def live(self) -> bool:
        return bool(self.console.is_terminal and not self.console.is_dumb_terminal)

    def open(self, title: str, lines: Sequence[str]) -> None:
        """The first screen."""
        body = Group(Text(LORRY.strip("\n"), style="cyan"), Text(), *(Text.from_markup(line) for line in lines))
        panel = Panel(
            body, title=f"[bold]{title}[/]", title_align="left", width=self._width, box=box.ROUNDED, padding=(1, 2)
        )
        self.console.print(panel)

    def act(self, number: int, title: str) -> None:
        at = f"{time.monotonic() - self._began:4.0f} s"
        heading = f"[bold cyan]{number}[/] [bold]{title}[/] [dim]· {at}[/]"
        self.console.print()
        self.console.print(Rule(heading, align="left", style="cyan"), width=self._width)

    def say(self, text: str) -> None:
        """One line of the story; rich markup allowed."""
        told = Text.from_markup(text)
        if self.live:
            self.console.print(Padding(told, (0, 0, 0, 2)), width=self._width)
        else:
            self.console.print("  ", told, sep="", soft_wrap=True)

    def done(self, text: str) -> None:
        """Something came out as it must."""
        self.say(f"[green]✔[/] {text}")

    def command(self, line: str) -> None:
        """A command as the operator types it; its answer follows."""
        self.console.print()
        self.console.print(Text.assemble(("  $ ", "dim"), (line, "bold")), soft_wrap=True)

    def panel(self, title: str, lines: Sequence[str]) -> None:
        body = Group(*(Text.from_markup(line) for line in lines))
        self.console.print()
        self.console.print(
            Panel(
                body, title=f"[bold]{title}[/]", title_align="left", width=self._width, box=box.ROUNDED, padding=(1, 2)
            )
        )

    def pause(self, seconds: float) -> None:
        """Time to read, for those who read along."""
        if self.live:
            time.sleep(seconds / self._speed)

    def watch(
        self, picture: Callable[[], RenderableType], line: Callable[[], str], until: Callable[[], bool], seconds: float
    ) -> bool:
        """Show *picture* (or *line*, without a terminal) until *until* says so: True; or *seconds* passed: False."""
        deadline = time.monotonic() + seconds
        if self.live:
            with Live(picture(), console=self.console, auto_refresh=False) as live:
                reached = self._turn(until, deadline, lambda: live.update(picture(), refresh=True))
                live.update(picture(), refresh=True)
            return reached
        said = [""]

        def say_once() -> None:
            now = line()
            if now != said[0]:
                said[0] = now
                self.say(now)

        reached = self._turn(until, deadline, _every(LINE_SECONDS, say_once))
        say_once()
        return reached

    def _turn(self, until: Callable[[], bool], deadline: float, show: Callable[[], None]) -> bool:
        while True:
            if until():
                return True
            if time.monotonic() > deadline:
                return False
            show()
            time.sleep(1 / FRAMES_PER_SECOND)

    @property
    def _width(self) -> int:
        return min(self.console.width, WIDTH)


def _every(seconds: float, call: Callable[[], None]) -> Callable[[], None]:
    """*call*, at most once in *seconds*."""
    last = [time.monotonic()]

    def show() -> None:
        if time.monotonic() - last[0] >= seconds:
            last[0] = time.monotonic()
            call()

    return show


def one_after_the_other(events: Iterator[tuple[Callable[[], bool], Callable[[], None]]]) -> Callable[[], bool]:
    """Each (when, what) in turn, as soon as its time has come; True when the last is done."""
    current = [next(events, None)]

    def advance() -> bool:
        while current[0] is not None and current[0][0]():
            current[0][1]()
            current[0] = next(events, None)
        return current[0] is None

    return advance
