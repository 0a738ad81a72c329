"""Amounts as an operator writes them."""

from __future__ import annotations

_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "KB"))


def size(amount: float) -> str:
    """ "256 KB", "1.5 MB"."""
    for unit, name in _UNITS:
        if amount >= unit:
            return f"{round(amount / unit, 1):g} {name}"
    return f"{amount:.0f} B"


def rate(amount: float) -> str:
    """Of bytes a second."""
    return f"{size(amount)}/s"


def percent(share: float) -> str:
    return f"{round(share * 100, 1):g} %"
