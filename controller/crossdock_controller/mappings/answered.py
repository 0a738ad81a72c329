"""Codes by the lists of a revision first, and where those say nothing, by what people filled in."""

from __future__ import annotations

from typing import Protocol

from crossdock_controller.mappings.codes import Codes


class People(Protocol):
    """Meanings that people gave, beside the configuration; they outlive revisions."""

    @property
    def generation(self) -> int:
        """Another number whenever an answer may be another one than before."""

    def given(self, site: str, name: str, value: str, /) -> str | None:
        """The meaning at *site*, else the one for every site."""


class Answered:
    """The Codes of one engine. A list of the configuration goes before what people said: it was reviewed."""

    def __init__(self, lists: Codes, people: People, site: str) -> None:
        self._lists, self._people, self._site = lists, people, site

    @property
    def generation(self) -> int:
        return self._lists.generation + self._people.generation

    def meaning(self, name: str, value: str, /) -> str | None:
        found = self._lists.meaning(name, value)
        return found if found is not None or not name else self._people.given(self._site, name, value)
