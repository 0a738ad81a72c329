"""Receives what the centre wants written here, once there is a writer, or something left in the inbox."""

from __future__ import annotations

import random

from crossdock.lifecycle import Stop
from crossdock_agent.identity import IdentityStore
from crossdock_agent.problems import Problems
from crossdock_agent.receiving import Receiving
from crossdock_agent.streams import Stream
from crossdock_agent.writeback import WriteBack


class Downlink:
    """`run` is a supervised part."""

    def __init__(self, writeback: WriteBack, identities: IdentityStore, problems: Problems, rng: random.Random) -> None:
        self._needed = writeback.needed
        self.stream = Stream("Downlink", lambda: Receiving(writeback), identities, problems, rng)

    def run(self, stop: Stop) -> None:
        stop.on_set(self._needed.set)
        self._needed.wait()
        stop.forget(self._needed.set)
        self.stream.run(stop)
