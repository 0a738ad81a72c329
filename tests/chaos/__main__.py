"""`make chaos SECONDS=600 SEED=1 [SEEDS=20] [OUT=dir]`: runs and their table; exit code 1 if one is unbalanced."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from chaos.report import markdown
from chaos.run import Outcome, run
from chaos.schedule import KINDS, plan


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is stopped on the way out
    kinds = [kind for kind in KINDS if kind.name in options.only.split(",")] or list(KINDS)
    if options.plan:
        print("\n".join(str(fault) for fault in plan(options.seed, options.seconds, kinds, options.every)))
        return 0
    root = Path(options.directory) if options.directory else Path(tempfile.mkdtemp(prefix="chaos-"))
    outcomes: list[Outcome] = []
    seconds = options.seconds / options.seeds
    shown = options.shown or f"python -m chaos --seconds {options.seconds:g} --seed {options.seed}"
    for seed in range(options.seed, options.seed + options.seeds):
        _say(f"seed {seed}: {seconds:.0f} s of faults")
        outcomes.append(run(root / f"seed-{seed}", seed, seconds, _say, kinds, options.every))
        _conclude(outcomes[-1])
        if options.out:
            _write(Path(options.out), outcomes, shown)
    print(markdown(outcomes, shown), flush=True)
    failed = [o for o in outcomes if o.verdict.findings]
    if not failed and not options.directory:
        shutil.rmtree(root)
    return 1 if failed else 0


def _write(out: Path, outcomes: list[Outcome], shown: str) -> None:
    """After each seed: what is there is of use when the rest is not waited for."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "chaos.md").write_text(markdown(outcomes, shown), "utf-8")
    (out / "chaos.json").write_text(json.dumps([o.as_json() for o in outcomes], indent=1), "utf-8")


def _conclude(outcome: Outcome) -> None:
    faults = sum(outcome.injected.values())
    for text in outcome.ended:
        _say(f"seed {outcome.seed}: {text}")
    if outcome.verdict.findings:
        _say(f"seed {outcome.seed}: does NOT balance after {faults} faults; everything of it is in {outcome.directory}")
        return
    _say(
        f"seed {outcome.seed}: balanced, {outcome.verdict.records} records, {faults} faults, "
        f"drained in {outcome.drain_seconds:.0f} s"
    )
    shutil.rmtree(outcome.directory)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of faults, over all seeds")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="so many runs, one after another")
    parser.add_argument("--only", default="", help="kinds of faults, with commas; default: all")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two faults, on average")
    parser.add_argument("--out", help="write the table there as chaos.md")
    parser.add_argument("--directory", help="keep everything there; default: a temporary one, kept on failure")
    parser.add_argument("--plan", action="store_true", help="only print the schedule")
    parser.add_argument("--shown", help="the command that the table names")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
