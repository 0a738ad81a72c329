"""One document's way: from where it was read to every sink. What the store knows, and what its raw batch says."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from crossdock.errors import ConfigError, CrossdockError
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.hints import did_you_mean
from crossdock_controller.paths import DataDirectory
from crossdock_controller.served import served
from crossdock_controller.store import audit, connection, views
from crossdock_controller.store import trace as store

ALIASES = {"stock": "StockLevel"}  # what people say, where it is not the kind's name


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. *what*: read (at the site, by the agent's clock), received, normalized, attempt,
    hold (by a rule), delivery, dead_letter. *facts* are those of `store.trace.Entry`; of "read": origin, format,
    records, bytes; of "normalized" also letter, when it came of a corrected dead letter."""

    at_us: int
    what: str
    text: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trace:
    """*documents* are (kind, key) of what was found, *entries* in the order of time."""

    number: str
    document: str
    documents: list[tuple[str, str]]
    entries: list[Entry]
    verdict: str
    next: list[str]


@served
def trace(
    data: DataDirectory, number: str, document: str = "", *, by: str, now_us: int, within: Sites = EVERYWHERE
) -> Trace:
    """The timeline of *number*, of one kind of document or of all; on record, for it names what was in records. Raises
    ConfigError for a kind that there is not;
    an unknown number has no entries."""
    kind = _kind(data, document) if document else None
    with closing(connection.connect(data.state)) as db, connection.transaction(db):
        audit.append(db, actor=by, action="trace.read", target=number, details={"document": kind or ""}, now_us=now_us)
    found_entries = [e for e in store.trace(data.state, number, kind) if within(e.facts["site"])]
    entries = _corrected(data, [Entry(e.at_us, e.what, e.text, e.facts) for e in found_entries])
    entries = sorted([*_read(data, entries), *entries], key=lambda e: (e.at_us, e.what != "read"))
    found = dict.fromkeys((e.facts["document"], e.facts["key"]) for e in entries if e.what == "normalized")
    return Trace(number, kind or "", list(found), entries, *_verdict(entries, number))


def _kind(data: DataDirectory, word: str) -> str:
    """The kind a person means: any case, with dashes or without, or an alias."""
    from crossdock_controller.documents.base import entities

    plain = word.lower().replace("-", "").replace("_", "").removesuffix("s")
    plain = ALIASES.get(plain, plain).lower()
    with closing(connection.connect(data.state)) as db:
        known = {*store.documents(db), *entities()}
    found = next((k for k in known if k.lower() == plain), None)
    if found is None and any(k.lower().endswith(plain) for k in known):
        return plain.capitalize()  # "order" is a SalesOrder or a PurchaseOrder
    if found is None:
        raise ConfigError(f"{word!r} is not a kind of document", hint=did_you_mean(word.capitalize(), known))
    return found


def _corrected(data: DataDirectory, entries: list[Entry]) -> list[Entry]:
    """An event that a corrected dead letter became was made when the letter was retried, not when its batch came."""
    seqs = [e.facts["seq"] for e in entries if e.what == "normalized"]
    if not seqs:
        return entries
    with closing(connection.connect(data.state)) as db:
        found = views.corrected(db, seqs)
    return [
        replace(e, at_us=found[e.facts["seq"]][1], facts={**e.facts, "letter": found[e.facts["seq"]][0]})
        if e.what == "normalized" and e.facts["seq"] in found
        else e
        for e in entries
    ]


def _read(data: DataDirectory, entries: list[Entry]) -> list[Entry]:
    """When the agent read each batch that is still in the intake; until "received" it was in the outbox."""
    from crossdock import codec

    found: dict[tuple[str, ...], Entry] = {}
    if not data.intake.exists():
        return []
    with closing(views.open_intake(data.intake)) as intake:
        for entry in entries:
            if entry.what != "received":
                continue
            facts = entry.facts
            batch = (facts["agent"], facts["source"], facts["epoch"], str(facts["sequence"]))
            if batch in found:
                continue
            sealed = views.sealed(intake, batch[0], batch[1], bytes.fromhex(batch[2]), facts["sequence"])
            if sealed is None:
                continue
            try:
                header = codec.open_header(sealed)
            except CrossdockError:  # a damaged batch is the normalizer's to report; here it only lacks its first line
                continue
            if not header.read_at_us:
                continue
            text = f"by agent {facts['agent']}, in a batch of {header.records} records"
            facts = {"origin": header.origin.name, "format": header.format, "records": header.records}
            found[batch] = Entry(header.read_at_us, "read", text, {**facts, "bytes": len(sealed)})
    return list(found.values())


def _verdict(entries: list[Entry], number: str) -> tuple[str, list[str]]:
    """(where it is now, next steps). Of several versions the newest counts."""
    deliveries: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.what == "delivery":
            known = deliveries.get(entry.facts["sink"])
            if known is None or known["seq"] <= entry.facts["seq"]:
                deliveries[entry.facts["sink"]] = entry.facts
    letters = [e.facts for e in entries if e.what == "dead_letter" and e.facts["state"] == "open"]
    steps = [f"crossdock dead show {letter['id']}" for letter in letters]
    stopped = dict.fromkeys(e.facts["seq"] for e in entries if e.what == "hold" and e.facts["state"] == "open")
    steps += [f"crossdock holds show {seq}" for seq in stopped]
    if not entries:
        return f"nothing is known of {number}", ["is it still at the site? crossdock status shows what waits there"]
    if letters and not deliveries:
        return "set aside as a dead letter: it cannot become a document as it is", steps
    if not deliveries:
        return "normalized, but no route wants it", ["a route in routes/ decides where it goes: crossdock plan DIR"]
    states: dict[str, list[str]] = {}
    for sink, facts in sorted(deliveries.items()):
        states.setdefault(facts["state"], []).append(sink)
    words = {"done": "delivered to", "pending": "on its way to", "held": "held behind an earlier version for"}
    words["stopped"] = "held by a rule, not sent to"
    verdict = ", ".join(f"{words.get(state, f'{state} at')} {' and '.join(at)}" for state, at in states.items())
    return verdict, steps
