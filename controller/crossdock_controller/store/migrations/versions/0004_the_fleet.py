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
    op.create_table(
        "certificates",
        sa.Column("seq", sa.Integer(), primary_key=True),
        sa.Column("serial", sa.Text(), nullable=False, unique=True),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("authority", sa.Text(), nullable=False),  # SHA-256 of the CA certificate, hex
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("issued_us", sa.BigInteger(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("bundle", sa.Text(), nullable=False, server_default=""),
        sa.Column("first_used_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("use_order", sa.BigInteger(), nullable=False, server_default="0"),
        sqlite_autoincrement=True,
    )
    op.create_index("certificates_agent", "certificates", ["agent", "use_order"])
    op.create_table(
        "trusts",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("authority", sa.Text(), primary_key=True),
        sa.Column("confirmed_us", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "token_authorities",
        sa.Column("hash", sa.Text(), primary_key=True),
        sa.Column("authority", sa.Text(), nullable=False),
    )


def _enrolment() -> None:
    """Enrolments that wait for a person, machines, and what was refused."""


def _rollouts() -> None:
    """Revisions in waves, and which revision each site is to run."""


def _approvals() -> None:
    """Proposed revisions, approvals and promotions."""


def _commands() -> None:
    """Commands to sites and their results."""


def _people() -> None:
    """Users, roles and API tokens."""
