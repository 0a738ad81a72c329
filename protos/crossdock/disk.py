"""A file that took its name stays there after a power cut only once its directory was synced, too."""

from __future__ import annotations

import os
from pathlib import Path


def sync_directory(path: Path) -> None:
    """Makes the names in *path* durable where a directory can be synced; Windows journals them without (and has no way
    to ask). Raises OSError."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
