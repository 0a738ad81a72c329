"""First on the path of a controller's processes, it gives the mapping a weakness: a text that kills the process."""

import ctypes
from collections.abc import Sequence
from typing import Any

from crossdock_controller.mappings.engine import Engine

_assemble = Engine._assemble


def assemble(self: Engine, rows: Any, firsts: Sequence[int], lasts: Sequence[int], *, text_only: bool) -> Any:
    for i in range(len(rows.rows)):
        row = str(rows.fields(i))
        if "CRASH-ME" in row:
            ctypes.string_at(0)
        if "FEED-ME" in row:
            bytearray(1 << 45)
        if "RAISE" in row:
            raise ZeroDivisionError("a fault in the mapping")
    return _assemble(self, rows, firsts, lasts, text_only=text_only)


Engine._assemble = assemble  # type: ignore[method-assign,assignment]
