"""The control stream: who we are, how we are, and what the centre wants. Bulk data never travels here.

A fresh outbox begins where the controller's checkpoints say, and not before it heard them. An outbox that the
controller has seen further than it is now was restored from an older copy: its sequences would be taken for duplicates,
so it is given up for a new epoch before anything is sent. Sources of an outbox that is not fresh read before the
welcome, so the comparison is with where it stood before the first process that had none. A controller that has less
than it once acknowledged was restored itself: it is given back what it lacks (see `giveback`).
"""

from __future__ import annotations

import contextlib
import os
import platform
import queue
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator

from loguru import logger

from crossdock import __version__
from crossdock.errors import CrossdockError, Refused
from crossdock.lifecycle import Stop
from crossdock.machine import machine_digest
from crossdock.v1.link_pb2 import (
    Command,
    CommandResult,
    ConfigOffer,
    ConfigStatus,
    Directive,
    Heartbeat,
    Hello,
    Report,
    SourceCheckpoint,
    Welcome,
)
from crossdock.v1.link_pb2 import Trust as Order
from crossdock.wire import CAPABILITIES, PROTOCOL, misfit
from crossdock_agent.configuration import Configuration
from crossdock_agent.giveback import GiveBack
from crossdock_agent.identity import IdentityStore
from crossdock_agent.outbox import Outbox
from crossdock_agent.problems import Problems
from crossdock_agent.renewal import Renewal
from crossdock_agent.streams import Stream
from crossdock_agent.trust import Trust

HEARTBEAT_SECONDS = 15.0  # until the welcome says otherwise
SKEW_SECONDS = 60.0  # a clock this far off is a problem for a person
SKEW_PROBLEM = "clock"


def hello(instance: bytes, epoch: bytes, revision: int = 0, config_hash: str = "", *, ask: bool = False) -> Hello:
    """*ask* for the acknowledged checkpoints: a fresh outbox starts from them, any other is compared with them once."""
    return Hello(
        protocol=PROTOCOL,
        capabilities=CAPABILITIES,
        version=__version__,
        host=socket.gethostname(),
        platform=platform.platform(),
        instance=instance,
        epoch=epoch,
        wants_checkpoints=ask,
        revision=revision,
        config_hash=config_hash,
        clock_us=time.time_ns() // 1000,
        machine=machine_digest(),
    )


class Control:
    """`run` is a supervised part. *on_welcome* is called when sources may read and the uplink may send.

    Make it before any source reads: it keeps where the outbox stood at opening.
    """

    def __init__(
        self,
        outbox: Outbox,
        identities: IdentityStore,
        configuration: Configuration,
        renewal: Renewal,
        trust: Trust,
        problems: Problems,
        heartbeat: Callable[[], Heartbeat],
        on_welcome: Callable[[], None],
        on_certificate: Callable[[], None],
        on_given_back: Callable[[], None],
        rng: random.Random,
        on_command: Callable[[Command], None] | None = None,
    ) -> None:
        self.on_command = on_command
        self.clock_offset_us: int | None = None  # controller's clock minus ours
        self.heartbeat_seconds = HEARTBEAT_SECONDS
        self.outbox = outbox
        self.configuration = configuration
        self.renewal = renewal
        self.trust = trust
        self.heartbeat = heartbeat
        self._problems = problems
        self._on_welcome = on_welcome
        self._on_certificate = on_certificate
        self._give_back = GiveBack(outbox, problems, on_given_back)
        self._instance = os.urandom(16)
        self._talk: _Talk | None = None
        configuration.on_status = self._report_status
        self._compared = False  # the outbox with what the controller knows of it
        self._opened_at = outbox.opening()  # nothing is sent before the welcome: the controller knows no more than this
        self.stream = Stream("Control", self._begin_talk, identities, problems, rng)

    def run(self, stop: Stop) -> None:
        self.stream.run(stop)

    def hello(self) -> Hello:
        at = self.configuration
        self._give_back.greeting()
        greeting = hello(self._instance, self.outbox.epoch, at.revision, at.hash, ask=not self._compared)
        greeting.store = self.outbox.store
        greeting.authorities.extend(self.trust.authorities())
        return greeting

    def welcome(self, welcome: Welcome, round_trip_us: int) -> None:
        """Take up what the controller knows about this outbox. Ends in a quarantine when it knows more than we.

        Raises Refused when it speaks another protocol: nothing of what it says is taken up then.
        """
        reason = misfit("this agent", "the controller", welcome.protocol, welcome.version)
        if reason:
            raise Refused(reason)
        self.clock_offset_us = welcome.clock_us - (time.time_ns() // 1000 - round_trip_us // 2)
        self._note_skew(self.clock_offset_us / 1e6)
        self.trust.welcomed(welcome)
        if welcome.heartbeat_seconds:
            self.heartbeat_seconds = float(welcome.heartbeat_seconds)
        yours = self._give_back.known(welcome)
        for known in welcome.checkpoints if not self._compared else ():
            last, acked = self._opened_at.get(known.source, (0, 0))
            ours = None if yours is None else yours.get(known.source, 0)
            if _went_back(known, self.outbox.epoch, last, acked, ours):
                self.outbox.condemn(
                    f"source {known.source} is at batch {last}, the controller already has "
                    f"{known.sequence} of this or a later epoch; was this machine restored from a backup?"
                )
                return
        if self.outbox.fresh:
            self.outbox.adopt({known.source: known.checkpoint for known in welcome.checkpoints})
        self._give_back.welcomed(welcome.store, yours)
        if not self._compared:
            self.outbox.compared()
        self._compared = True
        logger.bind(controller=welcome.version, offset_ms=self.clock_offset_us // 1000).info(
            "welcomed by the controller"
        )
        self._on_welcome()

    def _begin_talk(self) -> _Talk:
        self._talk = _Talk(self)
        return self._talk

    def send(self, reports: Iterable[Report]) -> None:
        """Send *reports* over the stream there is now; heartbeats go in between. From any thread. Where there is none
        they are lost: the controller asks again."""
        talk = self._talk
        if talk is not None:
            talk.send(reports)

    def _report_status(self, status: ConfigStatus) -> None:
        """From any thread. A stream that is not there hears it when the configuration is offered anew."""
        self.send([Report(config=status), Report(heartbeat=self.heartbeat())])

    def certificate_renewed(self) -> None:
        self._on_certificate()

    def _note_skew(self, seconds: float) -> None:
        if abs(seconds) > SKEW_SECONDS:
            self._problems.report(
                SKEW_PROBLEM,
                f"this machine's clock is {-seconds:+.0f} s off the controller's; set up time synchronisation",
            )
        else:
            self._problems.clear(SKEW_PROBLEM)


def _went_back(known: SourceCheckpoint, epoch: bytes, last: int, acked: int, ours: int | None) -> bool:
    """True when the controller has had more from this agent than the outbox knows of.

    *known* is the newest epoch it has of the source, *ours* how far it has the outbox's epoch (None: it does not say).
    An outbox of which it has some, and of a later epoch too, is older than that. One of which it has nothing may have
    been acknowledged by what the controller was before it was restored; where it does not say, that is condemned too.
    """
    if known.epoch == epoch:
        return known.sequence > last
    return acked > 0 if ours is None else ours > 0


class _Talk:
    """A session of the control stream (see `streams.Session`)."""

    def __init__(self, control: Control) -> None:
        self.ended = False
        self.answered = False
        self.failure: CrossdockError | None = None
        self.on_failure: Callable[[], object] = self.end
        self._control = control
        self._outgoing: queue.SimpleQueue[Report | Iterable[Report] | None] = queue.SimpleQueue()
        self._beaten_at = time.monotonic()
        self._greeted_at = time.monotonic()

    def end(self) -> None:
        self.ended = True
        self._outgoing.put(None)

    def send(self, reports: Iterable[Report]) -> None:
        if not self.ended:
            self._outgoing.put(reports)

    # --- the sending thread

    def requests(self) -> Iterator[Report]:
        try:
            yield from self._reports()
        except CrossdockError as error:
            self.failure = error
            self.on_failure()

    def _reports(self) -> Iterator[Report]:
        self._greeted_at = time.monotonic()
        yield Report(hello=self._control.hello())
        while not self.ended:
            waiting: Report | Iterable[Report] | None = ()
            with contextlib.suppress(queue.Empty):
                waiting = self._outgoing.get(timeout=max(0.0, self._beat_in()))
            if waiting is None:
                return
            for report in (waiting,) if isinstance(waiting, Report) else waiting:
                yield report
                if self.ended:
                    return
                yield from self._beat()  # however long the answer to a command is
            yield from self._beat()

    def _beat_in(self) -> float:
        """Seconds until a heartbeat is due."""
        return self._beaten_at + self._control.heartbeat_seconds - time.monotonic()

    def _beat(self) -> Iterator[Report]:
        if self._beat_in() > 0:
            return
        self._beaten_at = time.monotonic()
        yield Report(heartbeat=self._control.heartbeat())
        request = self._control.renewal.request()
        if request is not None:
            yield Report(certificate_request=request)

    # --- the receiving thread

    def received(self, directive: Directive) -> None:
        kind = directive.WhichOneof("kind")
        if kind == "welcome":
            self._control.welcome(directive.welcome, int((time.monotonic() - self._greeted_at) * 1e6))
            self.answered = True
            self._outgoing.put(Report(heartbeat=self._control.heartbeat()))
            for status in self._control.configuration.untold():
                self._outgoing.put(Report(config=status))
        elif kind == "config":
            self._offered(directive.config)
        elif kind == "certificate":
            if self._control.renewal.issued(directive.certificate):
                self._control.certificate_renewed()
        elif kind == "trust":
            self._trusted(directive.trust)
        elif kind == "command" and self._control.on_command is not None:
            self._control.on_command(directive.command)
        elif kind == "command":
            error = f"this agent ({__version__}) does not know the command {directive.command.name!r}"
            self._outgoing.put(Report(command_result=CommandResult(id=directive.command.id, ok=False, error=error)))
        else:
            logger.bind(part="control").info("a directive that this release does not know was ignored")

    def _trusted(self, order: Order) -> None:
        taken = self._control.trust.take(order)
        self._outgoing.put(Report(heartbeat=self._control.heartbeat()))
        request = self._control.renewal.request(at_once=True) if taken and order.renew else None
        if request is not None:
            self._outgoing.put(Report(certificate_request=request))

    def _offered(self, offer: ConfigOffer) -> None:
        applying = ConfigStatus(revision=offer.revision, hash=offer.hash, state="applying")
        self._outgoing.put(Report(config=applying))
        self._outgoing.put(Report(config=self._control.configuration.offer(offer)))
        self._outgoing.put(Report(heartbeat=self._control.heartbeat()))
