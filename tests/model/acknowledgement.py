"""The acknowledgement protocol as an abstract machine: everything that can happen next, from any state.

What the machine may do is a superset of what the product does: a resumed sender does not wait, a second stream may be
opened while the first still sends, an answer may come at any time or never. What holds here holds there.
"""

from __future__ import annotations

from collections.abc import Iterator

from model.states import Content, Down, Outbox, Row, Rules, State, Step, Stream, joined, last_of, with_stream


def steps(state: State, rules: Rules) -> Iterator[Step]:
    """Everything that can happen next."""
    yield from _source(state, rules)
    yield from _session(state, rules)
    for slot, stream in enumerate(state.streams):
        if stream is None:
            yield from _open(state, rules, slot)
        else:
            yield from _stream(state, rules, slot, stream)
    yield from _commit(state, rules)
    yield from _faults(state, rules)
    yield from _disasters(state, rules)


# --- the agent: source and outbox


def _source(state: State, rules: Rules) -> Iterator[Step]:
    outbox = state.outbox
    if state.half:
        appended = outbox._replace(log=(*outbox.log, state.half))
        yield Step("append alone", False, state._replace(outbox=appended, half=()))
    elif not outbox.fresh and outbox.checkpoint < rules.records:
        for width in rules.widths:
            end = min(outbox.checkpoint + width, rules.records)
            content = tuple(n for n in range(outbox.checkpoint + 1, end + 1) if n not in state.gone)
            moved = outbox._replace(checkpoint=end)
            if rules.atomic_checkpoint:
                read = state._replace(outbox=moved._replace(log=(*outbox.log, content)))
                yield Step("read", False, read if rules.releases_after_ack else _release(read, content))
            else:
                yield Step("checkpoint alone", False, state._replace(outbox=moved, half=content))
    if outbox.due:
        yield Step("release", False, _release(state, outbox.due)._replace(outbox=outbox._replace(due=())))


def _release(state: State, records: Content) -> State:
    return state._replace(gone=state.gone | frozenset(records))


def _acknowledge(state: State, rules: Rules, sequence: int) -> State:
    outbox = state.outbox
    up_to = min(sequence, outbox.last)
    if up_to <= outbox.acked:
        return state
    new = tuple(
        n for at in range(max(outbox.acked + 1, outbox.first), up_to + 1) for n in outbox.log[at - outbox.first]
    )
    first = max(outbox.first, up_to - rules.keep + 1)
    kept = outbox.log[first - outbox.first :]
    due = tuple(sorted({*outbox.due, *new}))
    outbox = outbox._replace(first=first, log=kept, acked=up_to, due=due)
    return state._replace(outbox=outbox, acknowledged=state.acknowledged | frozenset(new))


def _begin_life(state: State, outbox: Outbox, rules: Rules) -> State:
    """A process of the agent ends, the next opens *outbox*: what was memory is gone, its streams are nobody's."""
    state = joined(state, tuple(None if s is None else s._replace(mine=False) for s in state.streams))
    if outbox.opened_at is None or not rules.remembers_opening:
        outbox = outbox._replace(opened_at=(outbox.last, outbox.acked))
    return state._replace(outbox=outbox, welcome=None, ready=False, told=_untold(state, rules), half=())


def _untold(state: State, rules: Rules) -> str:
    """After an end of either side, where that can matter."""
    if "intake older" not in rules.kinds:
        return "told"
    return "restored" if state.told == "restored" else "restarted"


def _new_epoch(state: State, rules: Rules) -> State:
    fresh = Outbox(state.next_epoch, 1, (), 0, 0, True, (), None)
    return _begin_life(state, fresh, rules)._replace(next_epoch=state.next_epoch + 1)


# --- the control stream


def known(intake: tuple[Row, ...]) -> tuple[int, int, int] | None:
    """(epoch, sequence, checkpoint) of the newest epoch: what a welcome carries."""
    if not intake:
        return None
    epoch = max(row[0] for row in intake)
    sequence = max(row[1] for row in intake if row[0] == epoch)
    return epoch, sequence, max((n for row in intake for n in row[2]), default=0)


def _session(state: State, rules: Rules) -> Iterator[Step]:
    if state.ready:
        if rules.goes_back and "intake older" in rules.kinds:
            yield from _told_again(state, rules)
        return
    if state.welcome is None:
        yield Step("ask", False, state._replace(welcome=known(state.intake) or (-1, 0, 0)))
        return
    epoch, sequence, checkpoint = state.welcome
    outbox = state.outbox
    last, acked = outbox.opened_at or (outbox.last, outbox.acked)
    went_back = epoch >= 0 and (sequence > last if epoch == outbox.epoch else acked > 0)
    if went_back and rules.compares_at_welcome:
        yield Step("welcomed", False, _new_epoch(state, rules))
        return
    if outbox.fresh:
        outbox = outbox._replace(checkpoint=checkpoint, fresh=False)
    outbox = outbox._replace(opened_at=None)
    yield Step("welcomed", False, state._replace(outbox=outbox, welcome=None, ready=True))


def _told_again(state: State, rules: Rules) -> Iterator[Step]:
    """Control connects anew once after an end of either side; its welcome may know of less than was acknowledged."""
    if state.told == "told":
        return
    told = state._replace(told="told")
    if state.told == "restored" and rules.ends_streams_at_another_store:
        told = joined(told, tuple(None if s is None else s._replace(mine=False) for s in told.streams))
    expected = last_of(state.intake, state.outbox.epoch) + 1
    behind = max(expected, state.outbox.first) <= state.outbox.acked
    yield Step("told again", False, _go_back(told, rules, expected, None) if behind else told)


def _go_back(state: State, rules: Rules, expected: int, refused: Stream | None) -> State:
    """What was acknowledged from *expected* on is to be sent again, as far as it is kept; that is in the file.

    Streams begin anew, but for the one that was *refused*: a late acknowledgement on another speaks of an intake that
    is no more.
    """
    back = max(expected, state.outbox.first) - 1
    streams = tuple(
        s
        if s is None
        else s._replace(cursor=back)
        if s is refused or not rules.ends_streams_when_going_back
        else s._replace(mine=False)
        for s in state.streams
    )
    return joined(state._replace(outbox=state.outbox._replace(acked=back)), streams)


# --- a stream


def _open(state: State, rules: Rules, slot: int) -> Iterator[Step]:
    free = rules.both_send or not any(s is not None and s.mine and s.theirs for s in state.streams)
    if state.ready and free and slot == state.streams.index(None):
        stream = Stream(True, True, state.outbox.epoch, state.outbox.acked, (), ())
        yield Step("open", False, with_stream(state, slot, stream))


def _stream(state: State, rules: Rules, slot: int, stream: Stream) -> Iterator[Step]:
    under_way = len(stream.up) + len(stream.down) + sum(w[0] == slot for w in state.waiting)
    if stream.mine and stream.theirs and state.ready and under_way < rules.window:
        yield from _send(state, rules, slot, stream)
    if stream.theirs and stream.up:
        sequence, content, damaged = stream.up[0]
        read = stream._replace(up=stream.up[1:])
        if not rules.ack_after_fsync and not damaged:
            read = read._replace(down=(*read.down, ("ack", sequence)))
        waiting = (*state.waiting, (slot, stream.epoch, sequence, content, damaged, 0))
        yield Step("arrive", False, with_stream(state._replace(waiting=waiting), slot, read))
    if stream.mine and stream.down:
        yield from _hear(state, rules, slot, stream)
    if stream.mine and not stream.theirs:
        yield Step("notice", False, with_stream(state, slot, stream._replace(mine=False)))
    if stream.theirs and not stream.mine:
        yield Step("forget", False, with_stream(state, slot, stream._replace(theirs=False)))
    if stream.mine and stream.theirs and state.cuts:
        cut = with_stream(state, slot, stream._replace(mine=False))
        yield Step("cut", True, cut._replace(cuts=state.cuts - 1))
    if stream.up and stream.theirs and state.noise:
        noisy = state._replace(noise=state.noise - 1)
        (sequence, content, damaged), rest = stream.up[0], stream.up[1:]
        if not damaged:
            yield Step("damage", True, with_stream(noisy, slot, stream._replace(up=((sequence, content, True), *rest))))
        yield Step("double", True, with_stream(noisy, slot, stream._replace(up=(*stream.up, stream.up[0]))))


def _send(state: State, rules: Rules, slot: int, stream: Stream) -> Iterator[Step]:
    outbox = state.outbox
    sequence = max(stream.cursor + 1, outbox.first)
    if stream.epoch != outbox.epoch or sequence > outbox.last:
        return
    content = outbox.log[sequence - outbox.first]
    sent = with_stream(state, slot, stream._replace(cursor=sequence, up=(*stream.up, (sequence, content, False))))
    if not rules.deletes_after_ack:
        rest = outbox.log[sequence + 1 - outbox.first :]
        sent = sent._replace(outbox=outbox._replace(first=sequence + 1, log=rest))
    yield Step("send", False, sent)


def _hear(state: State, rules: Rules, slot: int, stream: Stream) -> Iterator[Step]:
    (word, number), rest = stream.down[0], stream.down[1:]
    heard = stream._replace(down=rest)
    outbox = state.outbox
    if stream.epoch != outbox.epoch:
        yield Step("hear ack", False, with_stream(state, slot, heard))
    elif word == "ack":
        yield Step("hear ack", False, _acknowledge(with_stream(state, slot, heard), rules, number))
    elif word == "conflict" and rules.conflict_ends_epoch:
        yield Step("hear refusal", False, _new_epoch(state, rules))
    elif word == "gap" and rules.goes_back and number <= outbox.acked:
        yield Step("hear refusal", False, _go_back(with_stream(state, slot, heard), rules, number, heard))
    else:
        back = heard._replace(cursor=max(number, outbox.acked + 1) - 1)
        yield Step("hear refusal", False, with_stream(state, slot, back))


# --- the controller


def _commit(state: State, rules: Rules) -> Iterator[Step]:
    if not state.waiting:
        return
    intake = list(state.intake)
    conflicts = [0 if s is None else s.conflict for s in (*state.streams, None)]  # [-1]: of streams that are gone
    answers: list[list[Down]] = [[] for _ in (*state.streams, None)]
    acked: dict[int, int] = {}
    for slot, epoch, sequence, content, damaged, conflict in state.waiting:
        conflicts[slot] = conflicts[slot] or conflict
        word = "checksum" if damaged else _store(intake, rules, epoch, sequence, content, conflicts[slot])
        if word == "conflict":
            conflicts[slot] = min(conflicts[slot] or sequence, sequence)
        if word == "ack":
            acked[slot] = max(sequence, acked.get(slot, 0))
        else:
            answers[slot].append((word, last_of(intake, epoch) + 1 if word == "gap" else sequence))  # [-1]: to nobody
    streams = list(state.streams)
    for slot, stream in enumerate(streams):
        if stream is not None:
            done: list[Down] = [("ack", acked[slot])] if slot in acked and rules.ack_after_fsync else []
            streams[slot] = stream._replace(down=(*stream.down, *done, *answers[slot]), conflict=conflicts[slot])
    yield Step("commit", False, joined(state._replace(intake=tuple(intake), waiting=()), tuple(streams)))


def _store(intake: list[Row], rules: Rules, epoch: int, sequence: int, content: Content, conflict: int) -> str:
    last = last_of(intake, epoch)
    behind = rules.conflict_stops and 0 < conflict < sequence
    if sequence <= last and rules.knows_sequences:
        same = rules.purged or (epoch, sequence, content) in intake
        return "ack" if same and not behind else "conflict"
    if behind:
        return "conflict"
    if sequence > last + 1 and rules.refuses_gaps:
        return "gap"
    intake.append((epoch, sequence, content))
    return "ack"


def _controller_ends(state: State, intake: tuple[Row, ...], rules: Rules) -> State:
    """What it had received is gone; what it had answered may still arrive."""
    ended = tuple(None if s is None else s._replace(theirs=False) for s in state.streams)
    return joined(state._replace(intake=intake, told=_untold(state, rules), waiting=()), ended)


# --- what the world does


def _faults(state: State, rules: Rules) -> Iterator[Step]:
    if state.waiting and state.noise:
        failed = _controller_ends(state, state.intake, rules)
        yield Step("commit fails", True, failed._replace(noise=state.noise - 1))
    if state.crashes:
        less = state._replace(crashes=state.crashes - 1)
        yield Step("agent crashes", True, _begin_life(less, state.outbox, rules))
        yield Step("controller crashes", True, _controller_ends(less, state.intake, rules))


def _disasters(state: State, rules: Rules) -> Iterator[Step]:
    if not state.disasters:
        return
    after = state._replace(disasters=state.disasters - 1)
    if "outbox lost" in rules.kinds:
        yield Step("quarantine", True, _new_epoch(after, rules))
    if "outbox older" in rules.kinds:
        if state.outbox_copy is None:
            yield Step("copy the outbox", True, state._replace(outbox_copy=state.outbox))
        elif state.outbox_copy != state.outbox:
            world = after if rules.old_messages_arrive else _line_is_dead(after)
            yield Step(
                "restore the outbox", True, _begin_life(world, state.outbox_copy, rules)._replace(outbox_copy=None)
            )
    if "intake older" in rules.kinds:
        if state.intake_copy is None:
            yield Step("copy the intake", True, state._replace(intake_copy=state.intake))
        elif state.intake_copy != state.intake:
            older = _controller_ends(after, state.intake_copy, rules)
            yield Step("restore the intake", True, older._replace(told="restored", intake_copy=None))


def _line_is_dead(state: State) -> State:
    """A machine is restored long after it sent anything."""
    return state._replace(streams=(None,) * len(state.streams), waiting=())
