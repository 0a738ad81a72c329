"""Versions of documents, holds, codes, exceptions, the current state, replays, and what goes back to sites."""

import sqlalchemy as sa
from alembic import op

from crossdock_controller.store.causes import cause_of

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _events()
    _codes()
    _holds()
    _exceptions()
    _current_state()
    _remapping()
    _dispatch()
    _replays()
    _write_back()


def _events() -> None:
    """Which version of its entity an event's document has."""
    op.add_column("events", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))


def _codes() -> None:
    """Meanings of codes that people gave, beside the lists of the configuration; and what waits for one."""
    op.create_table(
        "code_meanings",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("list", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("meaning", sa.Text(), nullable=False),
        sa.Column("said_by", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    op.create_index("code_meanings_value", "code_meanings", ["list", "value", "site", "id"])
    op.add_column("dead_letters", sa.Column("list", sa.Text(), nullable=False, server_default=""))
    op.add_column("dead_letters", sa.Column("value", sa.Text(), nullable=False, server_default=""))
    op.add_column("dead_letters", sa.Column("coded", sa.BigInteger(), nullable=False, server_default="0"))
    unknown = sa.text("state = 'open' AND list != ''")
    op.create_index(
        "dead_letters_codes", "dead_letters", ["list", "value", "id"], sqlite_where=unknown, postgresql_where=unknown
    )


def _holds() -> None:
    """Events that a rule holds for a person."""
    op.create_table(
        "holds",
        sa.Column("event_seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("by_hand", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False, server_default="open"),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("resolved_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("resolved_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("note", sa.Text(), nullable=False, server_default=""),
        sqlite_with_rowid=False,
    )
    op.create_index("holds_state", "holds", ["state", "event_seq"])
    op.create_table(  # the masters that held events refer to and that have not come
        "hold_waits",
        sa.Column("document", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("event_seq", sa.BigInteger(), primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_index("hold_waits_event", "hold_waits", ["event_seq"])


def _exceptions() -> None:
    """What someone owns: one row an item, grouped by cause."""
    op.create_table(
        "exceptions",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False, server_default=""),
        sa.Column("source", sa.Text(), nullable=False, server_default=""),
        sa.Column("document", sa.Text(), nullable=False, server_default=""),
        sa.Column("key", sa.Text(), nullable=False, server_default=""),
        sa.Column("sink", sa.Text(), nullable=False, server_default=""),
        sa.Column("event_seq", sa.BigInteger()),
        sa.Column("letter_id", sa.BigInteger()),
        sa.Column("opened_us", sa.BigInteger(), nullable=False),
        sa.Column("reopened", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("state", sa.Text(), nullable=False, server_default="open"),
        sa.Column("resolved_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("resolved_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("outcome", sa.Text(), nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    is_open = sa.text("state = 'open'")
    op.create_index("exceptions_open", "exceptions", ["cause", "id"], sqlite_where=is_open, postgresql_where=is_open)
    by_event = sa.text("event_seq IS NOT NULL")
    op.create_index("exceptions_event", "exceptions", ["event_seq"], sqlite_where=by_event, postgresql_where=by_event)
    by_letter = sa.text("letter_id IS NOT NULL")
    op.create_index(
        "exceptions_letter", "exceptions", ["letter_id"], sqlite_where=by_letter, postgresql_where=by_letter
    )
    op.create_table(
        "exception_groups",
        sa.Column("cause", sa.Text(), primary_key=True),
        sa.Column("site", sa.Text(), primary_key=True),
        sa.Column("assigned", sa.Text(), nullable=False, server_default=""),
        sa.Column("due_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "exception_notes",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("exception_notes_cause", "exception_notes", ["cause", "id"])
    _exceptions_of_letters()


def _exceptions_of_letters() -> None:
    """Every dead letter that is open already is somebody's from now on."""
    connection = op.get_bind()
    rows = connection.execute(
        sa.text(
            "SELECT d.id, d.kind, d.code, d.reason, d.field, d.created_us, s.site, s.source,"
            " coalesce(e.document, ''), coalesce(e.key, ''), coalesce(k.name, ''), d.event_seq"
            " FROM dead_letters d JOIN sources s ON s.id = d.source_id LEFT JOIN events e ON e.seq = d.event_seq"
            " LEFT JOIN sinks k ON k.id = d.sink_id WHERE d.state = 'open' ORDER BY d.id"
        )
    )
    for page in rows.partitions(1000):
        connection.execute(
            sa.text(
                "INSERT INTO exceptions(kind, severity, cause, title, site, source, document, key, sink, event_seq,"
                " letter_id, opened_us) VALUES(:kind, 'reject', :cause, :title, :site, :source, :document, :key, :sink,"
                " :seq, :letter, :opened)"
            ),
            [
                {
                    "kind": kind, "cause": cause_of(kind, code, source, sink, field, reason),
                    "title": reason[:400], "site": site, "source": source, "document": document, "key": key,
                    "sink": sink, "seq": seq, "letter": letter, "opened": opened,
                }
                for letter, kind, code, reason, field, opened, site, source, document, key, sink, seq in page
            ],
        )  # fmt: skip


def _current_state() -> None:
    """The latest version of each document from each source, what it refers to, and how two systems compare."""
    op.create_table(
        "projections",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "current",
        sa.Column("document", sa.Text(), primary_key=True),
        sa.Column("source_id", sa.BigInteger(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "refs",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), primary_key=True),
        sa.Column("document", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reconciliations",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("looked_us", sa.BigInteger(), nullable=False),
        sa.Column("ran_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("left_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("right_count", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("missing_left", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("missing_right", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("different", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("young", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("problem", sa.Text(), nullable=False, server_default=""),
        sqlite_with_rowid=False,
    )


def _remapping() -> None:
    """Raw batches that are mapped again on purpose: one row for each time, and how far it is in each stream."""
    counts = ("records", "unchanged", "changed", "added", "healed", "superseded", "kept", "dead", "ignored", "unread")
    op.create_table(
        "remaps",
        sa.Column("id", sa.Integer(), primary_key=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("source", "site", "chosen", "because", "created_by")),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False, server_default="0"),
        sa.Column("state", sa.Text(), nullable=False, server_default="running"),
        sa.Column("problem", sa.Text(), nullable=False, server_default=""),
        sa.Column("ended_by", sa.Text(), nullable=False, server_default=""),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in ("ended_us", "total")),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in counts),
        sqlite_autoincrement=True,
    )
    running = sa.text("state = 'running'")
    op.create_index("remaps_running", "remaps", ["id"], sqlite_where=running, postgresql_where=running)
    op.create_table(
        "remap_parts",
        sa.Column("remap_id", sa.Integer(), primary_key=True),
        sa.Column("stream_id", sa.BigInteger(), primary_key=True),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False)
            for name in ("source_id", "sequence", "record", "end_sequence", "end_record")
        ),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("finished", sa.Integer(), nullable=False, server_default="0"),
    )
    records = sa.text("kind = 'record'")
    op.create_index("dead_letters_input", "dead_letters", ["input_id"], sqlite_where=records, postgresql_where=records)


def _dispatch() -> None:
    """What a person said of a sink; deliveries that ran out of time, and those that are sent again on purpose."""
    for name in ("drain_seq", "drain_total", "said_us"):
        op.add_column("sink_cursors", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    for name in ("said_by", "said_because"):
        op.add_column("sink_cursors", sa.Column(name, sa.Text(), nullable=False, server_default=""))
    op.add_column("deliveries", sa.Column("again", sa.BigInteger()))
    expired = sa.text("state = 11")
    op.create_index(
        "deliveries_expired", "deliveries", ["sink_id", "event_seq"], sqlite_where=expired, postgresql_where=expired
    )


def _replays() -> None:
    """Events that are sent again on purpose: what was chosen, and how far it is."""
    places = ("at_seq", "until_seq", "total", "queued", "has_it", "older", "waiting", "finished_us")
    op.create_table(
        "replays",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("sink_id", sa.BigInteger(), nullable=False),
        sa.Column("chosen", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("rate", sa.Float(), nullable=False, server_default="0"),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in places),
        sa.Column("state", sa.Text(), nullable=False, server_default="running"),
        sa.Column("ended_by", sa.Text(), nullable=False, server_default=""),
        sqlite_autoincrement=True,
    )
    running = sa.text("state = 'running'")
    op.create_index("replays_running", "replays", ["sink_id", "id"], sqlite_where=running, postgresql_where=running)
    of_replay = sa.text("again > 0")
    op.create_index(
        "deliveries_again", "deliveries", ["again", "state"], sqlite_where=of_replay, postgresql_where=of_replay
    )


def _write_back() -> None:
    """Deliveries to sites, and their receipts; which agents can take them."""
    op.create_table(
        "site_deliveries",
        sa.Column("sequence", sa.Integer(), primary_key=True),
        sa.Column("id", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("undo_of", sa.LargeBinary()),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("place", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("receipt_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("payload", sa.LargeBinary()),
        sqlite_autoincrement=True,
    )
    waits = sa.text("state = 'waiting'")
    op.create_index(
        "site_deliveries_waiting", "site_deliveries", ["agent", "sequence"], sqlite_where=waits, postgresql_where=waits
    )
    op.create_index("site_deliveries_key", "site_deliveries", ["sink", "document", "key", "sequence"])
    op.create_index("site_deliveries_receipt", "site_deliveries", ["receipt_us"])
    op.create_table(
        "site_links",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("takes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("version", sa.Text(), nullable=False, server_default=""),
        sa.Column("connected", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("since_us", sa.BigInteger(), nullable=False, server_default="0"),
    )
