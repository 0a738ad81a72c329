"""Who holds the store; which batches a worker died at, and which of their records are not to be touched again."""

import sqlalchemy as sa
from alembic import op

from crossdock_controller.store.holder import TABLE

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(TABLE)
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
