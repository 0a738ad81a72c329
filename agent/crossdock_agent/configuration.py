"""The site's configuration: verified, run, watched for a while, and only then kept as the last good one.

A broken offer changes nothing. One that turns out broken within its hold, because its sources fail by their settings or
because the agent ends again and again, is taken back for the last good one, and reported as failed with the last lines
of the log.
"""

from __future__ import annotations

import faulthandler
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec
from loguru import logger

from crossdock import siteconfig
from crossdock.errors import UNREADABLE, ConfigError, CrossdockError
from crossdock.redaction import KNOWN
from crossdock.siteconfig import SiteConfig
from crossdock.v1.link_pb2 import ConfigOffer, ConfigStatus
from crossdock_agent import helper
from crossdock_agent.candidate import LOG_LINES, MAX_HOLD_SECONDS, Candidate, Probation, Refusal, read_candidate
from crossdock_agent.files import write_atomic
from crossdock_agent.hold import Hold
from crossdock_agent.identity import IdentityStore
from crossdock_agent.logring import LogRing
from crossdock_agent.problems import Problems
from crossdock_agent.pumps import Pumps

PROBLEM = "configuration"
KEEP_PROBLEM = "configuration-file"


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


def read_current(path: Path) -> LastGood | None:
    """What the agent runs, or would: the candidate on probation beside *path*, else the last good one at *path*."""
    candidate = read_candidate(path.parent)
    if candidate is not None:
        return LastGood(candidate.revision, candidate.hash, candidate.config)
    return read_last_good(path)


def _nobody(_status: ConfigStatus) -> None:
    """Whoever does not listen hears it at the next welcome."""


class Configuration:
    """*revision* and *hash* are of what runs now; 0 and empty before the first. *on_status* is called, on another
    thread, when what was reported as applied has failed since, or the reverse."""

    def __init__(
        self,
        path: Path,
        identities: IdentityStore,
        pumps: Pumps,
        problems: Problems,
        ring: LogRing | None = None,
        hold_seconds: float = 15.0,
    ) -> None:
        self._hold_seconds = hold_seconds
        self.revision = 0
        self.hash = ""
        self.on_status: Callable[[ConfigStatus], None] = _nobody
        self._path = path
        self._identities = identities
        self._pumps = pumps
        self._problems = problems
        self._ring = ring
        self._lock = threading.RLock()
        self._probation = Probation(path.parent)
        self._hold: Hold | None = None
        self._crash_log: TextIO | None = None
        self._untold: ConfigStatus | None = None  # a failure of an earlier process

    def resume(self) -> None:
        """Run the candidate that was on probation, else the last good configuration, if there is one and nothing runs
        yet. Needs no controller."""
        with self._lock:
            if self.hash:
                return
            before = self._probation.refusal
            if self._probation.resting is not None:
                return
            kept = self._kept()
            candidate = self._probation.found(kept.hash if kept is not None else "")
            if candidate is not None and self._resume_candidate(candidate):
                return
            refusal = self._probation.refusal
            if refusal is not None:
                self._tell(refusal, new=refusal is not before)
            if self._probation.resting is not None:
                self._hold = Hold(self._probation.resting.rest_seconds, lambda: "", self._rested, self._failed)
                self._hold.start()
            self._resume_last_good()

    def offer(self, offer: ConfigOffer) -> ConfigStatus:
        """Verify and run *offer*, and begin its hold. The answer says `applied`, or `failed` with the reason."""
        with self._lock:
            status = ConfigStatus(revision=offer.revision, hash=offer.hash, state="applied")
            if offer.hash == self.hash and offer.revision == self.revision:
                return status
            refusal = self._probation.refusal
            if refusal is not None and (refusal.hash, refusal.revision) == (offer.hash, offer.revision):
                return _failed(refusal)
            try:
                self._probation.forgive()
                self._apply(offer)
            except (CrossdockError, OSError) as error:
                self._problems.report(PROBLEM, f"configuration {offer.revision} was not applied: {error}")
                status.state, status.reason = "failed", KNOWN.clean(str(error))
                status.log.extend(self._last_lines())
                return status
            self._problems.clear(PROBLEM)
            return status

    @property
    def on_probation(self) -> bool:
        """Whether what runs is not the last good one yet."""
        return self._probation.candidate is not None

    def untold(self) -> list[ConfigStatus]:
        """What an earlier process could not report any more; once."""
        with self._lock:
            told, self._untold = self._untold, None
            return [] if told is None else [told]

    def stop(self) -> None:
        """The agent stops on purpose: a hold that lasts ends undecided, and begins anew at the next start."""
        with self._lock:
            self._end_hold()
            try:
                self._probation.stopped()
            except OSError as error:
                logger.warning("the plain stop cannot be noted and will count as a crash: {}", error)

    # --- at start

    def _resume_candidate(self, candidate: Candidate) -> bool:
        try:
            config = siteconfig.decode(candidate.config)
            self._probation.begin(candidate)
            self._listen()
            self._pumps.resume(config)
            self._watch(candidate, config)
        except (CrossdockError, OSError) as error:
            self._end_hold()
            self._problems.report(PROBLEM, f"configuration {candidate.revision} cannot be tried on: {error}")
            return False
        self.revision, self.hash = candidate.revision, candidate.hash
        return True

    def _resume_last_good(self) -> None:
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

    # --- an offer

    def _apply(self, offer: ConfigOffer) -> None:
        if siteconfig.digest(offer.config) != offer.hash:
            raise ConfigError("the configuration differs from its hash", hint="the controller offers it again")
        identity = self._identities.current()
        helper.verify_config(offer.config, offer.signature, identity.ca_bundle)
        config = siteconfig.decode(offer.config)
        if config.site != identity.site:
            raise ConfigError(f"the configuration is for site {config.site}, this agent is at {identity.site}")
        seconds = min(float(offer.hold_seconds), MAX_HOLD_SECONDS) or self._hold_seconds
        candidate = Candidate(revision=offer.revision, hash=offer.hash, config=offer.config, hold_seconds=seconds)
        self._try(candidate, config)
        logger.bind(revision=offer.revision).info("configuration applied")

    def _try(self, candidate: Candidate, config: SiteConfig) -> None:
        """Run *candidate* and begin its hold; when it does not run, what ran before is as it was, its hold included."""
        before = self._probation.candidate
        self._end_hold()
        try:
            self._probation.begin(candidate)
            self._listen()
            self._pumps.apply(config)
        except (CrossdockError, OSError):
            self._quiet()
            if before is None:
                self._probation.passed()
            else:
                self._again(before)
            raise
        self.revision, self.hash = candidate.revision, candidate.hash
        kept = self._kept()
        if kept is not None and kept.hash == candidate.hash:  # back to what was good: nothing to watch
            self._probation.passed()
            self._quiet()
        else:
            self._watch(candidate, config)

    def _again(self, before: Candidate) -> None:
        """What was on probation and runs on: its hold begins anew, also where that cannot be written down."""
        try:
            if self._probation.candidate is not before:
                self._probation.begin(before)
        except OSError as error:
            self._probation.candidate = before
            logger.bind(revision=before.revision).warning("its hold cannot be written down: {}", error)
        self._watch(before, siteconfig.decode(before.config))

    # --- the hold

    def _watch(self, candidate: Candidate, config: SiteConfig) -> None:
        changed = _changed(config, self._kept())
        self._listen()
        self._hold = Hold(
            candidate.hold_seconds, lambda: "; ".join(self._pumps.misconfigured(changed)), self._passed, self._failed
        )
        self._hold.start()

    def _end_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
        self._quiet()

    def _passed(self, hold: Hold) -> bool:
        with self._lock:
            candidate = self._probation.candidate
            if hold.cancelled or candidate is None:
                return True
            try:
                kept = LastGood(candidate.revision, candidate.hash, candidate.config)
                write_atomic(self._path, msgspec.json.encode(kept), private=True)
                self._probation.passed()
            except OSError as error:  # it runs on, and is watched on
                self._problems.report(
                    KEEP_PROBLEM, f"configuration {candidate.revision} runs but cannot be kept: {error}"
                )
                return False
            self._problems.clear(KEEP_PROBLEM)
            self._end_hold()
            logger.bind(revision=candidate.revision).info("configuration kept as the last good one")
            return True

    def _rested(self, hold: Hold) -> bool:
        """What brought the agent down is tried again: there is nothing else to run."""
        with self._lock:
            candidate = self._probation.resting
            if hold.cancelled or candidate is None:
                return True
            self._probation.forgive()
            if not self._resume_candidate(candidate):
                return True
            self._problems.clear(PROBLEM)
            status = ConfigStatus(revision=candidate.revision, hash=candidate.hash, state="applied")
        self.on_status(status)
        return True

    def _failed(self, hold: Hold, reason: str) -> None:
        with self._lock:
            candidate = self._probation.candidate
            if hold.cancelled or candidate is None:
                return
            self._end_hold()
            refusal = self._probation.refuse(candidate, KNOWN.clean(reason), self._last_lines())
            self._go_back()
            self._tell(refusal, new=False)
            status = _failed(refusal)
        self.on_status(status)

    def _go_back(self) -> None:
        """To the last good one; without one, what runs of the candidate runs on: it is all there is."""
        kept = self._kept()
        if kept is None:
            self.revision, self.hash = 0, ""
            return
        self._pumps.resume(siteconfig.decode(kept.config))
        self.revision, self.hash = kept.revision, kept.hash

    def _tell(self, refusal: Refusal, *, new: bool) -> None:
        """A person here, and, of what is *new* since the last process, the controller at the next welcome."""
        self._problems.report(PROBLEM, f"configuration {refusal.revision} was taken back: {refusal.reason}")
        if new:
            self._untold = _failed(refusal)

    def _kept(self) -> LastGood | None:
        try:
            return read_last_good(self._path)
        except ConfigError:
            return None  # told at the start

    def _listen(self) -> None:
        """Keep the log for the next process, and what a library says that brings this one down."""
        if self._ring is not None:
            self._ring.listen(self._probation.note)
        if self._crash_log is None and not faulthandler.is_enabled():
            self._crash_log = self._probation.open_log()
            if self._crash_log is not None:
                faulthandler.enable(self._crash_log, all_threads=False)

    def _quiet(self) -> None:
        if self._ring is not None:
            self._ring.listen(None)
        if self._crash_log is not None:
            faulthandler.disable()
            self._crash_log.close()
            self._crash_log = None

    def _last_lines(self) -> list[str]:
        return self._ring.last(LOG_LINES) if self._ring is not None else []


def _failed(refusal: Refusal) -> ConfigStatus:
    return ConfigStatus(
        revision=refusal.revision, hash=refusal.hash, state="failed", reason=refusal.reason, log=refusal.log
    )


def _changed(config: SiteConfig, kept: LastGood | None) -> frozenset[str]:
    """Names of the sources of *config* that are other ones in *kept*, or none: what speaks for or against it."""
    if kept is None:
        return frozenset(source.name for source in config.sources)
    before = siteconfig.decode(kept.config)
    known = {source.name: source for source in before.sources} if before.zone == config.zone else {}
    return frozenset(source.name for source in config.sources if known.get(source.name) != source)
