"""What a few kilobytes of a file suggest about its settings, each with the reason. Pure: bytes in, guesses out.

A guess is a start for a person who looks, never a setting: nothing here is used while records are read.
"""

from __future__ import annotations

from msgspec import Struct


class Guess(Struct, frozen=True):
    """*sure* when the bytes leave no other reading; otherwise the reason says what else it could be."""

    setting: str  # as it is called in a source file, or a word about the file
    value: object
    reason: str
    sure: bool = False


__all__ = ["Guess"]
