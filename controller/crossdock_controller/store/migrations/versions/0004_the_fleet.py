"""Identity, configuration and people: who did what, what each agent trusts, which revision each site is to run."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _audit()
    _certificates()
    _enrolment()
    _rollouts()
    _approvals()
    _commands()
    _people()


def _audit() -> None:
    """A chain in which each entry carries the digest of the one before."""
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )


def _certificates() -> None:
    """Certificates issued, and what each agent trusts."""


def _enrolment() -> None:
    """Enrolments that wait for a person, machines, and what was refused."""


def _rollouts() -> None:
    """Revisions in waves, and which revision each site is to run."""


def _approvals() -> None:
    """Proposed revisions, approvals and promotions."""


def _commands() -> None:
    """Commands to sites and their results."""
    op.create_table(
        "commands",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),  # JSON
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sent_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("started_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("ended_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("error", sa.Text(), nullable=False, server_default=""),
        sa.Column("output_bytes", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_index("commands_by_time", "commands", ["created_us"])
    unanswered = sa.text("state IN ('waiting', 'sent', 'running')")
    op.create_index("commands_unanswered", "commands", ["agent"], sqlite_where=unanswered, postgresql_where=unanswered)
    op.create_table(
        "command_outputs",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("part", sa.Integer(), primary_key=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
    )


def _people() -> None:
    """Users, roles and API tokens."""
