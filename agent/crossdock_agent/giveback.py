"""A controller restored from a backup gets back what it once acknowledged and does not have any more.

Every welcome says how far the controller is in this outbox's epoch. Where that is less than what it had acknowledged
when we greeted it, the kept batches after it are sent again under their old numbers; the intake refuses what it has, so
sending is always safe. Where some of them are not kept any more the numbers would have a hole: a new epoch begins with
what is left, and what is missing is named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from loguru import logger

from crossdock.v1.link_pb2 import Welcome
from crossdock.wire import GIVE_BACK, common
from crossdock_agent.outbox import Missing, Outbox
from crossdock_agent.problems import Problems

PROBLEM = "given back"
SHOWN_US = 7 * 86_400 * 1_000_000  # a loss is a problem for so long, also after a restart


class GiveBack:
    """*on_given_back* is called when streams must begin anew because what is to be sent has changed."""

    def __init__(self, outbox: Outbox, problems: Problems, on_given_back: Callable[[], None]) -> None:
        self._outbox = outbox
        self._problems = problems
        self._on_given_back = on_given_back
        self._epoch = b""
        self._acked: dict[str, int] = {}
        since_us = time.time_ns() // 1000 - SHOWN_US
        recent = [m for loss in outbox.losses() if loss.at_us > since_us for m in loss.missing]
        if recent:
            problems.report(PROBLEM, lost(recent))

    def greeting(self) -> None:
        """A hello leaves now: whatever its controller acknowledged before, it knows when it answers."""
        positions = self._outbox.positions()
        self._epoch = self._outbox.epoch
        self._acked = {source: at.acked_sequence for source, at in positions.items()}

    def known(self, welcome: Welcome) -> dict[str, int] | None:
        """{source: sequence} of what the controller has in the epoch we greeted it with; None when it does not say."""
        if GIVE_BACK not in common(welcome.capabilities):
            return None
        return {at.source: at.sequence for at in welcome.yours if at.epoch == self._epoch}

    def welcomed(self, store: bytes, known: Mapping[str, int] | None) -> None:
        """Compare, and make what the controller lacks unacknowledged again. *store* is the id of its store."""
        another = bool(store) and store != self._outbox.store
        if another:
            self._another(store)
        if known is not None and self._epoch == self._outbox.epoch:
            lacking = {s: known.get(s, 0) for s, acked in self._acked.items() if acked > known.get(s, 0)}
            if lacking:
                self._give_back(lacking, known)
                return
        if another:
            self._on_given_back()

    def _another(self, store: bytes) -> None:
        """Answers of the store before may still arrive on a stream that has not noticed its end. Those that came since
        the hello left are compared too, those that come from now on do not count."""
        if self._outbox.store:
            logger.warning("the controller's store is another one than before: it was restored, or replaced")
        self._outbox.remember_store(store)
        self._acked = {source: at.acked_sequence for source, at in self._outbox.positions().items()}

    def _give_back(self, lacking: Mapping[str, int], known: Mapping[str, int]) -> None:
        try:
            if not all(self._rewound(source, sequence) for source, sequence in lacking.items()):
                missing = self._outbox.renew(known)
                if missing:
                    self._problems.report(PROBLEM, lost(missing))
        finally:
            self._on_given_back()  # also after a failure: acknowledgements of before do not count any more

    def _rewound(self, source: str, sequence: int) -> bool:
        """False when some of what the controller lacks is not kept any more."""
        again = self._outbox.rewind(source, sequence)
        if again:
            logger.bind(source=source, batches=again).warning(
                "the controller has {} only up to batch {}; what it had acknowledged after that is sent again",
                source, sequence,
            )  # fmt: skip
        return again is not None


def lost(missing: list[Missing]) -> str:
    """What is gone, and how it may still be had."""
    what = "; ".join(
        f"source {m.source}: batches {m.first} to {m.last}"
        + (f", read before {_utc(m.kept_from_us)}" if m.kept_from_us else "")
        for m in missing
    )
    return (
        f"the controller was restored and lacks batches that this agent does not keep any more: {what}; what is kept "
        "was sent as a new epoch. To have them again, drop the files of that time from the archive once more, or read "
        "the table again from an earlier cursor: what the controller has is recognised and not doubled"
    )


def _utc(us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(us / 1e6))
