"""Names that become a part of a path or of a variable somewhere: letters, digits and a few signs, and no device."""

from __future__ import annotations

import re

PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9]|lpt[0-9])", re.IGNORECASE)


def is_device(file_name: str) -> bool:
    """Whether Windows takes *file_name* for a device, in any folder and with any suffix
    (learn.microsoft.com, "Naming Files, Paths, and Namespaces")."""
    return _DEVICES.fullmatch(file_name.partition(".")[0].rstrip()) is not None
