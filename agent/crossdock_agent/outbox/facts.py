"""What a support bundle tells of an outbox: how much is in it, and nothing of what it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from crossdock_agent.outbox.schema import BUSY_SECONDS, classify

_PRAGMAS = {
    "schema": "user_version",
    "pages": "page_count",
    "page_bytes": "page_size",
    "free_pages": "freelist_count",
}
_COLUMNS = ("name", "lane", "last_sequence", "acked_sequence", "batches", "records", "bytes")  # no checkpoint


def facts(path: Path) -> dict[str, Any]:
    """Schema, pages, and each source's sequences and what of it is not acknowledged. Changes nothing.

    Raises BufferCorrupt, or Retryable.
    """
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)
        try:
            found: dict[str, Any] = {
                name: connection.execute(f"PRAGMA {pragma}").fetchone()[0] for name, pragma in _PRAGMAS.items()
            }
            rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM sources ORDER BY name")
            found["sources"] = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise classify(error, path) from error
    return found
