"""The reckoning after a run: the ledger against every sink, the sources' own traces, and the product's account."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from chaos.ledger import Findings, Record, balance
from chaos.plant import Plant
from chaos.tree import STATES_ONLY, WEB_SOURCES
from chaos.workload import POISON
from support.processes import command

_MARK = re.compile(rf"{POISON}-[a-z0-9-]+")


@dataclass(slots=True)
class Verdict:
    findings: Findings = field(default_factory=Findings)
    records: int = 0  # given, poison included
    arrived: int = 0  # rows in the sink `rows`
    requests: int = 0  # at the sink `web`, repetitions included
    account: dict[str, Any] = field(default_factory=dict)


def judge(plant: Plant, *, thorough: bool) -> Verdict:
    """Everything compared, at this moment.

    Without *thorough* the product's account is asked only when all else is well: asking costs time.
    """
    verdict = Verdict()
    findings = verdict.findings
    must, may = plant.ledger.expected()
    verdict.records = len(may) + sum(len(marks) for marks in plant.ledger.poison.values())
    again = _sent_anew(plant, may)
    rows = plant.sql.got(findings, again)
    verdict.arrived = len(rows)
    balance("rows", rows, must, may, strict_order=False, findings=findings)
    files = plant.files.got()
    balance("files", files, must, may, strict_order=True, findings=findings, again=again)
    to_web = {r for r in may if plant.ledger.given[r].source in WEB_SOURCES}
    balance("web", plant.web.got(findings), must & to_web, to_web, strict_order=True, findings=findings)
    verdict.requests = plant.web.requests
    balance("more", plant.more.got(), set(), may, strict_order=True, findings=findings)
    _stray(plant, findings)
    _states(plant, must, findings)
    _sources(plant, findings)
    if findings and not thorough:
        return verdict
    verdict.account = _ask(plant, "account")
    _account(plant, verdict.account, [got.record for got in files], findings)
    return verdict


def _stray(plant: Plant, findings: Findings) -> None:
    for lie in plant.stray.lies:
        findings.add(f"the misbehaving client was told: {lie}")
    if not plant.stray.done():
        findings.add(f"the misbehaving client: {plant.stray.acknowledged} of {plant.stray.sent} batches acknowledged")
    for failure in plant.person.failures:
        findings.add(failure)


def _sent_anew(plant: Plant, may: set[Record]) -> frozenset[Record]:
    """States that may come once more: a snapshot whose outbox was set aside sends every row as it is, with version 0,
    and a row that had changed before is another event then. Nothing else may come twice."""
    lost = {site for site in plant.agents if plant.set_aside(site)}
    given = plant.ledger.given
    return frozenset(r for r in may if given[r].source in STATES_ONLY and given[r].site in lost)


def _states(plant: Plant, must: set[Record], findings: Findings) -> None:
    """`latest` holds the last version of every key."""
    last: dict[str, int] = {}
    for record in must:
        last[record.key] = max(record.version, last.get(record.key, 0))
    shown = plant.sql.states(findings)
    wrong = {Record(key, version) for key, version in last.items() if shown.get(key) != version}
    if wrong:
        findings.add(f"sink latest: {len(wrong)} keys are not at their last version", wrong)


def _sources(plant: Plant, findings: Findings) -> None:
    """What the sources promised to do after the acknowledgement is done, and nothing else."""
    for site, business in plant.businesses.items():
        archived = business.archived.archived()
        if business.archived.left() or archived != business.archived.dropped:
            missing = sorted(business.archived.dropped.keys() - archived.keys())
            findings.add(f"site {site}: the archive differs from what was dropped; not archived: {missing[:5]}")
        if business.deleted.left():
            findings.add(f"site {site}: files not deleted: {business.deleted.left()[:5]}")
        if business.exports.rows():
            findings.add(f"site {site}: {business.exports.rows()} rows are left in the outbox table")


def _dead_letters(plant: Plant, findings: Findings) -> Counter[tuple[str, str]]:
    """How many there are of each (site, source); they must be the poison, all of it and nothing else.

    A source whose outbox was set aside reads records again, and a poison record has a dead letter each time: the only
    repetition that is let pass, and told as an effect.
    """
    found: dict[tuple[str, str], Counter[str]] = {}
    for letter in _ask(plant, "dead", "list", "--limit", "100000")["dead_letters"]:
        mark = _MARK.search(f"{letter['sample_text']} {letter['rows']} {letter['reason']}")
        text = mark.group() if mark else f"{letter['kind']} {letter['code']} {letter['sink']} {letter['key']}"
        found.setdefault((letter["site"], letter["source"]), Counter())[text] += 1
    plant.repeated_letters = sum(sum(c.values()) - len(c) for c in found.values())
    for name in {*found, *plant.ledger.poison}:
        letters, poison = found.get(name, Counter()), plant.ledger.poison.get(name, set())
        if letters.keys() - poison:
            findings.add(f"{name}: dead letters of what was no poison: {sorted(letters.keys() - poison)[:5]}")
        if poison - letters.keys():
            findings.add(f"{name}: poison without a dead letter: {sorted(poison - letters.keys())[:5]}")
        repeated = sorted(mark for mark, times in letters.items() if times > 1)
        if repeated and not plant.set_aside(name[0]):
            findings.add(f"{name}: more than one dead letter each, and nothing was read again: {repeated[:5]}")
    return Counter({name: sum(counter.values()) for name, counter in found.items()})


def _ask(plant: Plant, *arguments: str) -> dict[str, Any]:
    """What `crossdock ARGUMENTS --json` says; the exit code of `account` is 1 when it does not balance."""
    done = subprocess.run(
        [command("crossdock"), *arguments, "--json"], capture_output=True, encoding="utf-8", timeout=120, check=False,
        env={**os.environ, "CROSSDOCK_DATA": str(plant.centre.data)},
    )  # fmt: skip
    assert done.stdout, f"crossdock {arguments[0]}, exit code {done.returncode}:\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _account(plant: Plant, account: dict[str, Any], arrived: list[Record], findings: Findings) -> None:
    """The product's own numbers are the ledger's."""
    given, dead = plant.ledger.counts(), _dead_letters(plant, findings)
    lines = {(line["site"], line["source"]): line for line in account["sources"]}
    if not account["balanced"]:
        findings.add(f"account: not balanced, lost {account['lost']}, doubled {account['doubled']}")
    for name, line in lines.items():
        moving = line["pending"] + line["held"]
        if line["dead"] != dead[name]:
            findings.add(f"account {name}: {line['dead']} dead, {dead[name]} dead letters are listed")
        if moving:
            findings.add(f"account {name}: {moving} pending or held after the drain")
        expected = sum(1 for record in arrived if _of(plant, record) == name)  # events
        if name[1] not in STATES_ONLY and expected != given.get(name, 0):
            continue  # said already, record by record
        if line["delivered"] != expected:
            findings.add(f"account {name}: {line['delivered']} delivered, {expected} arrived")
    for name in given.keys() - lines.keys():
        findings.add(f"account: no line for {name}, which gave {given[name]} records")


def _of(plant: Plant, record: Record) -> tuple[str, str] | None:
    given = plant.ledger.given.get(record)
    return None if given is None else (given.site, given.source)
