"""What sites are offered while the revision they are to run changes."""

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from crossdock_controller.offers import Offers
from crossdock_controller.store.targets import Targets


class OneSite:
    sites = ("atl1",)

    def site_config(self, _site: str) -> bytes:
        return b"{}"


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_agents_may_be_offered_something_while_other_targets_are_taken_up() -> None:
    """`take` runs on a thread of its own, and a fleet that comes back asks for its offers meanwhile."""
    offers = Offers(lambda _config, _signer: b"signed")
    runtimes: Any = offers._runtimes
    runtimes[1] = OneSite()
    offers.take(Targets(1), {})
    done = threading.Event()
    wrong: list[Exception] = []

    def take() -> None:
        try:
            while not done.is_set():
                offers.take(Targets(1), {})
        except RuntimeError as error:
            wrong.append(error)

    thread = threading.Thread(target=take)
    thread.start()
    for number in range(5000):
        assert offers.of("atl1", f"signer {number}") is not None
    done.set()
    thread.join()
    assert wrong == []
