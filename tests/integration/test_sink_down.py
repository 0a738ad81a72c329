"""A sink that is down for days, or slow: what waits for it is kept in order, nothing is given up, and nobody else feels
it."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crossdock.errors import SinkUnavailable
from crossdock_controller.commands.status import _sink_step
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.dispatch import Dispatcher
from crossdock_controller.judging import Policy
from crossdock_controller.line import Line
from crossdock_controller.normalize import Normalizer
from crossdock_controller.sinks.base import DONE, Verdict
from crossdock_controller.store import sinks, views
from support.http_sink import Fault, HttpReceiver
from support.orders import Orders, tree
from support.pipeline import Box, FakeRuntime, FakeSink, wait_for

SECOND, HOUR = 1_000_000, 3_600_000_000
START_US = 2_000_000_000_000_000


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


class Clock:
    def __init__(self) -> None:
        self.us = START_US

    def __call__(self) -> int:
        """A little later each time: a call takes a moment."""
        self.us += 50
        return self.us


def line(box: Box, name: str, sink: FakeSink, clock: Clock, policy: Policy | None = None) -> Line:
    number = sinks.sink_id(box.db, name)
    cursor = sinks.claim(box.db, number, name, START_US)
    assert cursor is not None
    return Line(box.db, number, name, sink, 100, name, cursor, policy or Policy(), rng=random.Random(1), clock_us=clock)


def unreachable(sink: FakeSink, *, down: bool) -> None:
    sink.down = SinkUnavailable("connection refused") if down else None


def answers_503(sink: FakeSink, *, down: bool) -> None:
    """As a proxy does whose server is gone."""
    sink.decide = lambda _d: Verdict("retry", "http_503", "bad gateway") if down else DONE


@pytest.mark.parametrize(("outage", "attempts"), [(unreachable, None), (answers_503, None), (answers_503, 3)])
def test_two_days_without_a_sink_end_in_no_dead_letter_and_are_made_up_in_order(
    box: Box, outage: Callable[..., None], attempts: int | None
) -> None:
    """By the clock: 50 hours, several versions of each key, another sink all the while."""
    clock, policy = Clock(), Policy(max_attempts=attempts)
    gone, well = FakeSink(), FakeSink()
    lines = [line(box, "gone", gone, clock, policy), line(box, "well", well, clock, policy)]
    box.send(*(f"K{i:02d};before" for i in range(40)))
    box.normalize(FakeRuntime("gone", "well"))
    for each in lines:
        while each.step():
            pass
    outage(gone, down=True)
    calls = len(gone.calls)
    sent = 40
    for hour in range(50):
        box.send(*(f"K{i:02d};h{hour:02d}" for i in range(40)))
        sent += 40
        box.normalize(FakeRuntime("gone", "well"))
        for _ in range(15):
            clock.us += 240 * SECOND
            for each in lines:
                while each.step():
                    pass
    assert len(well.applied) == sent
    assert len(gone.calls) - calls <= 50 * 15 + 1  # it is asked, with one, when it may be: not hammered
    assert all(len(call) == 1 for call in gone.calls[calls + 1 :])
    assert box.account().dead == 0
    (view, _) = views.sinks(box.db)
    assert (view.sink, view.waiting, view.dead) == ("gone", 2_000, 0)
    assert 49 * HOUR < clock.us - view.down_us < 51 * HOUR
    step = _sink_step(view, clock.us)
    assert "sink gone gives no verdict for 2 d " in step
    assert "2,000 deliveries wait and none is given up; all would be delivered in about" in step

    outage(gone, down=False)
    calls = len(gone.calls)
    for _ in range(20):
        clock.us += 120 * SECOND
        while lines[0].step():
            pass
    versions: dict[str, list[int]] = defaultdict(list)
    for delivery in gone.applied:
        versions[delivery.key].append(delivery.sequence)
    assert all(found == sorted(set(found)) and len(found) == 51 for found in versions.values())
    assert len(gone.calls) - calls < 500  # in full runs again
    assert max(len(call) for call in gone.calls[calls:]) > 90
    assert views.sinks(box.db)[0].down_us == 0
    assert box.account().delivered == sent
    assert box.account().balanced


def test_a_document_that_a_sink_puts_off_for_ever_while_it_takes_others_is_still_given_up(box: Box) -> None:
    clock = Clock()
    sink = FakeSink(lambda d: Verdict("retry", "http_500", "trips over it") if d.key == "bad" else DONE)
    ready = line(box, "finance", sink, clock, Policy(max_age_us=HOUR))
    for n in range(120):
        box.send("bad;x" if not n else f"K{n};x")
        box.normalize(FakeRuntime("finance"))
        clock.us += 60 * SECOND
        while ready.step():
            pass
    assert box.account().dead == 1
    assert box.account().delivered == 119


HTTP = "kind: http\nurl: {url}/{{key}}\nmethod: PUT\ntimeout_seconds: {timeout}\n"


@pytest.fixture
def dispatching(box: Box) -> Iterator[Callable[[], Dispatcher]]:
    """Makes a dispatcher that runs on a thread of its own; all are ended."""
    from crossdock.lifecycle import Stop

    running: list[tuple[Stop, threading.Thread]] = []

    def start() -> None:
        stop, ready = Stop(), threading.Event()

        def work() -> None:
            dispatcher = Dispatcher(box.data, Runtime.from_tree)
            ready.set()
            dispatcher.run(stop)
            dispatcher.close()

        thread = threading.Thread(target=work)
        thread.start()
        assert ready.wait(30)
        running.append((stop, thread))

    def end() -> float:
        stop, thread = running.pop()
        begun = time.monotonic()
        stop.set()
        thread.join(60)
        assert not thread.is_alive()
        return time.monotonic() - begun

    start.end = end  # type: ignore[attr-defined]
    yield start  # type: ignore[misc]
    while running:
        end()


def normalize(box: Box) -> None:
    worker = Normalizer(box.data, Runtime.from_tree)
    while worker.step():
        pass
    worker.close()


@pytest.mark.timeout(180)
def test_sinks_that_hang_slow_no_other_and_do_not_hold_up_the_shutdown(box: Box, dispatching: object) -> None:
    with HttpReceiver() as slow, HttpReceiver() as fast:
        slow.script(*[Fault(mode="hang")] * 8)
        hanging = {f"slow{i}": HTTP.format(url=slow.url, timeout=50) for i in range(4)}
        box.apply(tree(sinks={**hanging, "fast": HTTP.format(url=fast.url, timeout=50)}))
        Orders(box).send_many(1, 300)
        normalize(box)
        dispatching()  # type: ignore[operator]
        wait_for(lambda: len(fast.effects) == 300, "the fast sink has all", 120)
        wait_for(lambda: len(slow.requests) >= 4, "each slow sink hangs in its first call")
        assert slow.effects == []
        seconds = dispatching.end()  # type: ignore[attr-defined]
        assert seconds < 20, "four sinks that hang must not be waited for one after the other"


@pytest.mark.timeout(180)
def test_an_answer_that_comes_after_our_patience_has_no_second_effect(box: Box, dispatching: object) -> None:
    """The sink applied the document and answered too late: the same idempotency key comes again."""
    with HttpReceiver() as sink:
        sink.script(*[Fault(mode="hang", applied=True)] * 2)
        box.apply(tree(sinks={"late": HTTP.format(url=sink.url, timeout=1)}))
        numbers = Orders(box).send_many(1, 20)
        normalize(box)
        dispatching()  # type: ignore[operator]
        wait_for(lambda: box.account("orders").delivered == 20, "all are delivered", 120)
        assert sorted(r.key for r in sink.effects) == numbers
        assert len(sink.requests) > len(sink.effects)


@pytest.mark.timeout(180)
def test_a_real_sink_that_comes_back_gets_all_that_waited_without_a_person(box: Box, dispatching: object) -> None:
    with HttpReceiver() as first:
        url = first.url
    box.apply(tree(sinks={"gone": HTTP.format(url=url, timeout=5)}))
    orders = Orders(box)
    numbers = orders.send_many(1, 200)
    normalize(box)
    dispatching()  # type: ignore[operator]
    wait_for(lambda: bool(sinks.states(box.db) and sinks.states(box.db)[0].problem), "it is known to be down")
    numbers += orders.send_many(201, 200)
    normalize(box)
    (view,) = views.sinks(box.db)
    assert "cannot be reached" in view.problem
    assert view.down_us
    assert view.waiting == 400
    with first.successor() as again:
        wait_for(lambda: len(again.effects) == 400, "all that waited is delivered", 120)
        wait_for(lambda: box.account("orders").delivered == 400, "and recorded")
        assert sorted(r.key for r in again.effects) == numbers
    assert box.account("orders").dead == 0
