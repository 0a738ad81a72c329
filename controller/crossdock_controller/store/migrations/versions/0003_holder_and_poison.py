"""Who holds the store; batches at which a worker died, and records set aside; since when a sink is down."""

import sqlalchemy as sa
from alembic import op

from crossdock_controller.store.holder import TABLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(TABLE)
    op.add_column("sink_cursors", sa.Column("down_us", sa.Integer(), nullable=False, server_default="0"))
    good = sa.text("done > 0")  # a sink that was down for days has thousands of others
    op.create_index("runs_good", "runs", ["sink_id", "id"], sqlite_where=good, postgresql_where=good)
    op.create_table(
        "suspects",
        sa.Column("stream_id", sa.Integer(), primary_key=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("record", sa.Integer(), nullable=False),
        sa.Column("until_sequence", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("last_us", sa.Integer(), nullable=False),
    )
    op.create_table(
        "set_aside",
        sa.Column("stream_id", sa.Integer(), primary_key=True),
        sa.Column("sequence", sa.Integer(), primary_key=True),
        sa.Column("position", sa.Integer(), primary_key=True),  # of the record in its batch; -1 for the whole batch
        sa.Column("reason", sa.Text(), nullable=False),
        sqlite_with_rowid=False,
    )
