"""What surrounds one source, of any kind: what an outbox would keep, a clock moved by hand, acknowledgements.

`SourceSite.drafts` makes passes and commits draft by draft; `after` breaks one off; `restart` is a new process on what
was committed; `acknowledge` is the controller's answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crossdock import codec
from crossdock.lifecycle import Stop
from crossdock_agent.sources.base import Counters, Draft, Source, SourceContext, build


@dataclass
class SourceSite:
    kind: str
    settings: dict[str, Any]
    name: str = "drop"
    seconds: float = 0.0
    ledger: dict[str, bytes] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)
    checkpoint: bytes | None = None
    tokens: list[bytes] = field(default_factory=list)  # committed, not yet released
    flushed: list[str] = field(default_factory=list)  # keys asked for

    def __post_init__(self) -> None:
        self.source = self._build()

    def recall(self, key: str) -> bytes | None:
        self.flushed.append(key)
        return self.ledger.get(key)

    def unreleased(self) -> list[bytes]:
        return list(self.tokens)

    def rows(self, after: str, limit: int) -> list[tuple[str, bytes]]:
        return sorted((key, value) for key, value in self.ledger.items() if key > after)[:limit]

    def _build(self) -> Source:
        self.stop = Stop()
        context = SourceContext(
            name=self.name, memory=self, counters=self.counters, stop=self.stop, secret=lambda text: text,
            monotonic=lambda: 1000.0 + self.seconds, wall_us=lambda: 1_717_243_200_000_000 + int(self.seconds * 1e6),
        )  # fmt: skip
        return build(self.kind, self.settings, context)

    def restart(self) -> None:
        """A new process: all that was only in memory is gone."""
        self.source.close()
        self.source = self._build()

    def commit(self, draft: Draft) -> None:
        codec.Sealer().seal(draft.header, draft.payload)
        self.checkpoint = draft.header.checkpoint
        for key, value in draft.remember:
            if value is None:
                self.ledger.pop(key, None)
            else:
                self.ledger[key] = value
        if draft.on_ack is not None:
            self.tokens.append(draft.on_ack)

    def reading(self) -> Iterator[Draft]:
        """One pass, each draft committed before the next is asked for."""
        reading = self.source.read(self.checkpoint)
        try:
            for draft in reading:
                self.commit(draft)
                yield draft
        finally:
            reading.close()  # type: ignore[attr-defined]

    def drafts(self, *, after: int | None = None, passes: int = 1, advance: float = 0.0) -> list[Draft]:
        """What *passes* passes commit, the clock *advance*d before each; broken off *after* so many drafts."""
        found: list[Draft] = []
        if after == 0:
            return found
        for _ in range(passes):
            self.seconds += advance
            for draft in self.reading():
                found.append(draft)
                if len(found) == after:
                    break
        return found

    def acknowledge(self) -> None:
        """The controller has everything: all tokens are released."""
        while self.tokens:
            self.source.release(self.tokens[0])
            self.tokens.pop(0)
