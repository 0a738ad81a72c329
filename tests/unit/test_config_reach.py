"""Whatever a change does to what a file means, the file is among those the change reaches: no rule is got round."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossdock_controller.config import reach
from crossdock_controller.config.errors import errors_of
from crossdock_controller.config.load import Loaded, inspect, load
from crossdock_controller.config.parts import read_parts
from support.rich_tree import RICH

ENVIRONMENTS = ("prod", "test")

# What a careful person, or one who is not, may change: (file, text, other text).
EDITS = [
    ("shared/site.yaml", "Europe/Amsterdam", "Europe/Paris"),
    ("shared/site.yaml", "${share}/rtm", "${share}/elsewhere"),
    ("shared/pace.yaml", "poll_seconds: 30", "poll_seconds: 5"),
    ("shared/pace.yaml", "lane: bulk", "lane: critical"),
    ("shared/files.yaml", "S*.csv", "*.csv"),
    ("shared/files.yaml", "include: shared/pace.yaml\n", ""),
    ("shared/csv.yaml", "cp1252", "utf-8"),
    ("shared/mapping.yaml", "NO}", "NUMBER}"),
    ("shared/sink.yaml", "retry_hours: 24", "retry_hours: 1"),
    ("groups/america.yaml", "${share}/am", "/mnt/am"),
    ("groups/america.yaml", "2 GiB", "3 GiB"),
    ("groups/america.yaml", "[us, ca]", "[us, ca, eu]"),
    ("groups/prod-ca.yaml", "300 MB", "200 MB"),
    ("environments/prod.yaml", "//prod", "//other"),
    ("environments/test.yaml", "test.db", "finance.db"),
    ("sites/atl1.yaml", "/atl1", "/atl2"),
    ("sources/stock.yaml", "region: ca", "region: us"),
    ("sinks/finance.yaml", "sink: finance", "retry_attempts: 3\nsink: finance"),
]


def meanings(tree: dict[str, str]) -> dict[str, Any]:
    """What each file of a tree comes to, with all that is laid under it, in each environment."""
    parts = read_parts(tree)
    return {part.file.name: (part.name, part.model, dict(part.variants)) for part in parts.all()}


def test_the_rich_tree_is_sound_in_both_environments() -> None:
    for environment in ENVIRONMENTS:
        assert [p.text() for p in inspect(RICH, environment)[1] if p.severity == "error"] == []


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: f"{e[0]}: {e[1]}")
def test_each_edit_is_one(edit: tuple[str, str, str]) -> None:
    assert edit[1] in RICH[edit[0]]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(EDITS), min_size=1, max_size=4, unique=True), st.sampled_from(ENVIRONMENTS))
def test_every_file_that_comes_to_something_else_is_among_those_that_are_reached(
    edits: list[tuple[str, str, str]], environment: str
) -> None:
    new = dict(RICH)
    for file, text, other in edits:
        new[file] = new[file].replace(text, other)
    after, problems = inspect(new, environment)
    assert after is not None, [p.text() for p in errors_of(problems)]
    before, now = meanings(RICH), meanings(new)
    differ = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    assert differ <= set(reach.touched(load(RICH, environment), after))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(EDITS), st.sampled_from(ENVIRONMENTS))
def test_what_a_change_does_not_reach_stays_as_it_is(edit: tuple[str, str, str], environment: str) -> None:
    """Not every change reaches everything: else each of them would wait for a second person."""
    file, text, other = edit
    new = RICH | {file: RICH[file].replace(text, other)}
    touched = reach.touched(load(RICH, environment), load(new, environment))
    assert file in touched
    assert "routes/all.yaml" not in touched
    assert "policy.yaml" not in touched


def mutated(rng: random.Random) -> dict[str, str]:
    """The rich tree after something happened to it."""
    tree = dict(RICH)
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(sorted(tree))
        text = tree[name]
        at = rng.randrange(len(text) + 1)
        what = rng.randrange(7)
        if what == 0:
            tree[name] = text[:at] + rng.choice("{}[]:,-#&*!|>'\"%@`\n\t \x00\ufeff\u2028$") + text[at:]
        elif what == 1:
            tree[name] = text[:at] + text[at + rng.randint(1, 12) :]
        elif what == 2:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines)
            tree[name] = "".join(lines)
        elif what == 3:
            tree[name] = text + rng.choice(sorted(RICH.values()))
        elif what == 4:
            del tree[name]
        elif what == 5:
            tree[rng.choice(["shared/", "groups/", "environments/", "sites/", "x/"]) + f"n{at}.yaml"] = text
        else:
            words = text.split(" ")
            words[rng.randrange(len(words))] = rng.choice(
                ["null", "7", "[]", "{}", "true", "shared/files.yaml", "${x}"]
            )
            tree[name] = " ".join(words)
    return tree


def survives(seed: int) -> Loaded | None:
    rng = random.Random(seed)
    tree = mutated(rng)
    for environment in (*ENVIRONMENTS, ""):
        loaded, problems = inspect(tree, environment)
        assert loaded is not None or errors_of(problems), f"seed {seed}"
        for problem in problems:
            assert problem.file in tree or problem.file in {"sites", "sources", "environments"}, f"seed {seed}"
    return loaded


def test_a_tree_to_which_something_happened_is_accepted_or_refused_with_its_reasons_and_never_a_crash() -> None:
    for seed in range(60):
        survives(seed)
