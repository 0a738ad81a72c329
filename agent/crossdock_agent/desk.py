"""One writer at work: takes what the inbox has for it, in order, and leaves verdicts there.

What is committed when is all that "exactly once" is made of: prepared, noted, done, settled. Whatever is interrupted
comes again with its note. A destination that cannot be reached stops this writer alone, and nothing is given up.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from loguru import logger

from crossdock.errors import ConfigError, CrossdockError, Rejected, Retryable
from crossdock.lifecycle import Stop
from crossdock.redaction import KNOWN
from crossdock.retry import Backoff
from crossdock.siteconfig import WriterConfig
from crossdock_agent import policy
from crossdock_agent.inbox import Inbox, Receipt
from crossdock_agent.problems import Problems
from crossdock_agent.writers.base import Job, Verdict, Writer, rejected

BATCH = 100
BACKOFF = Backoff(first_seconds=0.5, max_seconds=60.0)
LATER = "retry"


class Desk:
    """*tell* is called with receipts: of what is settled, and, as "retry", of what waits for a destination."""

    def __init__(
        self,
        config: WriterConfig,
        writer: Writer,
        inbox: Inbox,
        policy_path: Path,
        problems: Problems,
        tell: Callable[[Sequence[Receipt]], None],
        rng: random.Random,
    ) -> None:
        self.config = config
        self._writer, self._inbox, self._policy_path = writer, inbox, policy_path
        self._problems, self._tell, self._rng = problems, tell, rng
        self._bell = threading.Event()
        self._told = ""  # why what is on top waits, as the centre was told last
        self._key = f"writer:{config.name}"

    def wake(self) -> None:
        """Look: something was received."""
        self._bell.set()

    def run(self, stop: Stop) -> None:
        """A supervised part."""
        stop.on_set(self._bell.set)
        failures = 0
        try:
            while not stop.is_set():
                self._bell.clear()
                jobs = self._inbox.jobs(self.config.name, BATCH)
                if not jobs:
                    self._bell.wait()
                    continue
                try:
                    self._round(jobs)
                except Retryable as error:
                    failures += 1
                    self._waits(jobs, error)
                    stop.wait(BACKOFF.delay(failures, self._rng, at_least=error.after_seconds))
                else:
                    failures, self._told = 0, ""
                    self._problems.clear(self._key)
        finally:
            stop.forget(self._bell.set)
            self._writer.close()

    def _round(self, jobs: list[Job]) -> None:
        refusal = self._refusal()
        if refusal:
            self._settle([(job, rejected("site_policy", refusal)) for job in jobs])
            return
        try:
            self._together(jobs)
        except CrossdockError:
            raise
        except Exception as error:  # noqa: BLE001 - one document must not stop its writer: each is tried by itself
            logger.bind(writer=self.config.name).opt(exception=error).error("a writer failed unexpectedly: {}", error)
            for job in self._inbox.jobs(self.config.name, BATCH):
                self._alone(job)

    def _alone(self, job: Job) -> None:
        try:
            self._together([job])
        except CrossdockError:
            raise
        except Exception as error:  # noqa: BLE001 - its document is what a person has to look at
            reason = KNOWN.clean(f"the writer failed at it: {type(error).__name__}: {error}")
            self._settle([(job, rejected("writer_failed", reason))])

    def _together(self, jobs: list[Job]) -> None:
        lost = [job for job in jobs if job.undo == b""]
        if lost:
            reason = "what it wrote is not known here any more, or cannot be taken back"
            self._settle([(job, rejected("no_undo", reason)) for job in lost])
        fresh = [job for job in jobs if job.note is None and job.undo != b""]
        ready = [job for job in jobs if job.note is not None]
        if fresh:
            prepared = list(zip(fresh, self._writer.prepare(fresh), strict=True))
            self._inbox.prepared((job.id, note) for job, note in prepared if isinstance(note, bytes))
            self._settle([(job, verdict) for job, verdict in prepared if isinstance(verdict, Verdict)])
            ready += [_noted(job, note) for job, note in prepared if isinstance(note, bytes)]
        if ready:
            try:
                verdicts = self._writer.apply(ready)
            except Rejected as error:
                if len(ready) > 1:
                    raise RuntimeError(str(error)) from error  # whose it is shows when each goes by itself
                verdicts = [rejected(error.code, str(error))]
            self._settle(list(zip(ready, verdicts, strict=True)))

    def _settle(self, settled: list[tuple[Job, Verdict]]) -> None:
        if not settled:
            return
        self._inbox.settle(self.config.name, settled, time.time_ns() // 1000)
        self._tell([Receipt(j.id, j.attempt, 0, v.outcome, v.code, v.reason, v.place) for j, v in settled])
        refused = [verdict for _, verdict in settled if verdict.outcome == "rejected"]
        log = logger.bind(writer=self.config.name, deliveries=len(settled), rejected=len(refused))
        log.warning("deliveries refused: {}", KNOWN.clean(refused[0].reason)) if refused else log.debug("written")

    def _waits(self, jobs: list[Job], error: Retryable) -> None:
        reason = KNOWN.clean(str(error))
        self._problems.report(self._key, reason)
        if reason != self._told:
            self._told = reason
            self._tell([Receipt(job.id, job.attempt, 0, LATER, "unavailable", reason, "") for job in jobs])

    def _refusal(self) -> str:
        """Raises Retryable while the site's word cannot be read: nothing is written then, and nothing given up."""
        try:
            return policy.read(self._policy_path).refusal_to_write(self.config.name)
        except ConfigError as error:
            raise Retryable(error.message) from error


def _noted(job: Job, note: bytes) -> Job:
    return Job(
        job.id, job.attempt, job.document, job.key, job.version, job.payload, note, job.undo, job.undoes
    )  # fmt: skip
