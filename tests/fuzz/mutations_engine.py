"""One target under blind mutations, where atheris is not to be had: as `atheris_engine`. An input is kept when the
target answers it in a way it had not answered before (returned, or which error of ours with which words)."""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import time
import traceback
from pathlib import Path

from fuzz import targets

MAX_BYTES = 8192
SLOW_SECONDS = 20.0
_EDGES = (b"\0", b"\xff", b"\x80", b"\x7f", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff" * 8,
          b"[" * 500, b'{"a":' * 200,
          b"<a>" * 200, b"9" * 400, b"\xef\xbb\xbf", b"\xff\xfe", b"\n", b"'", b'"')  # fmt: skip


def mutated(data: bytes, pool: list[bytes], rng: random.Random) -> bytes:
    """*data* with one to eight changes of the usual kinds."""
    out = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1) if out else 0
        kind = rng.randrange(7)
        if kind == 0 and out:
            out[at % len(out)] ^= 1 << rng.randrange(8)
        elif kind == 1 and out:
            out[at % len(out)] = rng.randrange(256)
        elif kind == 2:
            out[at:at] = rng.choice(_EDGES)
        elif kind == 3:
            del out[at : at + rng.choice((1, 2, 8, 64))]
        elif kind == 4:
            end = at + rng.choice((1, 4, 16, 128))
            out[at:at] = out[at:end] * rng.choice((1, 2, 50))
        elif kind == 5:
            other = rng.choice(pool)
            begin = rng.randrange(len(other) + 1)
            out[at:] = other[begin:]
        else:
            out[at:at] = rng.randbytes(rng.choice((1, 2, 4, 16)))
    return bytes(out[:MAX_BYTES])


def answer_of(name: str, data: bytes) -> str:
    """How the target answers, without the values that were in the input. Raises what must not come out."""
    try:
        targets.TARGETS[name](data)
    except targets.OWN as error:
        return f"{type(error).__name__}: {re.sub(r'[^A-Za-z ]+', '', str(error))[:60]}"
    return "returned"


def main() -> int:
    name, seconds, corpus, crashes, report = sys.argv[1:]
    rng = random.Random(f"{name} {time.time_ns()}")
    pool = [path.read_bytes() for path in sorted(Path(corpus).iterdir())] or [b""]
    known: set[str] = set()
    runs, until = 0, time.monotonic() + float(seconds)
    while time.monotonic() < until:
        data = pool[runs] if runs < len(pool) else mutated(rng.choice(pool), pool, rng)
        begun = time.monotonic()
        try:
            answer = answer_of(name, data)
            if time.monotonic() - begun > SLOW_SECONDS:
                raise TimeoutError(f"one input took {time.monotonic() - begun:.0f} s")
        except Exception:  # noqa: BLE001 - that is what is looked for
            traceback.print_exc()
            (Path(crashes) / f"crash-{_digest(data)}").write_bytes(data)
            return 1
        runs += 1
        if answer not in known and runs > len(pool):
            pool.append(data)
            (Path(corpus) / _digest(data)).write_bytes(data)
        known.add(answer)
    Path(report).write_text(json.dumps({"runs": runs}), "utf-8")
    return 0


def _digest(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
