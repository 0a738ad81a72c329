"""The composition root: knows every part, starts them in order inside one stack, and holds no logic.

A damaged outbox ends one life of the parts and begins the next in the same process: the file is set aside, a new epoch
starts from the controller's checkpoints, collection goes on (rule 9).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import msgspec
from loguru import logger

from crossdock import __version__, telemetry
from crossdock.disk import keep_private
from crossdock.errors import BufferCorrupt, ConfigError
from crossdock.keptlog import KeptLog
from crossdock.lifecycle import Stop, Supervisor, stop_on_signals
from crossdock.lock import SingleInstance
from crossdock.machine import machine_digest
from crossdock.redaction import KNOWN
from crossdock.secrets import Secrets
from crossdock.service import Notifier, running
from crossdock.siteconfig import OutboxConfig
from crossdock_agent import binding, helper, memory, priority
from crossdock_agent.configuration import Configuration
from crossdock_agent.control import Control
from crossdock_agent.downlink import Downlink
from crossdock_agent.files import private_directory
from crossdock_agent.health import Health, StatusWriter
from crossdock_agent.hints import Hints
from crossdock_agent.identity import IdentityStore
from crossdock_agent.limits import Governor, Machine
from crossdock_agent.logring import LogRing
from crossdock_agent.outbox import Outbox, quarantine
from crossdock_agent.outlook import Outlook
from crossdock_agent.pauses import Pauses
from crossdock_agent.problems import Problems
from crossdock_agent.pump import wall_us
from crossdock_agent.pumps import Pumps
from crossdock_agent.reenrolment import Reenrolment, Sight
from crossdock_agent.remote import Deeds, Link, Remote
from crossdock_agent.renewal import Renewal
from crossdock_agent.schedule import Schedule
from crossdock_agent.setaside import SetAside
from crossdock_agent.settings import Settings
from crossdock_agent.trust import Trust
from crossdock_agent.uplink import Uplink
from crossdock_agent.writeback import WriteBack

LOCK_SECONDS = 2.0
SETTINGS_PROBLEM = "settings"


def run(settings: Settings, stop: Stop | None = None, reload: Callable[[], Settings] | None = None) -> None:
    """Run the agent until *stop* (by default: a signal). *reload* reads the settings anew when the centre tells it to
    begin anew. Raises Refused or ConfigError when it cannot start."""
    if stop is None:
        stop = Stop()
        stop_on_signals(stop)
    _log(settings, keep=False)
    private_directory(settings.directory)
    memory.limit_arenas()
    with SingleInstance(settings.lock_path, LOCK_SECONDS):
        _log(settings)
        with LogRing(KNOWN) as ring:
            _live(settings, stop, reload, ring)


def _live(settings: Settings, stop: Stop, reload: Callable[[], Settings] | None, ring: LogRing) -> None:
    """One life after the other, until *stop*."""
    identities = IdentityStore(settings.directory)
    identity = identities.current()
    binding.check(identities, machine_digest())
    identities.settle()
    logger.bind(agent=identity.agent, site=identity.site, version=__version__).info("agent starts")
    problems = Problems()
    aside = SetAside(settings.outbox_path, problems)
    with running(stop, "opening the outbox") as manager:  # from here on it may take its time
        aside.look()
        if _was_emptied(settings):
            aside.add(quarantine(settings.outbox_path, "the file is empty, though this agent has run before"))
        while not stop.is_set():
            life = _Life(settings, identities, problems, aside, ring, manager)
            damage = life.run(stop)
            if damage is not None:
                manager.status("the outbox is damaged and set aside")
                aside.add(quarantine(settings.outbox_path, damage.message))
            elif life.begins_anew and not stop.is_set():
                logger.info("the agent begins anew, as the centre told it to")
                manager.status("begins anew, as the centre told it to")
                settings = _reloaded(settings, reload, problems)
                ring.detach()  # the log may be another one now
                ring.attach()
    logger.info("agent stopped")


def run_as_service(load: Callable[[], Settings]) -> None:
    """As the Service Control Manager of Windows wants it, which has no place for what is written to stderr.

    Raises ConfigError when the settings cannot be loaded.
    """
    from crossdock_agent import winservice

    settings = _logged(load())
    winservice.Service(
        winservice.of_windows(), lambda stop: run(settings, stop, lambda: _logged(load()))
    ).run()  # fmt: skip


def _logged(settings: Settings) -> Settings:
    """With a log in a file, where none is asked for."""
    if settings.log_file is None:
        return msgspec.structs.replace(settings, log_file=str(settings.directory / "agent.log"))
    return settings


class _Life:
    """All parts from start to stop, around one outbox file."""

    def __init__(
        self,
        settings: Settings,
        identities: IdentityStore,
        problems: Problems,
        aside: SetAside,
        ring: LogRing,
        manager: Notifier,
    ) -> None:
        self._settings = settings
        self._aside = aside
        self._identities = identities
        self._problems = problems
        self._ring = ring
        self._manager = manager
        self._stop = Stop()
        self._damage: BufferCorrupt | None = None
        self.begins_anew = False

    def run(self, stop: Stop) -> BufferCorrupt | None:
        """Until *stop*, or until the outbox is damaged: then what is wrong with it."""
        stop.on_set(self._stop.set)
        try:
            with ExitStack() as stack:
                self._start(stack)
                _wait(self._stop)
        finally:
            stop.forget(self._stop.set)
        return self._damage

    def _start(self, stack: ExitStack) -> None:
        settings, identities, problems, rng = self._settings, self._identities, self._problems, random.Random()  # noqa: S311
        outbox = stack.enter_context(
            Outbox(settings.outbox_path, OutboxConfig(), migrate=helper.migrate, on_corrupt=self._corrupt)
        )
        keep_private(settings.outbox_path)
        if outbox.quarantined is not None:
            self._aside.add(outbox.quarantined)
        if outbox.bind(identities.current().agent):
            logger.warning("the outbox belonged to another agent identity; its batches are sent as this one's")
        schedule, hints = stack.enter_context(Schedule()), stack.enter_context(Hints())
        governor = Governor(Machine(trim=memory.trim, disk_idle=priority.disk_idle))
        pauses = Pauses(settings.pauses_path, problems)
        secret = Secrets(settings.directory).resolve
        writeback = WriteBack(settings.inbox_path, settings.policy_path, problems, secret, rng)
        stack.callback(writeback.stop)
        pumps = Pumps(outbox, schedule, hints, problems, secret, rng, governor, pauses, writeback)
        stack.callback(pumps.stop)
        configuration = Configuration(
            settings.config_path, identities, pumps, problems, self._ring, settings.hold_seconds
        )
        stack.callback(configuration.stop)

        def behind() -> None:
            control.stream.reconnect()  # the next welcome says how far the controller is

        def welcomed() -> None:
            configuration.resume()
            uplink.welcomed()

        def certificate_renewed() -> None:
            uplink.stream.reconnect()
            downlink.stream.reconnect()
            control.stream.reconnect()

        uplink = Uplink(outbox, identities, problems, rng, on_behind=behind, gate=governor)
        downlink = Downlink(writeback, identities, problems, rng)
        outlook = Outlook(outbox, settings.rates_path, problems, lambda: control.stream.connected)
        health = Health(
            outbox, pumps, identities, configuration, problems, outlook, governor,
            lambda: (control.stream.connected, control.stream.error, control.clock_offset_us),
        )  # fmt: skip
        writer = StatusWriter(health, settings.status_path, self._aside.look)
        deeds = Deeds(settings, pumps, self._begin_anew, writer.write_now, self._ring)
        link = Link(
            lambda reports: control.send(reports),  # noqa: PLW0108 - it is made below
            lambda: control.clock_offset_us,
        )
        remote = Remote(settings, deeds, link)
        stack.callback(remote.close)
        control = Control(
            outbox, identities, configuration, Renewal(identities, problems, wall_us), Trust(identities, problems),
            problems,
            health.heartbeat, welcomed, certificate_renewed, uplink.stream.reconnect, rng, remote.received,
        )  # fmt: skip
        reenrolment = Reenrolment(
            identities, problems,
            lambda: Sight(control.stream.connected, control.stream.turned_away, control.clock_offset_us),
            certificate_renewed, rng, wall_us,
        )  # fmt: skip
        if not outbox.fresh:
            configuration.resume()
        supervisor = Supervisor(self._stop)
        stack.callback(supervisor.join)
        stack.callback(self._stop.set)
        identity = identities.current()
        self._manager.status(f"agent {identity.agent} at site {identity.site} runs")
        parts = {
            "uplink": uplink.run, "control": control.run, "inbox": writeback.run, "downlink": downlink.run,
            "commands": remote.run, "reenrolment": reenrolment.run, "status": writer.run,
        }  # fmt: skip
        for name, part in parts.items():
            supervisor.start(name, part)

    def _begin_anew(self) -> None:
        self.begins_anew = True
        self._stop.set()

    def _corrupt(self, error: BufferCorrupt) -> None:
        self._damage = error
        self._stop.set()


def _wait(stop: Stop) -> None:
    """Until the stop. On Windows a wait without end would not let Ctrl-C through, so it is cut into hours."""
    while not stop.wait(3600.0):
        continue


def _was_emptied(settings: Settings) -> bool:
    """An outbox of no bytes is a new one, or one that lost all it had: the status tells whether it was used before."""
    path = settings.outbox_path
    return path.is_file() and path.stat().st_size == 0 and settings.status_path.exists()


def _reloaded(settings: Settings, reload: Callable[[], Settings] | None, problems: Problems) -> Settings:
    """What the settings are now; those that held where they cannot be read, or name another state directory."""
    if reload is None:
        return settings
    try:
        found, wrong = reload(), ""
    except ConfigError as error:
        found, wrong = settings, str(error)
    if found.state != settings.state:
        found, wrong = settings, f"the state directory is {settings.state} until the agent is stopped and started"
    if wrong:
        problems.report(SETTINGS_PROBLEM, f"the agent runs on with the settings it had: {wrong}")
        return settings
    problems.clear(SETTINGS_PROBLEM)
    if found != settings:
        _log(found)
    return found


def _log(settings: Settings, *, keep: bool = True) -> None:
    """stderr, the file that was asked for, and the log that the agent keeps for those who cannot visit it."""
    path = settings.own_log_path if keep else None
    kept = KeptLog(path, settings.own_log_mb * 1_000_000) if path is not None else None
    telemetry.configure(
        "agent", level=settings.log_level, file=_log_file(settings), as_json=settings.log_json, kept=kept
    )  # fmt: skip


def _log_file(settings: Settings) -> Path | None:
    return Path(settings.log_file) if settings.log_file else None
