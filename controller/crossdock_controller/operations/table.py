"""Every operation of the API, one line each: what is not here does not exist.

`Operation(name, "module:function" below `commands`, least role, scope, ...)`. The name is what a client posts to
(`POST /v1/agents.revoke`). *changes*: it changes something; *payloads*: it shows what was in records. Both leave an
entry in the audit log, which the function itself writes. Adding one: docs/guide/extending.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from crossdock_controller.access import Role
from crossdock_controller.operations.scopes import (
    Anywhere,
    OfAgent,
    OfCommand,
    OfHold,
    OfLetter,
    OfPending,
    OfSite,
    OfTarget,
    OfTree,
    Rows,
    Scope,
    Within,
)

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Operation:
    """*body_bytes*: the largest request that is read."""

    name: str
    place: str
    role: Role
    scope: Scope
    changes: bool = False
    payloads: bool = False
    body_bytes: int = 64 * KIB


EVERY_SITE = Scope()
ANY_SITE = Anywhere()
OWN_SITES = Within()

OPERATIONS: tuple[Operation, ...] = (
    # See
    Operation("status", "status:status", "viewer", OWN_SITES),
    Operation("storage", "storage:storage", "viewer", ANY_SITE),
    Operation("top", "top:measure", "viewer", OWN_SITES),
    Operation("account", "account:account", "viewer", OWN_SITES),
    Operation("agents", "fleet:agents", "viewer", OWN_SITES),
    Operation("history", "configuration:history", "viewer", OWN_SITES),
    Operation("trace", "trace:trace", "viewer", OWN_SITES, payloads=True),
    Operation("state.get", "state:get", "viewer", OWN_SITES, payloads=True),
    Operation("state.find", "state:find", "viewer", OWN_SITES, payloads=True),
    Operation("reconcile.list", "reconcile:reconcile_list", "viewer", EVERY_SITE),
    # Mend
    Operation("reconcile", "reconcile:reconcile", "operator", EVERY_SITE, changes=True, payloads=True),
    Operation("dead.list", "dead:dead_list", "operator", OWN_SITES, payloads=True),
    Operation("dead.show", "dead:dead_show", "operator", OfLetter(), payloads=True),
    Operation("dead.retry", "dead:dead_retry", "operator", OfLetter(), changes=True, payloads=True),
    Operation("writebacks", "writebacks:writebacks", "viewer", OWN_SITES),
    Operation("writebacks.undo", "writebacks:undo", "operator", EVERY_SITE, changes=True),
    Operation("dead.discard", "dead:dead_discard", "operator", OfLetter(), changes=True, payloads=True),
    Operation("exceptions.list", "exceptions:exceptions_list", "operator", OWN_SITES, payloads=True),
    Operation("exceptions.show", "exceptions:exceptions_show", "operator", OWN_SITES, payloads=True),
    Operation("exceptions.assign", "exceptions:exceptions_assign", "operator", OWN_SITES, changes=True, payloads=True),
    Operation("exceptions.note", "exceptions:exceptions_note", "operator", OWN_SITES, changes=True),
    Operation("exceptions.retry", "exceptions:exceptions_retry", "operator", OWN_SITES, changes=True, payloads=True),
    Operation("exceptions.resolve", "exceptions:exceptions_resolve", "operator", OWN_SITES, changes=True),
    Operation("sinks.list", "sinks:sinks_list", "viewer", ANY_SITE),
    Operation("sinks.show", "sinks:sinks_show", "viewer", ANY_SITE),
    Operation("sinks.pause", "sinks:pause", "operator", EVERY_SITE, changes=True),
    Operation("sinks.resume", "sinks:resume", "operator", EVERY_SITE, changes=True),
    Operation("sinks.drain", "sinks:drain", "operator", EVERY_SITE, changes=True),
    Operation("sinks.check", "sinks:check", "operator", EVERY_SITE),
    Operation("replay.events", "replay:replay_events", "operator", EVERY_SITE, changes=True),
    Operation("replay.list", "replay:replay_list", "operator", EVERY_SITE),
    Operation("replay.show", "replay:replay_show", "operator", EVERY_SITE),
    Operation("replay.cancel", "replay:replay_cancel", "operator", EVERY_SITE, changes=True),
    Operation("holds.list", "holds:holds_list", "operator", OWN_SITES, payloads=True),
    Operation("holds.show", "holds:holds_show", "operator", OfHold(), payloads=True),
    Operation("holds.release", "holds:holds_release", "operator", OfHold(), changes=True, payloads=True),
    Operation("holds.discard", "holds:holds_discard", "operator", OfHold(), changes=True, payloads=True),
    Operation("codes.list", "codes:codes_list", "operator", OWN_SITES, payloads=True),
    Operation("codes.export", "codes:codes_export", "operator", EVERY_SITE, payloads=True),
    Operation("codes.set", "codes:codes_set", "operator", OfSite("site"), changes=True),
    Operation("codes.ignore", "codes:codes_ignore", "operator", OfSite("site"), changes=True),
    # Configure
    Operation("plan", "configuration:plan_tree", "engineer", OfTree(), body_bytes=16 * MIB),
    Operation("apply", "configuration:apply_tree", "engineer", OfTree(), changes=True, body_bytes=16 * MIB),
    Operation("mapping.diff-tree", "preview:preview_tree", "engineer", EVERY_SITE, payloads=True, body_bytes=16 * MIB),
    Operation("mapping.diff", "preview:preview_revision", "engineer", EVERY_SITE, payloads=True),
    Operation("rollback", "configuration:rollback", "engineer", EVERY_SITE, changes=True),
    Operation("diff", "diffs:page", "engineer", EVERY_SITE),
    Operation("approvals", "approvals:approvals", "engineer", EVERY_SITE),
    Operation("approve", "approvals:approve", "engineer", EVERY_SITE, changes=True),
    Operation("reject", "approvals:reject", "engineer", EVERY_SITE, changes=True),
    Operation("config.tree", "pull:tree_of", "engineer", EVERY_SITE),
    Operation("config.sites", "sites:sites_of", "viewer", Rows(), body_bytes=16 * MIB),
    Operation("config.secrets", "sites:secrets_of", "engineer", EVERY_SITE, body_bytes=16 * MIB),
    Operation("config.promote", "environments:make_slip", "engineer", EVERY_SITE, changes=True),
    Operation("config.environment", "environments:environment", "viewer", ANY_SITE),
    Operation("config.set-environment", "environments:set_environment", "admin", EVERY_SITE, changes=True),
    Operation("rollout", "rollout:rollout", "viewer", OWN_SITES),
    Operation("rollout.drift", "drift:drift", "viewer", Rows()),
    Operation("rollout.pause", "rollout:pause", "engineer", EVERY_SITE, changes=True),
    Operation("rollout.resume", "rollout:resume", "engineer", EVERY_SITE, changes=True),
    Operation("rollout.halt", "rollout:halt", "engineer", EVERY_SITE, changes=True),
    Operation("rollout.finish", "rollout:finish", "engineer", EVERY_SITE, changes=True),
    Operation("mapping.replay", "remap:replay_records", "engineer", EVERY_SITE, changes=True),
    Operation("mapping.replay-dry", "remap:dry_run", "engineer", EVERY_SITE),
    Operation("mapping.replays", "remap:replays", "engineer", EVERY_SITE),
    Operation("mapping.replay-show", "remap:replay", "engineer", EVERY_SITE),
    Operation("mapping.replay-cancel", "remap:cancel", "engineer", EVERY_SITE, changes=True),
    # The fleet
    Operation("fleet.risks", "risks:risks", "viewer", OWN_SITES),
    Operation("token.create", "enrolment:create_token", "engineer", OfSite("site", agent="agent"), changes=True),
    Operation("token.list", "enrolment:list_tokens", "operator", Rows()),
    Operation("token.revoke", "enrolment:revoke_token", "engineer", EVERY_SITE, changes=True),
    Operation("agents.pending", "enrolment:pending", "operator", Rows()),
    Operation("agents.decide", "enrolment:decide", "engineer", OfPending("agent"), changes=True),
    Operation("agents.move", "enrolment:move", "engineer", OfAgent("agent"), changes=True),
    Operation("agents.revoke", "enrolment:revoke", "engineer", OfAgent("agent"), changes=True),
    Operation("agents.adopt", "fleet:adopt", "admin", EVERY_SITE, changes=True),
    Operation("ca.list", "authorities:listing", "engineer", EVERY_SITE),
    Operation("ca.add", "authorities:add", "admin", EVERY_SITE, changes=True),
    Operation("ca.issue", "authorities:issue", "admin", EVERY_SITE, changes=True),
    Operation("ca.switch", "authorities:switch", "admin", EVERY_SITE, changes=True),
    Operation("ca.retire", "authorities:retire", "admin", EVERY_SITE, changes=True),
    # Commands to sites
    Operation("command.targets", "sitecommands:targets", "operator", OfTarget("target")),
    Operation("command.give", "sitecommands:give", "operator", OfTarget("target"), changes=True),
    Operation("command.states", "sitecommands:states", "operator", OWN_SITES),
    Operation("command.list", "sitecommands:listed", "operator", OWN_SITES),
    Operation("command.show", "sitecommands:show", "operator", OfCommand("prefix"), payloads=True),
    Operation("command.file", "sitecommands:file_of", "operator", OfCommand("prefix"), payloads=True),
    # People and what they did
    Operation("users.add", "people:add_user", "admin", EVERY_SITE, changes=True),
    Operation("users.list", "people:list_users", "admin", EVERY_SITE),
    Operation("users.grant", "people:grant_role", "admin", EVERY_SITE, changes=True),
    Operation("users.link", "people:link_user", "admin", EVERY_SITE, changes=True),
    Operation("users.revoke-role", "people:revoke_role", "admin", EVERY_SITE, changes=True),
    Operation("users.disable", "people:disable_user", "admin", EVERY_SITE, changes=True),
    Operation("users.remove", "people:remove_user", "admin", EVERY_SITE, changes=True),
    Operation("users.token.create", "people:create_token", "admin", EVERY_SITE, changes=True),
    Operation("users.token.list", "people:list_tokens", "admin", EVERY_SITE),
    Operation("users.token.revoke", "people:revoke_token", "admin", EVERY_SITE, changes=True),
    Operation("audit.list", "audit:audit_list", "admin", EVERY_SITE),
    Operation("audit.verify", "audit:audit_verify", "admin", EVERY_SITE),
)  # fmt: skip

BY_NAME = {operation.name: operation for operation in OPERATIONS}
BY_PLACE = {operation.place: operation for operation in OPERATIONS}
