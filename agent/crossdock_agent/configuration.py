"""The site's configuration: verified, run, and only then kept as the last good one. A broken offer changes nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
from loguru import logger

from crossdock import siteconfig
from crossdock.errors import UNREADABLE, ConfigError, CrossdockError
from crossdock.v1.link_pb2 import ConfigOffer, ConfigStatus
from crossdock_agent import helper
from crossdock_agent.files import write_atomic
from crossdock_agent.identity import IdentityStore
from crossdock_agent.problems import Problems
from crossdock_agent.pumps import Pumps

PROBLEM = "configuration"


class LastGood(msgspec.Struct, frozen=True):
    revision: int
    hash: str
    config: bytes


def read_last_good(path: Path) -> LastGood | None:
    """None when there is none. Raises ConfigError when the file is damaged."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=LastGood)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        raise ConfigError(f"last good configuration {path} cannot be read: {error}") from error
    if siteconfig.digest(kept.config) != kept.hash:
        raise ConfigError(f"last good configuration {path} is damaged", hint="the controller sends it again")
    return kept


class Configuration:
    """*revision* and *hash* are of what runs now; 0 and empty before the first."""

    def __init__(self, path: Path, identities: IdentityStore, pumps: Pumps, problems: Problems) -> None:
        self.revision = 0
        self.hash = ""
        self._path = path
        self._identities = identities
        self._pumps = pumps
        self._problems = problems
        self._lock = threading.Lock()

    def resume(self) -> None:
        """Run the last good configuration, if there is one and nothing runs yet. Needs no controller."""
        with self._lock:
            if self.hash:
                return
            try:
                kept = read_last_good(self._path)
                if kept is None:
                    logger.info("no configuration yet, waiting for the controller's")
                    return
                self._pumps.resume(siteconfig.decode(kept.config))
            except ConfigError as error:
                self._problems.report(PROBLEM, str(error))
                return
            self.revision, self.hash = kept.revision, kept.hash

    def offer(self, offer: ConfigOffer) -> ConfigStatus:
        """Verify, run and keep *offer*. The answer says `applied`, or `failed` with the reason."""
        with self._lock:
            status = ConfigStatus(revision=offer.revision, hash=offer.hash, state="applied")
            if offer.hash == self.hash and offer.revision == self.revision:
                return status
            try:
                self._apply(offer)
            except (CrossdockError, OSError) as error:
                status.state, status.reason = "failed", str(error)
                self._problems.report(PROBLEM, f"configuration {offer.revision} was not applied: {error}")
                return status
            self._problems.clear(PROBLEM)
            return status

    def _apply(self, offer: ConfigOffer) -> None:
        if siteconfig.digest(offer.config) != offer.hash:
            raise ConfigError("the configuration differs from its hash", hint="the controller offers it again")
        identity = self._identities.current()
        helper.verify_config(offer.config, offer.signature, identity.ca_bundle)
        config = siteconfig.decode(offer.config)
        if config.site != identity.site:
            raise ConfigError(f"the configuration is for site {config.site}, this agent is at {identity.site}")
        self._pumps.apply(config)
        kept = LastGood(offer.revision, offer.hash, offer.config)
        write_atomic(self._path, msgspec.json.encode(kept), private=True)
        self.revision, self.hash = offer.revision, offer.hash
        logger.bind(revision=offer.revision).info("configuration applied")
