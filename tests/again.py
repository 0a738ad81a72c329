"""`python tests/again.py CODE`: after a run of all tests, those few that failed are run once more, alone.

Tests here start real processes, kill them and look at the clock; a machine that others use makes one of thousands late
now and then. A test that fails alone too is broken, and so is a run in which many failed. What passed at the second
look is named at the end, and its first failure stands above: it is a fault to mend, of the test or of what it tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FAILED = ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed"
MOST = 3  # of thousands: more than that is no chance


def main(code: int) -> int:
    """The exit code of the whole; *code* is that of the first run."""
    if code != 1:  # not tests that failed, but a run that broke off
        return code
    try:
        names = sorted(json.loads(FAILED.read_text("utf-8")))
    except (OSError, ValueError) as error:
        print(f"which tests failed is not known ({error})")
        return code
    if not names or len(names) > MOST or not all("::" in name for name in names):
        return code
    print(f"\nA second look at {len(names)}, alone:\n")
    options = ["-q", "-n", "0", "-p", "no:cacheprovider"]
    again = subprocess.run([sys.executable, "-m", "pytest", *options, *names], cwd=ROOT, check=False)
    if again.returncode != 0:
        return again.returncode
    print("\nUNSTEADY: passed alone and failed among all others, to be mended:", *names, sep="\n  ")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
