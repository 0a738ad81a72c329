"""What a failing disk or a power cut does to the file of an outbox, while its agent is down.

Of the controller's store only a restore can mend damage (`crossdock restore`), so its files are never damaged here.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path

PAGE = 8192


def damage(path: Path, how: str, seed: int) -> bool:
    """Damage the outbox at *path*; False when there is nothing to damage.

    `value`: a bit of a checkpoint, in a file that is otherwise sound; `flip`: some bits; `page`: a page of zeros;
    `torn`: the file ends early; `wal-flip`, `wal-torn`: the same of the write-ahead log beside it.
    """
    rng = random.Random(seed)
    if how == "value":
        return _flip_checkpoint(path, rng)
    if how in {"flip", "page", "torn"} and rng.random() < 0.8:
        _fold_log(path)
    target = path.with_name(f"{path.name}-wal") if how.startswith("wal-") else path
    if not target.exists() or not target.stat().st_size:
        return False
    data = bytearray(target.read_bytes())
    how = how.removeprefix("wal-")
    if how == "flip":
        for _ in range(rng.choice((1, 1, 3, 20))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif how == "page":
        page = rng.randrange(max(1, len(data) // PAGE)) * PAGE
        data[page : page + PAGE] = bytes(len(data[page : page + PAGE]))
    else:
        del data[rng.randrange(len(data)) :]
    target.write_bytes(data)
    return True


def _fold_log(path: Path) -> None:
    """Bring what the log holds into the file, as a checkpoint does: else the log would mend it."""
    with contextlib.suppress(sqlite3.DatabaseError), closing(sqlite3.connect(path, timeout=30)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _flip_checkpoint(path: Path, rng: random.Random) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=30)) as db:
            found = db.execute("SELECT id, checkpoint FROM sources WHERE checkpoint IS NOT NULL ORDER BY id").fetchall()
            if not found:
                return False
            source, checkpoint = rng.choice(found)
            data = bytearray(checkpoint)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            db.execute("UPDATE sources SET checkpoint = ? WHERE id = ?", (bytes(data), source))
            db.commit()
            return True
    except sqlite3.DatabaseError:  # there is no sound file to begin with
        return False
