"""What the sending and the reading parts ask, and the one that always says yes."""

from __future__ import annotations

from typing import Protocol

ENOUGH = 2**62


class Gate(Protocol):
    """Asked from any thread."""

    def send_wait(self, lane: str, under_way: int) -> float:
        """Seconds until a batch of *lane* may be sent while *under_way* bytes are not acknowledged; 0: now."""

    def send_room(self, lane: str) -> int:
        """How many bytes of *lane* may be sent now, for reading no more than that from the outbox; one batch always."""

    def sent(self, lane: str, size: int) -> None:
        """A batch of *size* bytes of *lane* is on its way."""

    def read_wait(self, lane: str) -> tuple[float, str]:
        """Seconds until a source of *lane* may go on, and what it waits for; (0, ""): now."""

    def appended(self, size: int) -> None:
        """*size* bytes were given to the outbox to be written."""


class OpenGate:
    """Nothing is limited."""

    def send_wait(self, _lane: str, _under_way: int) -> float:
        return 0.0

    def send_room(self, _lane: str) -> int:
        return ENOUGH

    def sent(self, _lane: str, _size: int) -> None:
        return

    def read_wait(self, _lane: str) -> tuple[float, str]:
        return 0.0, ""

    def appended(self, _size: int) -> None:
        return


OPEN = OpenGate()
