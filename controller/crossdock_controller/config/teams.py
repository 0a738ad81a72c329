"""Teams: who owns which exceptions, and how soon they are to be settled. Asked when somebody looks: a change of a
team's file changes the owner of what is open already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field, StringConstraints

from crossdock_controller.config.models import StrictModel
from crossdock_controller.config.selection import Name, On, matches

ItemKind = Literal["record", "delivery", "hold", "code", "difference", "missing", "conflict"]
KINDS: tuple[ItemKind, ...] = get_args(ItemKind)
Member = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Document = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class Owned(StrictModel):
    """Exceptions that fit everything that is said here; what is left out fits all."""

    on: On = Field(default={}, description="labels of the site they come from; `{}` is every site")
    documents: list[Document] = Field(default=[], description="... about these documents")
    sources: list[Name] = Field(default=[], description="... of these sources")
    sinks: list[Name] = Field(default=[], description="... at these sinks")
    kinds: list[ItemKind] = Field(
        default=[], description="... of these kinds: record, delivery, hold, code, difference, missing or conflict"
    )

    def weight(self) -> int:
        """How much it says: of two teams the one that says more owns."""
        return len(self.on) + sum(bool(x) for x in (self.documents, self.sources, self.sinks, self.kinds))


class Sla(StrictModel):
    """Hours from the time an exception opens until it is due, by its severity."""

    reject: float = Field(default=8.0, gt=0, le=24 * 366, description="hours for what was refused: it is nowhere now")
    hold: float = Field(default=8.0, gt=0, le=24 * 366, description="hours for what waits for a person")
    warn: float = Field(default=72.0, gt=0, le=24 * 366, description="hours for what went on all the same")

    def hours(self, severity: str) -> float:
        return {"reject": self.reject, "hold": self.hold}.get(severity, self.warn)


class Team(StrictModel):
    """People who own exceptions: `teams/*.yaml`."""

    team: Name = Field(description="its name, unique; the file's name without .yaml unless given")
    members: list[Member] = Field(default=[], description="names of users: whose `--mine` shows them")
    owns: list[Owned] = Field(min_length=1, description="which exceptions; any of these")
    sla: Sla = Field(default=Sla(), description="hours by severity")


def owner(
    teams: Iterable[Team], labels: Mapping[str, str], *, kind: str, document: str, source: str, sink: str
) -> Team | None:
    """The team whose selection says most of what is asked; of equals the first by name."""
    best: tuple[int, Team] | None = None
    for team in sorted(teams, key=lambda t: t.team):
        for owned in team.owns:
            if _fits(owned, labels, kind, document, source, sink) and (best is None or owned.weight() > best[0]):
                best = owned.weight(), team
    return best[1] if best else None


def _fits(owned: Owned, labels: Mapping[str, str], kind: str, document: str, source: str, sink: str) -> bool:
    asked = ((owned.documents, document), (owned.sources, source), (owned.sinks, sink), (owned.kinds, kind))
    return matches(owned.on, labels) and all(not wanted or value in wanted for wanted, value in asked)
