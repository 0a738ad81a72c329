"""Which texts a database may take for equal although they differ: by capitals, accents or blanks at the end.

MariaDB, MySQL and SQL Server compare texts by a collation. Of two rows whose keys it takes for equal, none lies behind
the other, so a page that ended between them would lose the second: such rows must stay in one unit. No collation is
imitated here; two texts that any common one takes for equal have the same `collated` form, and some others have too,
which costs a larger unit and nothing else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable

_LETTERS = str.maketrans({  # what decomposition leaves as a letter of its own, and y, which is a kind of u in Sweden
    "\u00e6": "a", "\u0153": "o", "\u00f8": "o", "\u0111": "d", "\u00f0": "d", "\u0142": "l", "\u0131": "i",
    "\u00fe": "th", "\u0127": "h", "\u00b7": "", "\u0491": "\u0433", "y": "u",
})  # fmt: skip
_PAIRS = (("ae", "a"), ("oe", "o"), ("ue", "u"), ("aa", "a"), ("ss", "s"))  # German, Danish: a letter or two
_IGNORED = ("Mn", "Me", "Cc", "Cf")  # marks, controls and formats weigh nothing
_ASTRAL = 0x10000  # utf8mb4_general_ci has one weight for everything from here on
_IOTA_BELOW = "\u037a"


def collated(key: object) -> Hashable:
    """*key*, a cell or a tuple of cells, with its texts reduced to what every collation looks at."""
    if isinstance(key, tuple):
        return tuple(_reduced(cell) if isinstance(cell, str) else cell for cell in key)
    return _reduced(key) if isinstance(key, str) else key


def _reduced(text: str) -> str:
    if text.isascii() and text.isprintable():
        reduced = text.lower().replace("y", "u")
    else:
        spelled = unicodedata.normalize("NFKD", text.replace(_IOTA_BELOW, "\u03b9")).casefold()
        letters = ("\ufffd" if ord(c) >= _ASTRAL else c for c in spelled if unicodedata.category(c) not in _IGNORED)
        reduced = "".join(letters).translate(_LETTERS)
    for pair, letter in _PAIRS:
        reduced = reduced.replace(pair, letter)
    return reduced.rstrip()
