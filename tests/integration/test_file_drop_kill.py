"""Killed again and again while it reads, acknowledges and archives: every record once, nothing left behind."""

from __future__ import annotations

import gzip
import io
import os
import random
import subprocess
import sys
import zipfile
from pathlib import Path

from support.agents import eventually

HEADER = b"NO;TEXT\n"


def rows(start: int, stop: int) -> list[bytes]:
    rng = random.Random(start)
    return [b"%07d;%s\n" % (i, rng.randbytes(30).hex().encode()) for i in range(start, stop)]


def csv(start: int, stop: int) -> bytes:
    return HEADER + b"".join(rows(start, stop))


def put(drop: Path) -> list[bytes]:
    """Files of all kinds with their markers; the records in them."""
    at = 0
    for i in range(60):
        size = 12_000 if i % 7 == 3 else 20
        if i % 3 == 0:
            name, data = f"{i:03}.csv", csv(at, at + size)
        elif i % 3 == 1:
            name, data = f"{i:03}.csv.gz", gzip.compress(csv(at, at + size), 1)
        else:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr("a.csv", csv(at, at + size // 2))
                archive.writestr("b.csv", csv(at + size // 2, at + size))
            name, data = f"{i:03}.zip", packed.getvalue()
        (drop / name).write_bytes(data)
        (drop / f"{name}-ok").write_bytes(b"")
        at += size
    return [row for i in range(60) for row in _rows_of(drop, i)]


def _rows_of(drop: Path, i: int) -> list[bytes]:
    """What was written, read back by other means."""
    (path,) = (path for path in drop.glob(f"{i:03}.*") if not path.name.endswith("-ok"))
    if path.suffix == ".gz":
        parts = [gzip.decompress(path.read_bytes())]
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            parts = [archive.read(name) for name in ("a.csv", "b.csv")]
    else:
        parts = [path.read_bytes()]
    return [line for part in parts for line in part.splitlines(keepends=True)[1:]]


def seen(log: Path) -> dict[tuple[bytes, int], bytes]:
    """Records by unit and ordinal, as whoever drops what it has already would keep them."""
    found: dict[tuple[bytes, int], bytes] = {}
    for line in log.read_bytes().splitlines():
        if line.endswith(b" ."):
            unit, first, payload, _ = line.split(b" ")
            for i, row in enumerate(bytes.fromhex(payload.decode()).splitlines(keepends=True)):
                assert found.setdefault((unit, int(first) + i), row) == row
    return found


def test_files_are_taken_once_and_archived_with_their_markers_however_often_the_agent_is_killed(tmp_path: Path) -> None:
    drop, log = tmp_path / "drop", tmp_path / "log"
    drop.mkdir()
    expected = put(drop)
    rng = random.Random(4711)
    paths = [str(Path(__file__).parent.parent), *sys.path]
    command = [sys.executable, "-m", "support.file_process", str(tmp_path), str(drop), str(log)]

    def lines() -> int:
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def files() -> int:
        return sum(path.is_file() for path in drop.iterdir())

    for kills in range(6):
        before, more = lines(), rng.randint(1, 30)
        with subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, stderr=subprocess.DEVNULL
        ) as process:
            try:
                if kills < 5:
                    eventually(
                        lambda before=before, more=more: lines() >= before + more or not files(),
                        "more is acknowledged",
                        60.0,
                    )
                else:
                    eventually(lambda: not files(), "everything is archived", 60.0)
            finally:
                process.kill()
    assert sorted(seen(log).values()) == sorted(expected)
    assert len(list((drop / "archive").iterdir())) == 120
