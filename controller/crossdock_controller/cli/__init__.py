"""`crossdock`: everything an operator asks or tells the controller. Each noun has a module of its own in this folder;
what a command does is in `crossdock_controller.commands`, so that API and console do exactly the same.
"""

from __future__ import annotations

import click

from crossdock import __version__
from crossdock_controller.cli.lazy import Entry, LazyGroup

_ENTRIES = {
    "controller": Entry("cli.controller:controller", "Run the controller."),
    "ca": Entry("cli.authorities:ca", "Certificate authorities, and replacing the one in use."),
    "token": Entry("cli.enrolment:token", "Join tokens: one line to paste at a site."),
    "agents": Entry("cli.enrolment:agents", "Agents: who is connected, who is behind, who has a problem."),
    "command": Entry("cli.command:command", "Ask a site something, or tell it: check, logs, pause ..."),
    "fleet": Entry("cli.risks:fleet", "Who will lock out and when: certificates, clocks, clones."),
    "plan": Entry("cli.configuration:plan", "What a configuration tree would change, and every error in it."),
    "apply": Entry("cli.configuration:apply", "Make a tree the next revision; sites get their part."),
    "history": Entry("cli.configuration:history", "Revisions: who changed what, when."),
    "diff": Entry("cli.approvals:diff", "One page: what a revision or a proposal changed, by whom and why."),
    "approvals": Entry("cli.approvals:approvals", "Changes that wait for a second person."),
    "approve": Entry("cli.approvals:approve", "Say yes to a change of someone else's."),
    "reject": Entry("cli.approvals:reject", "Say no to a change."),
    "config": Entry("cli.tree:config", "Sites, secrets, environments, promotion; the tree that runs as files."),
    "rollback": Entry("cli.configuration:rollback", "Go back: an old revision's tree becomes the next one."),
    "rollout": Entry("cli.rollout:rollout", "A revision on its way in waves: where it is; pause, halt, finish it."),
    "status": Entry("cli.status:status", "The whole picture on one page, and what to do next."),
    "top": Entry("cli.top:top", "Live: throughput, lag and backlog."),
    "trace": Entry("cli.trace:trace", "One document's way, from its file and line to every sink."),
    "get": Entry("cli.state:get", "A document as it is now, its versions, and what each system has of it."),
    "find": Entry("cli.state:find", "Documents by customer, item, order, time, site or state."),
    "reconcile": Entry("cli.reconcile:reconcile", "Do two systems agree? Compare now, or what the schedule found."),
    "account": Entry("cli.account:account", "Every record accounted for: nothing lost, nothing doubled."),
    "sinks": Entry("cli.sinks:sinks", "Destinations: how far each is; pause, drain, try one."),
    "replay": Entry("cli.replay:replay", "Send documents to a sink again, chosen and counted."),
    "mapping": Entry("cli.mapping:mapping", "Change a mapping: try, test, see what changes, replay."),
    "holds": Entry("cli.holds:holds", "Documents that a rule holds: look, release, discard."),
    "codes": Entry("cli.codes:codes", "Codes without a meaning: fill in once, and what waited goes on."),
    "writebacks": Entry("cli.writebacks:writebacks", "What went back to sites, and what they said."),
    "undo": Entry("cli.writebacks:undo", "Take back at a site what was written there."),
    "dead": Entry("cli.dead:dead", "Dead letters: look, correct, retry, discard."),
    "exceptions": Entry("cli.exceptions:exceptions", "What is wrong, whose it is, until when; settle a cause at once."),
    "backup": Entry("cli.backup:backup", "Copy the controller's data while it runs, verified."),
    "restore": Entry("cli.backup:restore", "Make the data what a backup holds; agents give back the rest."),
    "users": Entry("cli.users:users", "People: their roles, at which sites, and their API tokens."),
    "audit": Entry("cli.audit:audit", "Who did what; and the proof that nobody changed the record."),
    "worker": Entry("worker:run", ""),
    "web": Entry("web:run", ""),
    "demo": Entry("cli.demo:demo", "A small distributor, told as a story in a minute."),
}
_SECTIONS = {
    "See": ["status", "top", "get", "find", "trace", "reconcile", "account", "writebacks", "agents", "fleet"],
    "Mend": ["exceptions", "dead", "holds", "codes", "sinks", "replay", "undo", "command"],
    "Configure": [
        "plan",
        "apply",
        "mapping",
        "history",
        "diff",
        "approvals",
        "approve",
        "reject",
        "rollback",
        "rollout",
        "config",
        "token",
    ],
    "People": ["users", "audit"],
    "Run": ["controller", "ca", "backup", "restore", "demo"],
}


@click.group(
    cls=LazyGroup,
    entries=_ENTRIES,
    sections=_SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="New here? 'crossdock demo' shows all of it in a minute. Every reading command takes --json.",
)
@click.version_option(__version__, prog_name="crossdock")
@click.option(
    "--server", metavar="URL", envvar="CROSSDOCK_SERVER", help="Ask this controller's API (CROSSDOCK_SERVER)."
)
@click.option(
    "--ca", metavar="FILE", envvar="CROSSDOCK_CA", type=click.Path(dir_okay=False),
    help="Certificates that the server's is checked by (CROSSDOCK_CA).",
)  # fmt: skip
@click.option(
    "--token-file", metavar="FILE", envvar="CROSSDOCK_TOKEN_FILE", type=click.Path(dir_okay=False),
    help="The file with your API token; or the token in CROSSDOCK_TOKEN.",
)  # fmt: skip
def root(**_where: str | None) -> None:
    """Moves records from legacy files and databases to every system that needs them.

    Nothing lost, nothing doubled: 'crossdock account' proves it.
    """


def main() -> None:
    root(prog_name="crossdock")
