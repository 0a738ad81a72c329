"""What the controller knows of an outbox decides whether that outbox may still be used."""

import pytest

from crossdock.v1.link_pb2 import SourceCheckpoint
from crossdock_agent.control import _went_back
from crossdock_agent.outbox import Position


@pytest.mark.parametrize(
    ("epoch", "sequence", "at", "ours", "went_back"),
    [
        (b"ours", 5, Position("bulk", last_sequence=5, acked_sequence=5), 5, False),
        (b"ours", 5, Position("bulk", last_sequence=9, acked_sequence=3), 5, False),
        (b"ours", 2, Position("bulk", last_sequence=9, acked_sequence=8), 2, False),  # the controller was restored
        (b"ours", 6, Position("bulk", last_sequence=5, acked_sequence=5), 6, True),
        (b"ours", 1, Position("bulk"), 1, True),
        (b"earlier", 90, Position("bulk"), 0, False),  # ours is new and nothing of it has arrived
        (b"earlier", 90, Position("bulk", last_sequence=4), 0, False),
        (b"earlier", 90, Position("bulk", last_sequence=9, acked_sequence=3), 0, False),  # restored to before our epoch
        (b"later", 2, Position("bulk", last_sequence=9, acked_sequence=3), 3, True),
        (b"later", 2, Position("bulk", last_sequence=9), 3, True),  # a copy of before its first acknowledgement
        # a controller of an older release does not say how far it has ours
        (b"earlier", 90, Position("bulk", last_sequence=4), None, False),
        (b"later", 2, Position("bulk", last_sequence=9, acked_sequence=3), None, True),
    ],
)
def test_an_outbox_that_is_older_than_what_the_controller_has_is_recognised(
    epoch: bytes, sequence: int, at: Position, ours: int | None, went_back: bool
) -> None:
    known = SourceCheckpoint(source="wms", epoch=epoch, sequence=sequence)
    assert _went_back(known, b"ours", at, ours) is went_back
