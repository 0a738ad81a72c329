"""The checkpoint of a table that is read by watermark and by key; that of the reading by watermark is a part of it."""

from __future__ import annotations

import msgspec

from crossdock.errors import UNREADABLE, ConfigError
from crossdock_agent.sql.keychunks import Kept
from crossdock_agent.sql.overlay import OverlayState

POSITION_VERSION = 1


class Position(msgspec.Struct, frozen=True, array_like=True):
    """*live* is the checkpoint of the reading by watermark."""

    version: int
    live: bytes | None
    loaded: bool  # nothing is left of the first load
    behind: bytes | None  # the key up to which it came
    begun_us: int  # when the last reconciliation began, by the wall clock
    basis: str  # what *kept* is of
    kept: Kept
    taken: OverlayState


def decoded(checkpoint: bytes | None) -> Position | None:
    """None when *checkpoint* is one of the reading by watermark alone."""
    if checkpoint is None:
        return None
    try:
        position = msgspec.msgpack.decode(checkpoint, type=Position)
    except UNREADABLE:
        return None
    return position if position.version == POSITION_VERSION else None


def live_part(checkpoint: bytes, source: str) -> bytes:
    """What goes on when a source is read by watermark alone from now on. Raises ConfigError when rows would be lost."""
    position = decoded(checkpoint)
    if position is None or position.live is None:
        return checkpoint
    if not position.loaded:
        raise ConfigError(
            f"source {source}: its first load by key has not come to its end",
            hint="set 'initial_load: key' until it has, or give the source a new name",
        )
    return position.live
