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
    op.create_table(
        "token_terms",  # what a join token says beside its row in `tokens`; none for those of an older release
        sa.Column("hash", sa.Text(), primary_key=True),
        sa.Column("uses", sa.Integer(), nullable=False),
        sa.Column("approve", sa.Integer(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.Column("revoked_us", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "enrolments",  # one for each key that a token was used with
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("site", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("decided_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("decided_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("because", sa.Text(), nullable=False, server_default=""),
        sa.UniqueConstraint("token", "key_sha256"),
    )
    op.create_index("enrolments_agent", "enrolments", ["agent", "state"])
    op.create_table(
        "machines",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("moving_us", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_table(
        "refusals",  # one row for each (kind, who, from where), however often it was tried
        sa.Column("kind", sa.Text(), primary_key=True),
        sa.Column("subject", sa.Text(), primary_key=True),
        sa.Column("address", sa.Text(), primary_key=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_us", sa.BigInteger(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=False),
        sa.Column("said_us", sa.BigInteger(), nullable=False),  # when the audit log last told of it
        sa.Column("detail", sa.Text(), nullable=False),
    )
    op.create_table(
        "revocations",
        sa.Column("agent", sa.Text(), primary_key=True),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("by_whom", sa.Text(), nullable=False),
        sa.Column("because", sa.Text(), nullable=False),
    )


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
