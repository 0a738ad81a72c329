"""What the controller knows of an outbox decides whether that outbox may still be used."""

import pytest

from crossdock.v1.link_pb2 import SourceCheckpoint
from crossdock_agent.control import _went_back
from crossdock_agent.outbox import Position


@pytest.mark.parametrize(
    ("epoch", "sequence", "at", "went_back"),
    [
        (b"ours", 5, Position("bulk", last_sequence=5, acked_sequence=5), False),
        (b"ours", 5, Position("bulk", last_sequence=9, acked_sequence=3), False),
        (b"ours", 6, Position("bulk", last_sequence=5, acked_sequence=5), True),
        (b"ours", 1, Position("bulk"), True),
        (b"earlier", 90, Position("bulk"), False),  # ours is new and nothing of it has arrived
        (b"earlier", 90, Position("bulk", last_sequence=4), False),
        (b"later", 2, Position("bulk", last_sequence=9, acked_sequence=3), True),
    ],
)
def test_an_outbox_that_is_older_than_what_the_controller_has_is_recognised(
    epoch: bytes, sequence: int, at: Position, went_back: bool
) -> None:
    known = SourceCheckpoint(source="wms", epoch=epoch, sequence=sequence)
    assert _went_back(known, b"ours", at) is went_back
