"""The store knows itself, and who knocked with a good certificate and is on no list.

`facts` holds `store`, 16 random bytes made here and anew by each restore, and what a restore noted.
"""

import os

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    facts = op.create_table(
        "facts", sa.Column("name", sa.Text(), primary_key=True), sa.Column("value", sa.LargeBinary(), nullable=False),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.create_table(
        "strangers", sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False), sa.Column("last_us", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )  # fmt: skip
    op.bulk_insert(facts, [{"name": "store", "value": os.urandom(16)}])
