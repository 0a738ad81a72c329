"""A short storm by one seed, in which an outbox is damaged, certificates expire and clocks step; the long ones are
`make chaos`. What is asserted is the harness's own verdict."""

import os
from pathlib import Path

import pytest

from chaos.run import run

SEED = int(os.environ.get("CROSSDOCK_CHAOS_SEED", "8"))  # a failing seed replays
SECONDS = 14.0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(os.name == "nt", reason="SIGSTOP and LD_PRELOAD are of Linux")
def test_a_storm_of_faults_loses_doubles_and_disorders_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    outcome = run(tmp_path / "run", SEED, SECONDS, said.append)
    assert not outcome.verdict.findings, f"seed {SEED}:\n" + "\n".join(said)
    assert outcome.verdict.arrived > 500, "the storm met no business"
    assert sum(outcome.injected.values()) >= SECONDS / 2, outcome.injected
