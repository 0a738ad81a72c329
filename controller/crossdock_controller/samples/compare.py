"""What was expected beside what was found, field by field: each difference with its path, so that it has a line."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from crossdock.yamlfile import Path, dotted

SHOWN = 80  # characters of a value


class Difference(NamedTuple):
    """*path* is where in the test's file it was expected otherwise; *at* is the field, for people."""

    path: Path
    at: str
    expected: str
    found: str

    def text(self) -> str:
        return f"{self.at}: expected {self.expected}, found {self.found}"


def differences(expected: Any, found: Any, path: Path, at: Path = (), *, exact: bool) -> Iterator[Difference]:
    """Keys that *expected* does not name may be in *found*, unless *exact*. A list is compared whole, in order."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for name, value in expected.items():
            yield from differences(value, found.get(name), (*path, name), (*at, name), exact=exact)
        for name in found if exact else ():
            if name not in expected and found[name] not in (None, "", [], {}):
                yield Difference(path, dotted((*at, name)), "nothing", shown(found[name]))
    elif isinstance(expected, list) and isinstance(found, list):
        for i, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, (*path, i), (*at, i), exact=exact)
        if len(expected) != len(found):
            yield Difference(path, dotted(at), f"{len(expected)} entries", f"{len(found)}")
    elif not same(expected, found):
        yield Difference(path, dotted(at), shown(expected), "nothing" if found is None else shown(found))


def same(expected: Any, found: Any) -> bool:
    """Text is compared as text; a number that was written without quotes, by its value: documents hold decimals as
    texts."""
    if isinstance(expected, bool) or isinstance(found, bool) or expected is None or found is None:
        return type(expected) is type(found) and expected == found
    if isinstance(expected, int | float):
        try:
            return Decimal(str(expected)) == Decimal(str(found))
        except InvalidOperation:
            return False
    return bool(expected == found)


def shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
