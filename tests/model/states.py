"""What the abstract machine of the acknowledgement protocol is made of: one source, its outbox, the link, the intake.

A state is plain tuples, a transition is a pure function, and each transition names in `IMPLEMENTED_BY` the function of
the product that it stands for. A record is a number: record *n* is the source's n-th. One batch holds one or two.
Whatever is not in `Outbox`, `intake` or the world's own fields is memory, and a crash of its side takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Content = tuple[int, ...]  # the records of a batch
Row = tuple[int, int, Content]  # of the intake: epoch, sequence, records
Up = tuple[int, Content, bool]  # a batch under way: sequence, records, damaged
Down = tuple[str, int]  # ("ack", sequence), ("gap", expected), ("checksum", sequence), ("conflict", sequence)
Waiting = tuple[
    int, int, int, Content, bool, int
]  # received, not committed: slot, epoch, as above, see `Stream.conflict`

IMPLEMENTED_BY = {
    "read": "crossdock_agent.outbox.store.Store.append",
    "checkpoint alone": "crossdock_agent.outbox.store.Store.append",
    "append alone": "crossdock_agent.outbox.store.Store.append",
    "send": "crossdock_agent.transfer.Transfer._send",
    "arrive": "crossdock_controller.gateway._UplinkStream._accept",
    "commit": "crossdock_controller.store.intake.IntakeWriter.commit",
    "answer": "crossdock_controller.gateway._UplinkStream._next_ack",
    "commit fails": "crossdock_controller.committer.Committer.run",
    "hear ack": "crossdock_agent.outbox.store.Store.acknowledge",
    "hear refusal": "crossdock_agent.transfer.Transfer._refuse",
    "release": "crossdock_agent.releases.Releases",
    "open": "crossdock_agent.streams.Stream._talk",
    "notice": "crossdock_agent.streams.Stream._talk",
    "forget": "crossdock_controller.gateway._UplinkStream.receive",
    "ask": "crossdock_controller.gateway.LinkService._welcome",
    "welcomed": "crossdock_agent.control.Control.welcome",
    "told again": "crossdock_agent.giveback.GiveBack.welcomed",
    "quarantine": "crossdock_agent.outbox.schema.quarantine",
}


class Outbox(NamedTuple):
    """The agent's file. *log* has the batches from sequence *first* on; those up to *acked* are kept for a time."""

    epoch: int
    first: int
    log: tuple[Content, ...]
    acked: int
    checkpoint: int
    fresh: bool
    due: Content  # tokens of acknowledged batches whose files are not yet deleted
    opened_at: tuple[int, int] | None  # (last, acked) when the first process began that was not yet welcomed

    @property
    def last(self) -> int:
        return self.first + len(self.log) - 1


class Stream(NamedTuple):
    """*mine*: the agent still uses its end; *theirs*: the controller still reads its end."""

    mine: bool
    theirs: bool
    epoch: int
    cursor: int
    up: tuple[Up, ...]
    down: tuple[Down, ...]
    conflict: int = 0  # the first sequence of it that came with other records than the intake has


class State(NamedTuple):
    outbox: Outbox
    welcome: tuple[int, int, int] | None  # under way: (epoch, sequence, checkpoint) that the controller knows
    ready: bool  # this process was welcomed
    told: str  # "told" how far the controller is; not since it, or we, "restarted"; or since it was "restored"
    half: Content  # only without atomicity: read, checkpoint written, batch not yet
    streams: tuple[Stream | None, ...]
    waiting: tuple[Waiting, ...]
    intake: tuple[Row, ...]
    gone: frozenset[int]  # deleted at the source
    acknowledged: frozenset[int]  # records the agent was ever told are safe
    next_epoch: int
    outbox_copy: Outbox | None
    intake_copy: tuple[Row, ...] | None
    crashes: int  # what may still happen
    cuts: int
    noise: int
    disasters: int


@dataclass(frozen=True)
class Rules:
    """The sizes to explore, the disasters that may happen, and the safeguards: each True in the product."""

    records: int = 2
    widths: tuple[int, ...] = (1,)  # records in a batch
    crashes: int = 2
    cuts: int = 1
    noise: int = 1  # damaged or doubled messages, failed commits
    disasters: int = 0
    kinds: tuple[str, ...] = ()  # "outbox lost", "outbox older", "intake older"
    streams: int = 2  # at once: a new one may open while an old one's messages still arrive
    both_send: bool = False  # ... and while the old one's sender lives on
    window: int = 2
    keep: int = 0  # acknowledged batches that the agent keeps
    purged: bool = False  # the intake no longer has the bytes of what it knows
    old_messages_arrive: bool = False  # ... after the machine that sent them was restored

    ack_after_fsync: bool = True
    atomic_checkpoint: bool = True
    refuses_gaps: bool = True
    knows_sequences: bool = True
    deletes_after_ack: bool = True
    compares_at_welcome: bool = True
    goes_back: bool = True
    ends_streams_when_going_back: bool = True
    ends_streams_at_another_store: bool = True
    ids_from_position: bool = True
    releases_after_ack: bool = True
    remembers_opening: bool = True  # where the outbox stood, until a welcome has compared it
    conflict_stops: bool = True  # later batches of a stream are refused behind one in conflict
    conflict_ends_epoch: bool = True  # the agent sets an outbox aside that contradicts the intake


class Step(NamedTuple):
    action: str
    fault: bool  # the world did it: nothing may be waited for that needs one
    state: State


def initial(rules: Rules) -> State:
    empty = Outbox(0, 1, (), 0, 0, True, (), (0, 0))
    none: tuple[Stream | None, ...] = (None,) * rules.streams
    return State(
        empty, None, False, "told", (), none, (), (), frozenset(), frozenset(), 1, None, None,
        rules.crashes, rules.cuts, rules.noise, rules.disasters,
    )  # fmt: skip


def with_stream(state: State, slot: int, stream: Stream) -> State:
    """*state* with *stream* in *slot*."""
    return joined(state, (*state.streams[:slot], stream, *state.streams[slot + 1 :]))


def joined(state: State, streams: tuple[Stream | None, ...]) -> State:
    """*state* with *streams*, without what can have no effect any more.

    Of a stream that the agent has left, only what is on the way up counts; of one that the controller has left, only
    what is on the way down. The order of the slots means nothing: they are kept sorted.
    """
    streams = tuple(None if s is None else _shortened(s) for s in streams)
    order = sorted(range(len(streams)), key=lambda slot: _key(streams[slot]))
    at = {slot: place for place, slot in enumerate(order) if streams[slot] is not None}
    waiting = tuple(_of(at.get(w[0], -1), w, state.streams) for w in state.waiting)
    return state._replace(streams=tuple(streams[slot] for slot in order), waiting=waiting)


def _of(slot: int, waiting: Waiting, before: tuple[Stream | None, ...]) -> Waiting:
    """*waiting* for its stream's new slot; of a stream that is gone (-1) it keeps what that stream knew."""
    stream = before[waiting[0]] if slot < 0 <= waiting[0] else None
    return (slot, *waiting[1:5], waiting[5] if stream is None else stream.conflict)


def _shortened(stream: Stream) -> Stream | None:
    if not stream.mine:
        return stream._replace(down=(), cursor=0) if stream.theirs and stream.up else None
    if not stream.theirs:
        return stream._replace(up=(), cursor=0) if stream.down else None
    return stream


def _key(stream: Stream | None) -> tuple[object, ...]:
    return (0,) if stream is None else (1, *stream)


def last_of(intake: Sequence[Row], epoch: int) -> int:
    return max((s for e, s, _ in intake if e == epoch), default=0)
