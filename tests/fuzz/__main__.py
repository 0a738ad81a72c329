"""`python -m fuzz --seconds 600` (from tests/): every target in turn, in a process of its own, one at a time.

With atheris (coverage tells which inputs are new) where it is installed, else with mutations that know nothing. What is
new is kept in a working copy of the corpus; `--keep` brings the smallest of it back into the tree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CORPUS, CRASHES = HERE / "corpus", HERE / "crashes"
KEPT_FILES, KEPT_BYTES = 12, 2048  # of a target, in the tree


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz")
    parser.add_argument("--seconds", type=float, default=600.0, help="in all")
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument(
        "--engine", choices=["atheris", "mutations"], default="atheris" if _has_atheris() else "mutations"
    )
    parser.add_argument("--keep", action="store_true", help="bring small new inputs back into tests/fuzz/corpus")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    from fuzz.targets import TARGETS

    names = given.target or sorted(TARGETS)
    seconds = max(1.0, given.seconds / (len(names) * given.rounds))
    executions, broken = 0, []
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        for _ in range(given.rounds):
            for name in names:
                runs, failed = _run(name, seconds, given.engine, work / name)
                executions += runs
                broken += [name] if failed else []
                print(f"{name:<20} {runs:>9} runs  {'CRASH' if failed else 'ok'}", flush=True)
        if given.keep:
            for name in names:
                _keep(name, work / name)
    print(f"{executions} runs over {len(names)} targets with {given.engine}, {len(set(broken))} of them broken")
    for name in sorted(set(broken)):
        print(f"  {name}: see tests/fuzz/crashes/{name}")
    return 1 if broken else 0


def _has_atheris() -> bool:
    import importlib.util

    return importlib.util.find_spec("atheris") is not None


def _run(name: str, seconds: float, engine: str, work: Path) -> tuple[int, bool]:
    """(inputs tried, whether one broke it). Its crash is stored under `crashes`."""
    work.mkdir(parents=True, exist_ok=True)
    if not any(work.iterdir()):
        for seed in sorted((CORPUS / name).glob("*")):
            shutil.copy(seed, work / seed.name)
    (CRASHES / name).mkdir(parents=True, exist_ok=True)
    report = work.parent / f"{name}.json"
    command = [
        sys.executable,
        "-m",
        f"fuzz.{engine}_engine",
        name,
        str(seconds),
        str(work),
        str(CRASHES / name),
        str(report),
    ]
    begun = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": _path()}, timeout=seconds + 120, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        code, said = done.returncode, done.stdout.decode("utf-8", "replace")
    except subprocess.TimeoutExpired as error:
        code, said = 1, (error.stdout or b"").decode("utf-8", "replace")
    if code:
        print(said[-6000:], f"(after {time.monotonic() - begun:.0f} s, exit code {code})", sep="\n", flush=True)
    runs = json.loads(report.read_text("utf-8"))["runs"] if report.exists() else _runs_said(said)
    report.unlink(missing_ok=True)
    if not any((CRASHES / name).iterdir()):
        (CRASHES / name).rmdir()
    return runs, code != 0


def _runs_said(said: str) -> int:
    """libFuzzer's own count: "Done 12345 runs in 10 second(s)", or the last "#12345" of its progress."""
    import re

    done = re.findall(r"Done (\d+) runs|^#(\d+)", said, re.MULTILINE)
    return max((int(a or b) for a, b in done), default=0)


def _keep(name: str, work: Path) -> None:
    """The smallest new inputs, a few: the tree's corpus is a seed, not a history."""
    target = CORPUS / name
    target.mkdir(parents=True, exist_ok=True)
    have = {path.read_bytes() for path in target.iterdir()}
    new = sorted(
        (p for p in work.iterdir() if 0 < p.stat().st_size <= KEPT_BYTES), key=lambda p: (p.stat().st_size, p.name)
    )
    step = max(1, len(new) // KEPT_FILES)
    for path in new[::step]:
        data = path.read_bytes()
        if len(have) >= KEPT_FILES:
            break
        if data not in have:
            have.add(data)
            (target / path.name[:16]).write_bytes(data)


def _path() -> str:
    return os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH", "")])])


if __name__ == "__main__":
    sys.exit(main())
