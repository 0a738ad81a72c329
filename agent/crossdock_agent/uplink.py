"""Sends what the outbox holds and forgets nothing before the controller has it. What is under way is memory only.

After a reconnect everything unacknowledged is sent again, in order per source; the intake refuses what it has and
acknowledges it again. Sending waits for the first welcome of this process: it shows whether this outbox is older than
what the controller knows (a restored machine), and then nothing may be sent under the old sequences.
"""

from __future__ import annotations

import random
import threading

from crossdock.lifecycle import Stop
from crossdock_agent.identity import IdentityStore
from crossdock_agent.limits import OPEN, Gate
from crossdock_agent.outbox import Outbox
from crossdock_agent.problems import Problems
from crossdock_agent.streams import Stream
from crossdock_agent.transfer import Transfer


class Uplink:
    """`run` is a supervised part."""

    def __init__(
        self,
        outbox: Outbox,
        identities: IdentityStore,
        problems: Problems,
        rng: random.Random,
        gate: Gate = OPEN,
    ) -> None:
        self._welcomed = threading.Event()
        self._problems = problems
        self.stream = Stream("Uplink", lambda: Transfer(outbox, problems, rng, gate), identities, problems, rng)

    def welcomed(self) -> None:
        """The controller has welcomed this process and its outbox: sending may begin, and a refusal is over."""
        self._problems.clear(self.stream.name)
        self._welcomed.set()

    def run(self, stop: Stop) -> None:
        stop.on_set(self._welcomed.set)
        self._welcomed.wait()
        stop.forget(self._welcomed.set)
        self.stream.run(stop)
