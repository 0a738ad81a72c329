"""What the controller knows of an outbox decides whether that outbox may still be used."""

import pytest

from crossdock.v1.link_pb2 import SourceCheckpoint
from crossdock_agent.control import _went_back


@pytest.mark.parametrize(
    ("epoch", "sequence", "last", "acked", "ours", "went_back"),
    [
        (b"ours", 5, 5, 5, 5, False),
        (b"ours", 5, 9, 3, 5, False),
        (b"ours", 2, 9, 8, 2, False),  # the controller was restored
        (b"ours", 6, 5, 5, 6, True),
        (b"ours", 1, 0, 0, 1, True),
        (b"earlier", 90, 0, 0, 0, False),  # ours is new and nothing of it has arrived
        (b"earlier", 90, 4, 0, 0, False),
        (b"earlier", 90, 9, 3, 0, False),  # restored to before our epoch
        (b"later", 2, 9, 3, 3, True),
        (b"later", 2, 9, 0, 3, True),  # a copy of before its first acknowledgement
        # a controller of an older release does not say how far it has ours
        (b"earlier", 90, 4, 0, None, False),
        (b"later", 2, 9, 3, None, True),
    ],
)
def test_an_outbox_that_is_older_than_what_the_controller_has_is_recognised(
    epoch: bytes, sequence: int, last: int, acked: int, ours: int | None, went_back: bool
) -> None:
    known = SourceCheckpoint(source="wms", epoch=epoch, sequence=sequence)
    assert _went_back(known, b"ours", last, acked, ours) is went_back
