"""How the agent is, once: for the controller as a heartbeat, for `status` as a small file beside the outbox."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from crossdock import __version__
from crossdock.lifecycle import Stop
from crossdock.v1.link_pb2 import Heartbeat, LimitHealth, SourceHealth
from crossdock_agent import memory
from crossdock_agent.configuration import Configuration
from crossdock_agent.files import write_atomic
from crossdock_agent.identity import IdentityStore
from crossdock_agent.limits import Governor
from crossdock_agent.outbox import Outbox
from crossdock_agent.outlook import Outlook
from crossdock_agent.problems import Problems
from crossdock_agent.pumps import Pumps
from crossdock_agent.status import LimitStatus, SourceStatus, Status
from crossdock_agent.trust import fingerprints

WRITE_SECONDS = 3.0
SOON_SECONDS = 60.0  # what is drained sooner is the coming and going of every day
STATUS_PROBLEM = "status file"
TRIM_SECONDS = 60.0
ALIVE_SECONDS = 15.0  # an unchanged status is written again this often, as a sign of life


class Health:
    """*link* says: connected, last error, clock offset."""

    def __init__(
        self,
        outbox: Outbox,
        pumps: Pumps,
        identities: IdentityStore,
        configuration: Configuration,
        problems: Problems,
        outlook: Outlook,
        governor: Governor,
        link: Callable[[], tuple[bool, str, int | None]],
    ) -> None:
        self._outbox = outbox
        self._pumps = pumps
        self._identities = identities
        self._configuration = configuration
        self._problems = problems
        self.outlook = outlook
        self._governor = governor
        self._link = link
        self._started_us = time.time_ns() // 1000

    def problem(self, sentence: str) -> None:
        """Tell of the status file; empty when it is well again."""
        if sentence:
            self._problems.report(STATUS_PROBLEM, sentence)
        else:
            self._problems.clear(STATUS_PROBLEM)

    def heartbeat(self) -> Heartbeat:
        sources = self._pumps.health()  # first: a source that is blocked is so by what the outbox then holds
        stats, ahead = self._outbox.stats(), self.outlook.forecast
        return Heartbeat(
            clock_us=time.time_ns() // 1000,
            outbox_batches=stats.batches,
            outbox_records=stats.records,
            outbox_bytes=stats.bytes,
            outbox_limit_bytes=self._outbox.limits.max_bytes,
            disk_free_bytes=self._outbox.disk_free(),
            oldest_us=stats.oldest_us,
            sources=sources,
            certificate_expires_us=self._identities.current().expires_us,
            problems=[*self._problems.sentences(), *self._governor.complaints()],
            fills_at_us=self.outlook.at_us(ahead.fills_in),
            drained_at_us=self.outlook.at_us(ahead.drains_in if (ahead.drains_in or 0.0) >= SOON_SECONDS else None),
            in_bytes_per_hour=_whole(ahead.in_per_hour),
            out_bytes_per_hour=_whole(ahead.out_per_hour),
            limits=self._governor.health(stats.bytes),
            config_hash=self._configuration.hash,
            revision=self._configuration.revision,
            authorities=fingerprints(self._identities.current().ca_bundle),
        )

    def status(self) -> Status:
        beat = self.heartbeat()
        identity = self._identities.current()
        connected, error, offset_us = self._link()
        return Status(
            written_us=beat.clock_us,
            started_us=self._started_us,
            process=os.getpid(),
            version=__version__,
            agent=identity.agent,
            site=identity.site,
            controller=identity.link_address,
            link="connected" if connected else "not connected",
            link_error=error,
            clock_offset_us=offset_us,
            certificate_expires_us=beat.certificate_expires_us,
            revision=self._configuration.revision,
            on_probation=self._configuration.on_probation,
            outbox_batches=beat.outbox_batches,
            outbox_records=beat.outbox_records,
            outbox_bytes=beat.outbox_bytes,
            outbox_limit_bytes=beat.outbox_limit_bytes,
            disk_free_bytes=beat.disk_free_bytes,
            oldest_us=beat.oldest_us,
            problems=list(beat.problems),
            sources=[_source(health) for health in beat.sources],
            in_bytes_per_hour=beat.in_bytes_per_hour if beat.HasField("in_bytes_per_hour") else None,
            out_bytes_per_hour=beat.out_bytes_per_hour if beat.HasField("out_bytes_per_hour") else None,
            fills_at_us=beat.fills_at_us,
            drained_at_us=beat.drained_at_us,
            limits=[_limit(health) for health in beat.limits],
        )


class StatusWriter:
    """The supervised part that keeps the status file fresh, and the process small."""

    def __init__(self, health: Health, path: Path, look: Callable[[], None] = lambda: None) -> None:
        self._health = health
        self._look = look  # at what is to be told besides, each minute
        self._path = path
        self._lock = threading.Lock()  # both write beside the same file

    def write_now(self) -> None:
        """For who looks at the file next. From any thread."""
        self._write(self._health.status())

    def run(self, stop: Stop) -> None:
        written: Status | None = None
        trim_at = time.monotonic() + 2 * WRITE_SECONDS  # what starting up left behind
        self._look()
        while True:
            self._health.outlook.sample()
            status = self._health.status()
            if (written is None or _differs(written, status)) and self._write(status):
                written = status
            if time.monotonic() >= trim_at:
                memory.trim()
                self._look()
                trim_at = time.monotonic() + TRIM_SECONDS
            if stop.wait(WRITE_SECONDS):
                return

    def _write(self, status: Status) -> bool:
        """False when the disk took it not: the file is for people on this machine, and the agent does not need it."""
        try:
            with self._lock:
                write_atomic(self._path, msgspec.json.encode(status), durable=False)
        except OSError as error:
            self._health.problem(
                f"{self._path} cannot be written, 'crossdock-agent status' shows an old state: {error}"
            )
            return False
        self._health.problem("")
        return True


def _differs(old: Status, new: Status) -> bool:
    if new.written_us - old.written_us >= ALIVE_SECONDS * 1_000_000:
        return True
    moving = {"written_us": 0, "disk_free_bytes": 0, "fills_at_us": 0, "drained_at_us": 0}
    moving |= {"in_bytes_per_hour": 0, "out_bytes_per_hour": 0}
    return msgspec.structs.replace(old, **moving) != msgspec.structs.replace(new, **moving)


def _whole(rate: float | None) -> int | None:
    return None if rate is None else int(rate)


def _source(health: SourceHealth) -> SourceStatus:
    return SourceStatus(
        health.source,
        health.state,
        health.records,
        health.batches,
        health.pending_records,
        health.last_read_us,
        health.error,
        health.hint,
        dict(health.counters),
        health.blocked_since_us,
        health.throttled_by,
        health.paused_since_us,
        health.paused_by,
    )


def _limit(health: LimitHealth) -> LimitStatus:
    return LimitStatus(
        health.resource,
        health.limit,
        health.used,
        health.throttling,
        health.waiting_bytes,
        health.throttled_seconds,
    )
