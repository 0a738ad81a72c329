"""What a round does about holds, in its own transaction: it stops the deliveries of what is held, and lets go on what
waited for a master that came with it. A round without either costs one look at an empty table."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Mapping, Sequence

from crossdock_controller.outcomes import Mapped
from crossdock_controller.store import deliveries, holds


def settle(
    db: sqlite3.Connection,
    first: int,
    mapped: Sequence[tuple[int, Mapped]],
    left_out: Container[int],
    due: Mapping[int, Sequence[int]],
    now_us: int,
    *,
    holding: bool,
) -> None:
    """Events *first*... of *mapped*, but for those *left_out*, are in the log, their deliveries by *due* added."""
    waited = holds.waited_for(db)
    masters: dict[str, set[str]] = {document: set() for document in waited}
    if waited:
        for seq, (_, m) in enumerate(mapped, first):
            if m.document in waited and seq not in left_out:
                masters[m.document].add(m.key)
    stopped = _stop(db, first, mapped, left_out, due, now_us) if holding else []
    for document, keys in holds.known_meanwhile(db, stopped).items() if stopped else ():
        masters.setdefault(document, set()).update(keys)
    if masters:
        holds.arrived(db, {document: keys for document, keys in masters.items() if keys}, now_us)


def _stop(
    db: sqlite3.Connection,
    first: int,
    mapped: Sequence[tuple[int, Mapped]],
    left_out: Container[int],
    due: Mapping[int, Sequence[int]],
    now_us: int,
) -> list[int]:
    held = {seq: m for seq, (_, m) in enumerate(mapped, first) if m.holds and seq not in left_out}
    for sink, indexes in due.items():
        seqs = [first + i for i in indexes if first + i in held]
        deliveries.stop(db, sink, [(seq, deliveries.chain_of(held[seq].document, held[seq].key)) for seq in seqs])
    holds.add(db, [(seq, m.holds) for seq, m in held.items()], now_us)
    return list(held)
