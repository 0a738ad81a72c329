"""The ledger of certificates: every one that was handed to an agent, and when it was first used; and which certificate
authorities each agent trusts, by its own word.

Certificates are told apart by serial number (hex, of 160 random bits). The order of first use, and not a clock, says
which one of an agent is the newest: whoever shows an older one is a copy of what the agent was. Times are microseconds
since the epoch, UTC; functions that write are for a transaction of the caller.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from crossdock_controller.store import facts

RESTORE_MARGIN_US = 3_600_000_000  # a backup takes a while
_COLUMNS = "serial, agent, authority, key_sha256, issued_us, expires_us, how, bundle, first_used_us, use_order, seq"


@dataclass(frozen=True, slots=True)
class Certificate:
    """*authority*: SHA-256 of the CA certificate, *key_sha256*: of the public key (DER), both hex. *how*: "enrol",
    "renewal", "reenrol", or "seen" for one that this store did not know when it was used: of a release without a
    ledger, or issued after the backup that was restored. *bundle*: the authorities that were handed out with it."""

    serial: str
    agent: str
    authority: str
    key_sha256: str
    issued_us: int
    expires_us: int
    how: str = ""
    bundle: tuple[str, ...] = ()
    first_used_us: int = 0  # 0: not used yet
    use_order: int = 0  # 1, 2 ... in the order of first use by its agent; 0: not used yet
    seq: int = 0  # in the order they came into the ledger


def _row(values: sqlite3.Row | tuple[object, ...]) -> Certificate:
    fields = list(values)
    fields[7] = tuple(str(fields[7]).split())
    return Certificate(*fields)


def record(db: sqlite3.Connection, issued: Certificate) -> None:
    """*issued* is about to be handed out. Again for the same serial changes nothing. Who enrols may be another machine
    than the one that said what it trusts."""
    if issued.how == "enrol":
        db.execute("DELETE FROM trusts WHERE agent = ?", (issued.agent,))
    db.execute(
        "INSERT INTO certificates(serial, agent, authority, key_sha256, issued_us, expires_us, how, bundle)"
        " VALUES(?,?,?,?,?,?,?,?) ON CONFLICT(serial) DO NOTHING",
        (
            issued.serial, issued.agent, issued.authority, issued.key_sha256, issued.issued_us, issued.expires_us,
            issued.how, " ".join(issued.bundle),
        ),
    )  # fmt: skip


def used(db: sqlite3.Connection, shown: Certificate, now_us: int) -> Certificate:
    """The row of the certificate *shown* by its agent, who has just proved to have its key. At its first use it becomes
    the agent's newest; one that is not in the ledger comes in as "seen", unless the agent used a later one already: it
    stays unused then."""
    known = get(db, shown.serial)
    if known is None:
        record(db, replace(shown, how="seen"))
        if any(c.issued_us > shown.issued_us for c in of_agent(db, shown.agent) if c.use_order):
            return _known(db, shown.serial)
    elif known.use_order or newer_in_use(db, known):
        return known
    db.execute(
        "UPDATE certificates SET first_used_us = ?1,"
        " use_order = 1 + (SELECT max(use_order) FROM certificates WHERE agent = ?3) WHERE serial = ?2",
        (now_us, shown.serial, shown.agent),
    )
    return _known(db, shown.serial)


def get(db: sqlite3.Connection, serial: str) -> Certificate | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM certificates WHERE serial = ?", (serial,)).fetchone()
    return _row(row) if row else None


def of_agent(db: sqlite3.Connection, agent: str) -> list[Certificate]:
    """All of *agent*, in the order they came into the ledger."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM certificates WHERE agent = ? ORDER BY seq", (agent,))
    return [_row(row) for row in rows]


def held(db: sqlite3.Connection) -> dict[str, list[Certificate]]:
    """{agent: what it may hold now}: the one it used last, and those that were issued after it and not used yet."""
    found: dict[str, list[Certificate]] = {}
    for row in db.execute(f"SELECT {_COLUMNS} FROM certificates ORDER BY agent, use_order, seq"):
        certificate = _row(row)
        mine = found.setdefault(certificate.agent, [])
        if certificate.use_order:
            mine[:] = [c for c in mine if not c.use_order and c.seq > certificate.seq]
        mine.append(certificate)
    return found


def newest(db: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """{agent: (when it was issued, when it ends)} of the one with the latest end among those it may hold."""
    rows = db.execute(
        "SELECT c.agent, c.issued_us, max(c.expires_us)"
        " FROM (SELECT agent, max(use_order) AS last FROM certificates GROUP BY agent) u"
        " JOIN certificates c ON c.agent = u.agent AND c.use_order IN (0, u.last) GROUP BY c.agent"
    )
    return {agent: (issued_us, expires_us) for agent, issued_us, expires_us in rows}


def newer_in_use(db: sqlite3.Connection, certificate: Certificate) -> Certificate | None:
    """A certificate of the same agent that was first used after *certificate*, or, where that was never used, one that
    came later and was: whoever holds *certificate* is behind its agent. None when there is no such."""
    if certificate.use_order:
        later, than = "use_order", certificate.use_order
    elif certificate.seq and certificate.how != "seen":
        later, than = "seq", certificate.seq
    else:  # the ledger does not know it, or only by sight
        later, than = "issued_us", certificate.issued_us
    row = db.execute(
        f"SELECT {_COLUMNS} FROM certificates WHERE agent = ? AND use_order > 0 AND {later} > ? AND serial <> ?"
        " ORDER BY use_order DESC LIMIT 1",
        (certificate.agent, than, certificate.serial),
    ).fetchone()
    return _row(row) if row else None


def unused(db: sqlite3.Connection, agent: str, since_us: int) -> int:
    """How many were issued to *agent* since then and never used."""
    count: int = db.execute(
        "SELECT count(*) FROM certificates WHERE agent = ? AND use_order = 0 AND issued_us > ?", (agent, since_us)
    ).fetchone()[0]
    return count


def unissued(db: sqlite3.Connection, since_us: int = 0) -> list[Certificate]:
    """Certificates used since then that are by a CA of ours, and that this store never issued although it had issued
    others to the same agent before: somebody else may have the CA's key. Not those that a restored store had forgotten:
    issued after its backup, and before it was restored."""
    at_us, backup_us = facts.restored(db) or (0, 0)
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM certificates c WHERE how = 'seen' AND first_used_us > ?"
        " AND NOT issued_us BETWEEN ? AND ? AND EXISTS"
        " (SELECT 1 FROM certificates WHERE agent = c.agent AND seq < c.seq AND how <> 'seen') ORDER BY seq",
        (since_us, backup_us - RESTORE_MARGIN_US if at_us else 1, at_us),
    )
    return [_row(row) for row in rows]


def prune(db: sqlite3.Connection, ended_before_us: int, limit: int = 1000) -> int:
    """Forget certificates that ended before then, for whom they are no proof any more; the newest in use of each agent
    stays. How many, at most *limit* at once."""
    return db.execute(
        "DELETE FROM certificates WHERE seq IN (SELECT seq FROM certificates c WHERE expires_us < ?1 AND use_order <"
        " (SELECT max(use_order) FROM certificates WHERE agent = c.agent) LIMIT ?2)",
        (ended_before_us, limit),
    ).rowcount


def confirm(db: sqlite3.Connection, agent: str, authorities: Iterable[str], now_us: int) -> None:
    """*agent* says that it trusts exactly these. What it already said keeps its time."""
    said = sorted(set(authorities))
    marks = ",".join("?" * len(said))
    db.execute(f"DELETE FROM trusts WHERE agent = ? AND authority NOT IN ({marks})", (agent, *said))
    db.executemany(
        "INSERT INTO trusts(agent, authority, confirmed_us) VALUES(?,?,?) ON CONFLICT DO NOTHING",
        [(agent, authority, now_us) for authority in said],
    )


def trusts(db: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """{agent: the authorities it confirmed}; nothing of those that never did."""
    found: dict[str, set[str]] = {}
    for agent, authority in db.execute("SELECT agent, authority FROM trusts"):
        found.setdefault(agent, set()).add(authority)
    return {agent: frozenset(said) for agent, said in found.items()}


def trusted_by(db: sqlite3.Connection, agent: str) -> frozenset[str]:
    return frozenset(a for (a,) in db.execute("SELECT authority FROM trusts WHERE agent = ?", (agent,)))


def note_token(db: sqlite3.Connection, token_hash: str, authority: str) -> None:
    """The join token of this hash carries *authority*: its site trusts that one alone until it has enrolled."""
    db.execute(
        "INSERT INTO token_authorities(hash, authority) VALUES(?,?) ON CONFLICT(hash) DO UPDATE"
        " SET authority = excluded.authority",
        (token_hash, authority),
    )


def live_tokens(db: sqlite3.Connection, now_us: int) -> list[tuple[str, str, int]]:
    """(agent, the authority it carries, when it ends) of each join token that may still be used, and of each that an
    agent used who waits for a person (its end is 0). The site, where it names no agent; "" for the authority that a
    release did not note."""
    return db.execute(
        "SELECT coalesce(nullif(t.agent, ''), t.site), coalesce(a.authority, ''), t.expires_us"
        " FROM tokens t LEFT JOIN token_authorities a USING(hash) WHERE t.uses_left > 0 AND t.expires_us > ?"
        " AND NOT EXISTS (SELECT 1 FROM token_terms s WHERE s.hash = t.hash AND s.revoked_us > 0)"
        " UNION ALL SELECT e.agent, coalesce(a.authority, ''), 0"
        " FROM enrolments e LEFT JOIN token_authorities a ON a.hash = e.token WHERE e.state IN ('pending', 'approved')"
        " ORDER BY 1",
        (now_us,),
    ).fetchall()


def _known(db: sqlite3.Connection, serial: str) -> Certificate:
    found = get(db, serial)
    assert found is not None  # noqa: S101 - it was recorded in this transaction
    return found
