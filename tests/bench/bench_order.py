"""Versions of keys through a sink that fails 10% at random, while the dispatcher is killed: order and completeness.

python tests/bench/bench_order.py --documents 100000 --keys 1000 --kills 5
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.ordering import deliver, fill, judged
from support.pipeline import Box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--kills", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        box = Box(root / "data")
        fill(box, asked.documents, asked.keys)
        took = deliver(box, root / "out.txt", asked.documents, asked.kills, seconds=3600.0)
        found = judged(box, root / "out.txt", asked.documents, asked.keys, asked.kills, took)
        box.close()
    print(json.dumps(asdict(found), indent=2))


if __name__ == "__main__":
    main()
