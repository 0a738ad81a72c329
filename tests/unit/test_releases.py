"""Many tokens due at once are released in pieces; one that fails is tried again and holds up no other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.errors import Retryable, SourceUnavailable
from crossdock.retry import Backoff
from crossdock.siteconfig import OutboxConfig
from crossdock_agent import releases as module
from crossdock_agent.outbox import Append, Outbox
from crossdock_agent.releases import PIECE, Releases
from crossdock_agent.sources.base import Counters
from support.waiting import until

LIMITS = OutboxConfig(min_free_disk_bytes=0)


class Site:
    """A source that notes what it released, and the clock."""

    def __init__(self) -> None:
        self.released: list[bytes] = []
        self.failing: set[bytes] = set()
        self.attempts = 0
        self.now = 1000.0

    def release(self, token: bytes) -> None:
        self.attempts += 1
        if token in self.failing:
            raise SourceUnavailable(f"{token!r} is open")
        self.released.append(token)

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    site = Site()
    monkeypatch.setattr(module.time, "monotonic", site.monotonic)
    monkeypatch.setattr(module, "RETRY", Backoff(first_seconds=2.0, max_seconds=8.0))
    return site


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db", LIMITS) as opened:
        yield opened


def due(outbox: Outbox, count: int, start: int = 0) -> list[bytes]:
    """*count* acknowledged tokens more."""
    writer = outbox.writer("drop")
    tokens = [b"%05d" % i for i in range(start, start + count)]
    for token in tokens:
        writer.append(Append("drop", "standard", b"x", 0, 1, 1, 1, b"c", (), token))
    writer.flush()
    last = outbox.positions()["drop"].last_sequence
    outbox.acknowledge("drop", outbox.epoch, last)
    until(lambda: outbox.positions()["drop"].acked_sequence == last)
    return tokens


def releases_of(site: Site, outbox: Outbox, counters: Counters | None = None) -> Releases:
    return Releases(site, outbox, "drop", counters or Counters(), random.Random(1))  # type: ignore[arg-type]


def run_all(releases: Releases) -> None:
    """All that is due now."""
    while releases.seconds_to_retry() == 0.0:
        releases.run()


def test_what_is_due_is_released_in_pieces_and_in_order(site: Site, outbox: Outbox) -> None:
    tokens, counters = due(outbox, 3 * PIECE + 1), Counters()
    releases = releases_of(site, outbox, counters)
    for pieces in range(1, 4):
        releases.run()
        assert len(site.released) == pieces * PIECE
        assert releases.seconds_to_retry() == 0.0
        assert counters.snapshot()["releases_waiting"] == len(tokens) - pieces * PIECE
    run_all(releases)
    assert site.released == tokens
    assert releases.seconds_to_retry() == module.NEVER
    assert counters.snapshot()["releases_waiting"] == 0
    assert outbox.releases("drop") == []


def test_one_that_fails_holds_up_no_other_and_is_tried_at_its_own_time(site: Site, outbox: Outbox) -> None:
    tokens, counters = due(outbox, 3), Counters()
    site.failing = {tokens[0]}
    releases = releases_of(site, outbox, counters)
    run_all(releases)
    assert site.released == tokens[1:]
    assert counters.snapshot()["releases_waiting"] == 1
    assert 1.0 <= releases.seconds_to_retry() <= 2.0
    tokens += due(outbox, 1, 3)
    releases.look()
    run_all(releases)
    assert (site.released, site.attempts) == (tokens[1:], 4)  # the failed one was not asked again for the new one
    site.failing.clear()
    site.now += releases.seconds_to_retry()
    releases.run()
    assert site.released == [*tokens[1:], tokens[0]]
    assert outbox.releases("drop") == []


def test_with_very_many_failing_no_new_ones_are_tried_until_one_succeeds(
    site: Site, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_FAILED", PIECE)
    tokens = due(outbox, PIECE + 5)
    site.failing = set(tokens)
    releases = releases_of(site, outbox)
    for _ in range(4):
        releases.run()
    assert site.attempts == PIECE
    site.failing.clear()
    site.now += 2.0
    run_all(releases)
    assert sorted(site.released) == tokens


def test_a_release_that_could_not_be_noted_is_done_again(
    site: Site, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (token,) = due(outbox, 1)
    releases = releases_of(site, outbox)

    def refuse(_ids: object) -> None:
        raise Retryable("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "finish_releases", refuse)
        with pytest.raises(Retryable):
            releases.run()
    assert releases.seconds_to_retry() == 0.0
    run_all(releases)
    assert site.released == [token, token]
    assert outbox.releases("drop") == []
