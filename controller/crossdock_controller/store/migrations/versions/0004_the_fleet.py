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
    seen = sa.text("how = 'seen'")  # few, or something is wrong
    op.create_index("certificates_seen", "certificates", ["seq"], sqlite_where=seen, postgresql_where=seen)
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
        sa.Column("until_seq", sa.BigInteger(), nullable=False),  # of the ledger: these are void for ever
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
    """Proposed revisions and who approved them; the environment a revision was put in force for.

    A proposal is no revision: it has a number of its own, and becomes one when it is put in force.
    """
    op.create_table(
        "revision_environments",
        sa.Column("revision", sa.Integer(), primary_key=True),
        sa.Column("environment", sa.Text(), nullable=False),
    )
    op.create_table(
        "proposals",
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("base", sa.Integer(), nullable=False),  # the revision in force when it was planned
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("tree", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),  # revision.apply, revision.rollback, environment.set
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("needs", sa.Text(), nullable=False),  # JSON: rules, people and paths
        sa.Column("options", sa.Text(), nullable=False, server_default="{}"),  # JSON: how it is to be put in force
        sa.Column("state", sa.Text(), nullable=False),  # open, approved, rejected, stale; unconfirmed, confirmed
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("settled_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("settled_by", sa.Text(), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),  # why rejected, or why it could not wait
        sa.Column("revision", sa.Integer(), nullable=False, server_default="0"),  # what it became
        sqlite_autoincrement=True,
    )
    op.create_index("proposals_open", "proposals", ["state"])
    op.create_table(
        "approvals",
        sa.Column("proposal", sa.Integer(), primary_key=True),
        sa.Column("person", sa.Text(), primary_key=True),  # the name alone: one person, however they came
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
    )


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
    """Users, roles and API tokens; and of the audit log nothing is ever changed, not even by mistake."""
    op.create_table(
        "users",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("email", sa.Text(), nullable=False, server_default=""),
        sa.Column("oidc_subject", sa.Text(), nullable=False, server_default=""),
        sa.Column("disabled", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
    )
    op.create_index(
        "users_oidc_subject", "users", ["oidc_subject"], unique=True, sqlite_where=sa.text("oidc_subject != ''")
    )
    op.create_index("users_email", "users", ["email"], unique=True, sqlite_where=sa.text("email != ''"))
    op.create_table(
        "grants",  # selector: "region=us,site=atl1", labels in the order of their names; "all" is every site
        sa.Column("user", sa.Text(), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("user", "role", "selector"),
    )
    op.create_table(
        "api_tokens",  # id: the beginning of the hash, hex, by which people name it
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("user", sa.Text(), sa.ForeignKey("users.name"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=False),
        sa.Column("last_used_us", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("revoked_us", sa.BigInteger(), nullable=False, server_default="0"),
    )
    op.create_index("api_tokens_user", "api_tokens", ["user"])
    op.create_table(
        "api_calls",  # calls that change something, so that the same one made again is refused
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("operation", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user", "key"),
    )
    for event, condition in (
        ("UPDATE", ""),
        ("DELETE", ""),
        ("INSERT", "WHEN NEW.seq <= (SELECT coalesce(max(seq), 0) FROM audit)"),  # also by REPLACE, which deletes
    ):
        op.execute(
            f"CREATE TRIGGER audit_no_{event.lower()} BEFORE {event} ON audit {condition}"
            " BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )
