"""What fuzzing found stays found: the whole corpus, and every input that once broke a reader, in seconds."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from fuzz import targets
from fuzz.mutations_engine import mutated

HERE = Path(__file__).parent


def inputs(folder: str, name: str) -> list[Path]:
    return sorted((HERE / folder / name).glob("*"))


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_every_input_of_the_corpus_is_read_or_refused_by_an_error_of_ours(name: str) -> None:
    found = inputs("corpus", name)
    assert found, f"tests/fuzz/corpus/{name} has no input: add a seed to fuzz/seeds.py"
    for path in found:
        targets.run(name, path.read_bytes())


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_what_once_broke_a_reader_does_not_any_more(name: str) -> None:
    for path in inputs("crashes", name):
        targets.run(name, path.read_bytes())


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_a_hundred_blind_changes_of_the_corpus_break_nothing(name: str) -> None:
    pool, rng = [path.read_bytes() for path in inputs("corpus", name)], random.Random(name)
    for _ in range(100):
        targets.run(name, mutated(rng.choice(pool), pool, rng))


def test_no_folder_of_inputs_is_left_of_a_target_that_is_gone() -> None:
    folders = {path.name for kind in ("corpus", "crashes") for path in (HERE / kind).glob("*")}
    assert folders <= set(targets.TARGETS)
