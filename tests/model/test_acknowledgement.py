"""Every interleaving of the acknowledgement protocol keeps rules 1 to 4, and without any one safeguard some does not.

CROSSDOCK_MODEL=large explores more at once (minutes) and prints the number of states. The sizes here keep the suite
short; they have been enough for every counterexample so far.
"""

import importlib
import os

import pytest

from model.explore import Result, explore
from model.states import IMPLEMENTED_BY, Rules

LARGE = os.environ.get("CROSSDOCK_MODEL") == "large"
QUIET = Rules(crashes=1, cuts=0, noise=0, streams=1)
HALF_OPEN = Rules(crashes=1, cuts=1, noise=0)
WORLD = {
    "cut", "damage", "double", "agent crashes", "controller crashes", "copy the outbox", "restore the outbox",
    "copy the intake", "restore the intake",
}  # fmt: skip


def changed(rules: Rules, **changes: object) -> Rules:
    return Rules(**{**vars(rules), **changes})  # type: ignore[arg-type]


def sound(rules: Rules, capsys: pytest.CaptureFixture[str]) -> Result:
    result = explore(rules)
    with capsys.disabled():
        if LARGE:
            print(f"\n{rules}\n  {result}")
    assert not result.broken, f"{result}\n{result.last}"
    assert result.ends > 0
    return result


SOUND = {
    "a damaged or doubled message, a failed commit": changed(QUIET, crashes=2, noise=1),
    "an old stream not yet dead, two crashes": changed(HALF_OPEN, crashes=2),
    "three records, two crashes, an old stream not yet dead": Rules(records=3, crashes=2, cuts=1, noise=0),
    "two senders at once": changed(QUIET, both_send=True, streams=2),
    "the outbox damaged": changed(QUIET, disasters=1, kinds=("outbox lost",), widths=(1, 2)),
    "the agent's machine restored": changed(QUIET, disasters=1, kinds=("outbox older",), widths=(1, 2)),
    "... while its old messages still arrive": changed(
        QUIET, disasters=1, kinds=("outbox older",), widths=(1, 2), old_messages_arrive=True
    ),
    "... after the intake purged what it had": changed(
        QUIET, disasters=1, kinds=("outbox older",), widths=(1, 2), purged=True
    ),
    "the controller restored within the kept range": changed(QUIET, disasters=1, kinds=("intake older",), keep=2),
}
LARGER = {
    "all at once": Rules(crashes=2, cuts=1, noise=1),
    "three records, noise": Rules(records=3, crashes=2, cuts=0, noise=1, streams=1),
    "two senders, cut": Rules(crashes=1, cuts=1, noise=0, both_send=True),
    "outbox damaged, half-open": changed(HALF_OPEN, disasters=1, kinds=("outbox lost",), widths=(1, 2)),
    "agent restored, half-open": changed(
        HALF_OPEN, disasters=1, kinds=("outbox older",), widths=(1, 2), old_messages_arrive=True
    ),
    "controller restored, half-open": changed(HALF_OPEN, disasters=1, kinds=("intake older",), keep=2),
    "controller restored, three records": changed(QUIET, records=3, disasters=1, kinds=("intake older",), keep=3),
}


@pytest.mark.timeout(900 if LARGE else 120)
@pytest.mark.parametrize("name", [*SOUND, *(LARGER if LARGE else ())])
def test_every_interleaving_keeps_the_rules_and_can_reach_all_delivered(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = sound((SOUND | LARGER)[name], capsys)
    assert result.actions - WORLD <= set(IMPLEMENTED_BY)


OLDER = changed(QUIET, disasters=1, kinds=("outbox older",), widths=(1, 2))
RESTORED = changed(QUIET, disasters=1, kinds=("intake older",), keep=2)
WITHOUT = {
    "acknowledging after the sync": (changed(QUIET, ack_after_fsync=False), "rule 1"),
    "checkpoint in the batch's transaction": (changed(QUIET, atomic_checkpoint=False), "is lost"),
    "refusing gaps": (changed(QUIET, refuses_gaps=False, noise=1), "rule 1"),
    "knowing each sequence": (changed(QUIET, knows_sequences=False, noise=1), "the intake's sequences are [1, 1]"),
    "deleting only what is acknowledged": (changed(QUIET, deletes_after_ack=False), "is lost"),
    "releasing only what is acknowledged": (changed(QUIET, releases_after_ack=False), "rule 3"),
    "ids from the record's position": (
        changed(QUIET, ids_from_position=False, disasters=1, kinds=("outbox lost",)),
        "rule 4",
    ),
    "comparing at the welcome": (changed(OLDER, compares_at_welcome=False, purged=True), "is lost"),
    "remembering where the outbox stood": (changed(OLDER, remembers_opening=False, purged=True), "is lost"),
    "stopping behind a conflict": (
        changed(OLDER, conflict_stops=False, remembers_opening=False),
        "the intake's records are [1, 2, 2]",
    ),
    "ending the epoch at a conflict": (
        changed(OLDER, conflict_ends_epoch=False, remembers_opening=False),
        "no way leads from here to all delivered",
    ),
    "going back to what is expected": (changed(RESTORED, goes_back=False), "no way leads from here to all delivered"),
    "ending streams when going back": (
        changed(RESTORED, ends_streams_when_going_back=False, ends_streams_at_another_store=False),
        "no way leads from here to all delivered",
    ),
    "ending streams at another store": (
        changed(RESTORED, ends_streams_at_another_store=False),
        "no way leads from here to all delivered",
    ),
}


@pytest.mark.parametrize("safeguard", WITHOUT)
def test_without_a_safeguard_some_interleaving_breaks_a_rule(safeguard: str) -> None:
    rules, rule = WITHOUT[safeguard]
    result = explore(rules)
    assert rule in result.broken, result
    assert result.path


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (changed(RESTORED, keep=1), "the backup is older than what the agent keeps"),
        (changed(RESTORED, kinds=("outbox lost", "intake older"), disasters=2), "both sides lost their disk"),
        (changed(RESTORED, kinds=("outbox older", "intake older"), disasters=2), "both sides were restored"),
    ],
)
def test_what_the_promise_leaves_out_can_indeed_be_lost(rules: Rules, why: str) -> None:
    """docs/reference/promise.md names these; were one of them safe, the page would say too little."""
    result = explore(rules)
    assert "lost" in result.broken or "nowhere" in result.broken, (why, result)


@pytest.mark.parametrize("name", sorted(set(IMPLEMENTED_BY.values())))
def test_each_transition_stands_for_a_function_of_the_product(name: str) -> None:
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            found = getattr(found, part)
        assert callable(found)
        return
    raise AssertionError(f"{name} is not there")
