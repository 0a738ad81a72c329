"""Sends what the outbox holds and forgets nothing before the controller has it. What is under way is memory only.

After a reconnect everything unacknowledged is sent again, in order per source; the intake refuses what it has and
acknowledges it again. Sending waits for the first welcome of this process: it shows whether this outbox is older than
what the controller knows (a restored machine), and then nothing may be sent under the old sequences.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from crossdock.lifecycle import Stop
from crossdock_agent.identity import IdentityStore
from crossdock_agent.limits import OPEN, Gate
from crossdock_agent.outbox import Outbox
from crossdock_agent.problems import Problems
from crossdock_agent.streams import Stream
from crossdock_agent.transfer import Transfer


def _nobody() -> None:
    """Without a control stream there is nobody to ask."""


class Uplink:
    """`run` is a supervised part. *on_behind* is called when the controller lacks more than can be sent again under the
    old numbers."""

    def __init__(
        self,
        outbox: Outbox,
        identities: IdentityStore,
        problems: Problems,
        rng: random.Random,
        on_behind: Callable[[], None] = _nobody,
        gate: Gate = OPEN,
    ) -> None:
        self._welcomed = threading.Event()
        self._problems = problems
        self.stream = Stream(
            "Uplink", lambda: Transfer(outbox, problems, rng, on_behind, gate), identities, problems, rng
        )

    def welcomed(self) -> None:
        """The controller has welcomed this process and its outbox: sending may begin, and a refusal is over."""
        self._problems.clear(self.stream.name)
        self._welcomed.set()

    def run(self, stop: Stop) -> None:
        stop.on_set(self._welcomed.set)
        self._welcomed.wait()
        stop.forget(self._welcomed.set)
        self.stream.run(stop)
