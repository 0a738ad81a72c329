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
    """Revisions in waves, and which revision each site is to run.

    `site_targets` has rows only while a rollout runs: of the sites that are to run its revision already.
    `sightings` is what the controller saw each agent do, beside what it says of itself in `agents`.
    """
    op.create_table(
        "rollouts",
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("base", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),  # rolling, held, reverting, reverted, complete
        sa.Column("steps", sa.Integer(), nullable=False, server_default="0"),  # of two who step at once, one does
        sa.Column("plan", sa.Text(), nullable=False),  # JSON: waves with their sites, hold, patience
        sa.Column("progress", sa.Text(), nullable=False),  # JSON
        sa.Column("why", sa.Text(), nullable=False, server_default=""),
        sa.Column("evidence", sa.Text(), nullable=False, server_default="[]"),  # JSON: the log lines behind `why`
        sa.Column("started_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "site_targets",
        sa.Column("site", sa.Text(), primary_key=True),
        sa.Column("revision", sa.Integer(), nullable=False),
    )
    op.create_table(
        "sightings",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("instance", sa.LargeBinary(), nullable=False, server_default=sa.text("x''")),
        sa.Column("starts", sa.Integer(), nullable=False, server_default="0"),  # processes seen
        sa.Column("offered", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("offered_hash", sa.Text(), nullable=False, server_default=""),
        sa.Column("offered_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("effective", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("effective_hash", sa.Text(), nullable=False, server_default=""),
        sa.Column("effective_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("said_of", sa.Integer(), nullable=False, server_default="0"),  # the revision of its last answer
        sa.Column("said", sa.Text(), nullable=False, server_default=""),  # applying, applied, failed
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("log", sa.Text(), nullable=False, server_default="[]"),  # JSON: lines, with "failed"
        sa.Column("said_us", sa.BigInteger(), nullable=False, server_default="0"),
    )


def _approvals() -> None:
    """Proposed revisions, approvals and promotions."""


def _commands() -> None:
    """Commands to sites and their results."""


def _people() -> None:
    """Users, roles and API tokens."""
