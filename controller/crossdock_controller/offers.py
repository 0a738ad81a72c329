"""What each site is offered: its part of the revision it is to run, compiled and signed once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from loguru import logger

from crossdock import siteconfig
from crossdock.errors import ConfigError, Corrupt
from crossdock.v1 import link_pb2
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.config.tree import Tree
from crossdock_controller.store.targets import Targets

SHORTEST_HOLD_SECONDS = 30.0  # a shorter one is left to the agent, which watches for a while by itself


class Offers:
    """*sign* makes the signature over a site's configuration by a CA, named by its fingerprint. `take` may run on a
    thread of its own."""

    def __init__(self, sign: Callable[[bytes, str], bytes]) -> None:
        self._sign = sign
        self.targets = Targets(0)
        self._runtimes: dict[int, Runtime] = {}
        self._refused: set[int] = set()
        self._hold_seconds = 0  # of the rollout's waves: agents watch what is rolled out for as long
        self._last_good = 0  # in force, or the one before it that could be read
        self._lock = threading.Lock()  # for the offers
        self._offers: dict[tuple[int, str, str, bool], link_pb2.ConfigOffer] = {}  # by revision, site, signer, writers

    def unread(self, found: Targets) -> list[int]:
        """The revisions whose trees `take` needs."""
        wanted = {found.in_force, found.rolling} - {0} - self._runtimes.keys() - self._refused
        return sorted(wanted)

    def refuse(self, damaged: Mapping[int, Corrupt]) -> None:
        """These are not what was applied: nobody is offered them, and their sites keep what they have."""
        for number, error in damaged.items():
            self._refused.add(number)
            logger.bind(revision=number).error("revision is not offered to any site: {}", error)

    def take(self, found: Targets, trees: Mapping[int, Tree], hold_seconds: float = 0.0) -> None:
        """Go by *found* from now on, whose rollout holds each wave for *hold_seconds*. A revision that this release
        cannot read leaves its sites with what they have."""
        runtimes = dict(self._runtimes)
        for number, tree in trees.items():
            try:
                runtimes[number] = Runtime.from_tree(tree, number)
            except ConfigError as error:
                self._refused.add(number)
                logger.bind(revision=number).error("revision cannot be read and is not offered to any site: {}", error)
        good = found.in_force if found.in_force in runtimes else self._last_good
        kept = {good, found.rolling}
        self._runtimes = {number: runtime for number, runtime in runtimes.items() if number in kept}
        with self._lock:  # `of` may add to it meanwhile
            self._offers = {key: offer for key, offer in self._offers.items() if key[0] in kept}
        self._hold_seconds = int(hold_seconds) if hold_seconds >= SHORTEST_HOLD_SECONDS else 0
        self._last_good, self.targets = good, found

    def of(self, site: str, signer: str, *, writers: bool = True) -> link_pb2.ConfigOffer | None:
        """Signed by *signer*; without *writers*, for an agent that knows none. None when the revision it is to run does
        not know *site*, or cannot be read."""
        number = self.targets.of(site)
        number = self._last_good if number == self.targets.in_force else number
        runtime = self._runtimes.get(number)
        if runtime is None or site not in runtime.sites:
            return None
        offer = self._offers.get((number, site, signer, writers))
        if offer is None:  # compiled and signed once: a fleet that comes back asks for all of them at once
            config = runtime.site_config(site)
            config = config if writers else siteconfig.without_writers(config)
            offer = link_pb2.ConfigOffer(
                revision=number,
                hash=siteconfig.digest(config),
                config=config,
                signature=self._sign(config, signer),
                hold_seconds=self._hold_seconds if number == self.targets.rolling else 0,
            )
            with self._lock:
                self._offers[number, site, signer, writers] = offer
        return offer
