"""All pumps of this agent. A configuration is built whole before anything is touched; then only differences change."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from loguru import logger

from crossdock.errors import ConfigError
from crossdock.siteconfig import SiteConfig, SourceConfig
from crossdock.v1.link_pb2 import SourceHealth
from crossdock_agent.hints import Hints
from crossdock_agent.limits import Governor, Rules, rules_of
from crossdock_agent.outbox import Outbox, Position
from crossdock_agent.pauses import Pause, Pauses
from crossdock_agent.problems import Problems
from crossdock_agent.pump import Pump
from crossdock_agent.schedule import Schedule
from crossdock_agent.sources import base
from crossdock_agent.writeback import WriteBack
from crossdock_agent.writers.base import Writer

_HELD = ("paused", "quiet", "blocked", "throttled")
HOLD_SECONDS = 5.0  # a changed source's first pass may show within this that its settings are wrong


def build_source(config: SourceConfig, context: base.SourceContext) -> base.Source:
    return base.build(config.kind, config.settings, context)


class Pumps:
    def __init__(
        self,
        outbox: Outbox,
        schedule: Schedule,
        hints: Hints,
        problems: Problems,
        secret: Callable[[str], str],
        rng: random.Random,
        governor: Governor | None = None,
        pauses: Pauses | None = None,
        writeback: WriteBack | None = None,
    ) -> None:
        self._writeback = writeback
        self._pauses = pauses or Pauses()
        self._governor = governor or Governor()
        self._outbox = outbox
        self._schedule = schedule
        self._hints = hints
        self._problems = problems
        self._secret = secret
        self._rng = rng
        self._pumps: dict[str, Pump] = {}
        self._config: SiteConfig | None = None

    def apply(self, config: SiteConfig) -> None:
        """Run *config*: unchanged sources run on, changed ones restart, removed ones stop.

        Raises ConfigError naming every source at fault; then everything runs as before.
        """
        pumps, faults = self._build(config)
        rules = _rules(config, faults)
        writers = self._writers(config, faults)
        if faults:
            raise ConfigError("; ".join(faults))
        before = self._config
        self._switch(config, pumps, rules)
        self._use(config, writers)
        wrong = self._hold(list(pumps.values()))
        if wrong and before is not None:
            self.resume(before)
        if wrong:
            raise ConfigError("; ".join(wrong))

    def resume(self, config: SiteConfig) -> None:
        """Run what can be run of *config*, which was good once; what cannot is a problem for a person."""
        pumps, faults = self._build(config)
        rules = _rules(config, faults)
        writers = self._writers(config, faults)
        for fault in faults:
            self._problems.report(f"config:{fault}", f"{fault}; the other sources run")
        self._switch(config, pumps, rules)
        self._use(config, writers)

    def misconfigured(self, names: frozenset[str]) -> list[str]:
        """What speaks against the settings of these sources, in sentences."""
        return [
            f"source {name}: {pump.progress.error}"
            for name, pump in sorted(self._pumps.items())
            if name in names and pump.progress.misconfigured
        ]

    def stop(self) -> None:
        for pump in self._pumps.values():
            pump.ask_to_stop()
        for name in list(self._pumps):
            self._remove(name)

    def health(self) -> list[SourceHealth]:
        positions, pauses = self._outbox.positions(), self._pauses.all()
        return [
            _health(pump, positions.get(name, Position("standard")), pauses.get(name))
            for name, pump in sorted(self._pumps.items())
        ]

    @property
    def names(self) -> list[str]:
        return sorted(self._pumps)

    def rescan(self, name: str) -> str:
        """Wake source *name*: it looks for new data now. Why not yet, or "". Raises KeyError."""
        pump = self._pumps[name]
        pump.wake()
        state = "paused" if self._pauses.of(name) is not None else pump.progress.state
        return f"it is {state}" if state in _HELD else ""

    def pause(self, name: str, by: str, now_us: int) -> Pause:
        """Stop reading source *name* after the batch in hand; its data waits there. Raises KeyError, OSError."""
        pump = self._pumps[name]
        found = self._pauses.pause(name, by, now_us)
        pump.look()
        return found

    def resume_source(self, name: str) -> Pause | None:
        """Go on reading *name*, which need not be configured now; None when it was not paused. Raises OSError."""
        found = self._pauses.resume(name)
        pump = self._pumps.get(name)
        if found is not None and pump is not None:
            pump.look()
        return found

    def _build(self, config: SiteConfig) -> tuple[dict[str, Pump], list[str]]:
        """New pumps, not started, for what is not running just so already; and what is wrong with the others."""
        pumps: dict[str, Pump] = {}
        faults: list[str] = []
        for source in config.sources:
            running = self._pumps.get(source.name)
            if running is not None and _is_same(running, source, config.zone):
                continue
            try:
                pumps[source.name] = Pump(
                    source, config.revision, self._outbox, self._secret, build_source, self._rng, config.zone,
                    gate=self._governor, paused=self._paused_of(source.name),
                )  # fmt: skip
            except ConfigError as error:
                faults.append(str(error))
            except Exception as error:  # noqa: BLE001 - a source with a bug, or without its driver, is that source's fault
                logger.bind(source=source.name, kind=source.kind).opt(exception=error).error("source cannot be set up")
                faults.append(f"source {source.name}: cannot be set up: {type(error).__name__}: {error}")
        return pumps, faults

    def _writers(self, config: SiteConfig, faults: list[str]) -> dict[str, Writer]:
        if self._writeback is None:
            return {}
        made, wrong = self._writeback.build(config.writers)
        faults += wrong
        return made

    def _use(self, config: SiteConfig, made: dict[str, Writer]) -> None:
        """A writer that cannot be used now stops no source."""
        if self._writeback is not None:
            self._writeback.use(config.writers, made)

    def _switch(self, config: SiteConfig, pumps: dict[str, Pump], rules: Rules) -> None:
        kept = {source.name for source in config.sources} - set(pumps)
        for name in [name for name in self._pumps if name not in kept]:
            self._remove(name)
        for pump in self._pumps.values():
            pump.revision = config.revision
        self._outbox.set_limits(config.outbox)
        self._governor.use(rules)
        self._outbox.set_queue(self._governor.queue_bytes)
        self._outbox.set_log(self._governor.stroke_bytes)
        for name, pump in pumps.items():
            self._pumps = {**self._pumps, name: pump}
            pump.start()
            self._schedule.follow(name, pump.timetable, pump.wake)
            self._hints.watch(name, pump.source.watch(), pump.wake)
        self._config = config
        logger.bind(revision=config.revision, started=len(pumps), kept=len(kept)).info("configuration runs")

    def _paused_of(self, name: str) -> Callable[[], bool]:
        return lambda: self._pauses.of(name) is not None

    def _remove(self, name: str) -> None:
        self._schedule.forget(name)
        self._hints.forget(name)
        pump = self._pumps[name]
        self._pumps = {n: p for n, p in self._pumps.items() if n != name}
        if not pump.stop():
            logger.bind(source=name).warning("source did not stop in time; nothing it still reads is taken")

    def _hold(self, started: list[Pump]) -> list[str]:
        """What the first passes of *started* say against their settings."""
        deadline = time.monotonic() + HOLD_SECONDS
        for pump in started:
            pump.settled.wait(max(0.0, deadline - time.monotonic()))
        return [f"source {p.config.name}: {p.progress.error}" for p in started if p.progress.misconfigured]


def _is_same(running: Pump, source: SourceConfig, zone: str) -> bool:
    return running.config == source and (running.zone == zone or not source.goes_by_the_clock)


def _rules(config: SiteConfig, faults: list[str]) -> Rules:
    """What limits the agent as a whole; windows in a zone that is not known here go by UTC, and are a fault."""
    try:
        return rules_of(config.limits, config.zone)
    except ConfigError as error:
        faults.append(str(error))
        return rules_of(config.limits, "UTC")


def _health(pump: Pump, position: Position, pause: Pause | None) -> SourceHealth:
    progress = pump.progress
    resting = progress.state in ("waiting", "quiet", "failing")
    return SourceHealth(
        source=pump.config.name,
        state="paused" if pause is not None and resting else progress.state,
        records=progress.records,
        batches=progress.batches,
        pending_records=position.records,
        last_read_us=progress.last_read_us,
        error=progress.error,
        hint=progress.hint,
        counters=pump.counters.snapshot(),
        blocked_since_us=progress.blocked_since_us,
        throttled_by=progress.throttled_by if progress.state == "throttled" else "",
        paused_since_us=pause.since_us if pause is not None else 0,
        paused_by=pause.by if pause is not None else "",
    )
