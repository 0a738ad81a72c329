"""Codes of a source to ours: by the table in the field, or by a list that is asked each time a new code comes.

What becomes of a code without a meaning is said by `otherwise`: it is refused (a dead letter, until somebody gives it a
meaning), kept as it is, or replaced by a constant.
"""

from __future__ import annotations

from collections.abc import Callable

from crossdock_controller.mappings.codes import Coding, UnknownCode
from crossdock_controller.mappings.converters import as_text, shown
from crossdock_controller.mappings.model import CodesOf, FieldSpec

Decode = Callable[[object], str]

REJECT, KEEP = "reject", "keep"


def decoder(spec: FieldSpec, coding: Coding) -> Decode | None:
    """Of *spec*, None when it has no codes. It raises UnknownCode, and Rejected for what is no text."""
    if spec.codes is None:
        return None
    if isinstance(spec.codes, CodesOf):
        return _by_list(spec.codes, spec.otherwise or REJECT, coding)
    return _by_table(spec.codes, spec.otherwise or REJECT)


def constant_of(spec: FieldSpec) -> str | None:
    """The constant that stands for an unknown code."""
    return None if spec.otherwise in (None, REJECT, KEEP) else spec.otherwise


def _by_table(codes: dict[str, str], otherwise: str) -> Decode:
    def decode(value: object) -> str:
        code = as_text(value)
        meaning = codes.get(code)
        if meaning is None and otherwise == REJECT:
            known = ", ".join(list(codes)[:12])
            raise UnknownCode("", code, f"{shown(code)} is not among the codes {known}", hint="add it to 'codes'")
        return _meant(code, meaning, otherwise)

    return decode


def _by_list(of: CodesOf, otherwise: str, coding: Coding) -> Decode:
    key = of.key

    def decode(value: object) -> str:
        code = as_text(value)
        meaning = coding.meaning(key, code)
        if meaning is None and otherwise == REJECT:
            said = f"{shown(code)} has no meaning in the list {key}"
            raise UnknownCode(key, code, said, hint="say what it means, then retry")
        return _meant(code, meaning, otherwise)

    return decode


def _meant(code: str, meaning: str | None, otherwise: str) -> str:
    if meaning is not None:
        return meaning
    return code if otherwise == KEEP else otherwise
