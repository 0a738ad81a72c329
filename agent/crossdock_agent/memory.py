"""Give freed memory back: a quiet agent on a busy machine should be as small as what it holds.

glibc keeps freed memory per thread arena; starting up and each large transfer leave 4 to 10 MB behind that way. Other
C libraries and Windows return it by themselves, and nothing happens here.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None


def limit_arenas() -> None:
    """Before threads start: twenty threads need no arena each."""
    library = _glibc()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, ARENAS)


def trim() -> None:
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)
