"""The first schema.

Deliveries of the bulk are found by each sink's cursor and closed by range; only exceptional rows carry `due_us` or
`chain`, and only they are in the two partial indexes: what goes well costs one narrow row and no index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # only INTEGER may be SQLite's rowid
BYTES = sa.LargeBinary()


def _text(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default=default)


def _number(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, BIG, nullable=False, server_default=None if default is None else str(default))


def _key(name: str = "id") -> sa.Column[int]:
    return sa.Column(name, BIG, primary_key=True)


def upgrade() -> None:
    _fleet()
    _inputs()
    _events()
    _deliveries()
    _dead_letters()
    op.create_table(
        "wakers", sa.Column("role", sa.Text(), primary_key=True), _key("port"), _number("pid"), _text("owner", ""),
        sqlite_with_rowid=False,
    )  # fmt: skip


def _fleet() -> None:
    op.create_table(
        "agents", sa.Column("agent", sa.Text(), primary_key=True), _text("site"), _text("state"),
        _number("enrolled_us"), _text("host", ""), _text("platform", ""), _text("version", ""),
        _number("last_seen_us", 0), _number("connected", 0), _number("desired_revision", 0), _number("revision", 0),
        _text("config_state", ""),
        _text("config_reason", ""), _text("health", "{}"), _number("certificate_expires_us", 0),
    )  # fmt: skip
    op.create_table(
        "tokens", sa.Column("hash", sa.Text(), primary_key=True), _text("site"), _text("agent"), _number("uses_left"),
        _number("expires_us"), _number("created_us"),
    )  # fmt: skip
    op.create_table(
        "revisions", _key("number"), _text("hash"), _text("tree"), _text("author"), _text("message"),
        _number("created_us"),
    )  # fmt: skip


def _inputs() -> None:
    op.create_table(
        "sources",
        _key(),
        _text("site"),
        _text("agent"),
        _text("source"),
        sa.UniqueConstraint("site", "agent", "source"),
    )
    op.create_table(
        "inputs", _key(), _number("source_id"), sa.Column("epoch", BYTES, nullable=False), _number("sequence"),
        _number("received_us"), _text("origin_kind"), _text("origin_name"), sa.Column("unit", BYTES, nullable=False),
        _number("normalized_us"), _number("revision"), _number("records"), _number("mapped"), _number("dead"),
        _number("ignored"), _number("duplicates"), sa.UniqueConstraint("source_id", "epoch", "sequence"),
    )  # fmt: skip
    op.create_table(
        "normalizer_checkpoints", _key("stream_id"), _number("source_id"), _number("sequence"), _number("record"),
        sa.Column("owner", sa.Text()), _number("lease_until_us", 0), _text("problem", ""), _number("problem_us", 0),
    )  # fmt: skip


def _events() -> None:
    op.create_table(
        "events", _key("seq"), sa.Column("id", BYTES, nullable=False), _text("document"), _text("key"),
        _number("input_id"), _number("record"), _number("line"), _number("records"), sa.Column("locator", sa.Text()),
        sa.Column("warnings", sa.Text()), _number("body_id"), _number("body_start"), _number("body_length"),
        sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_table("bodies", _key(), sa.Column("data", BYTES, nullable=False), sqlite_autoincrement=True)
    op.create_index("events_id", "events", ["id"], unique=True)
    op.create_index("events_key", "events", ["document", "key", "seq"])


def _deliveries() -> None:
    op.create_table("sinks", _key(), sa.Column("name", sa.Text(), nullable=False, unique=True))
    op.create_table(
        "sink_cursors", _key("sink_id"), _number("event_seq"), sa.Column("owner", sa.Text()),
        _number("lease_until_us", 0), _number("paused", 0), _number("failures", 0), _text("problem", ""),
        _number("next_try_us", 0),
    )  # fmt: skip
    op.create_table(
        "deliveries", _key("sink_id"), _key("event_seq"), _number("state"), _number("attempt"),
        sa.Column("due_us", BIG), sa.Column("chain", BIG), sa.Column("since_us", BIG), sa.Column("run_id", BIG),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_index(
        "deliveries_due", "deliveries", ["sink_id", "due_us", "event_seq"], sqlite_where=sa.text("due_us IS NOT NULL"),
        postgresql_where=sa.text("due_us IS NOT NULL"),
    )  # fmt: skip
    op.create_index(
        "deliveries_chain", "deliveries", ["sink_id", "chain", "event_seq"], sqlite_where=sa.text("chain IS NOT NULL"),
        postgresql_where=sa.text("chain IS NOT NULL"),
    )  # fmt: skip
    op.create_table(
        "runs", _key(), _number("sink_id"), _number("started_us"), _number("ended_us"), _number("deliveries"),
        _number("done"), _text("problem", ""), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_table(
        "attempts", _key("sink_id"), _key("event_seq"), _key("attempt"), _key("at_us"), _text("outcome"), _text("code"),
        _text("reason"), sqlite_with_rowid=False,
    )  # fmt: skip


def _dead_letters() -> None:
    op.create_table(
        "dead_letters", _key(), _text("kind"), _number("source_id"), _number("input_id"), sa.Column("sink_id", BIG),
        sa.Column("event_seq", BIG), _text("code"), _text("reason"), _text("field"), _number("records"),
        _text("locator"), sa.Column("sample", BYTES, nullable=False), _text("rows"), _text("state"),
        _number("created_us"), _number("resolved_us", 0), _text("resolved_by", ""), _text("note", ""),
        sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_index("dead_letters_state", "dead_letters", ["state", "id"])
    long_groups = sa.text("code = 'group_too_long'")
    op.create_index("dead_letters_long", "dead_letters", ["input_id"], sqlite_where=long_groups)
    op.create_index("dead_letters_event", "dead_letters", ["event_seq"], sqlite_where=sa.text("event_seq IS NOT NULL"))
