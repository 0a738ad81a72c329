"""Versions of documents, holds, codes, exceptions, the current state, replays, and what goes back to sites."""

import sqlalchemy as sa
from alembic import op

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
    """Meanings of codes that people gave, beside the lists of the configuration."""


def _holds() -> None:
    """Events that a rule holds for a person."""


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


def _current_state() -> None:
    """The latest version of each document, and what it refers to."""


def _remapping() -> None:
    """Raw batches that are mapped again on purpose."""


def _dispatch() -> None:
    """Deliveries that were superseded or ran out of time."""


def _replays() -> None:
    """Events that are sent again on purpose."""


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
