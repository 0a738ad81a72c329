"""The story itself, act by act. Every act ends with something that must be true; if it is not, the demo fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from crossdock_controller.cli import account as account_view
from crossdock_controller.cli import dead as dead_view
from crossdock_controller.cli import trace as trace_view
from crossdock_controller.cli import words
from crossdock_controller.commands import account, configuration, dead, enrolment, fleet, status, trace
from crossdock_controller.demo.board import Board
from crossdock_controller.demo.business import (
    BAD_QUANTITY,
    BAD_SHIPMENT,
    ERP_SITE,
    FAMOUS_ORDER,
    GOOD_QUANTITY,
    SITES,
    Business,
    Day,
)
from crossdock_controller.demo.distributor import write_tree
from crossdock_controller.demo.plant import DemoFailed, Plant
from crossdock_controller.demo.stage import Stage, one_after_the_other
from crossdock_controller.demo.verify import check_all
from crossdock_controller.demo.webshop import Webshop

DRAIN_SECONDS = 90.0
SETTLE_SECONDS = 30.0
TICK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of business before, during and after the outage. All shrink with `--speed`."""

    morning: float = 9.0
    outage: float = 8.0
    afternoon: float = 3.0

    def faster(self, speed: float) -> Pace:
        return Pace(self.morning / speed, self.outage / speed, self.afternoon / speed)


class Story:
    def __init__(self, stage: Stage, plant: Plant, business: Business, webshop: Webshop, speed: float) -> None:
        self._stage = stage
        self._plant = plant
        self._business = business
        self._ledger = business.ledger
        self._webshop = webshop
        self._pace = Pace().faster(speed)
        self._tick_seconds = TICK_SECONDS / min(speed, 2.0)
        self._day: Day | None = None

    def tell(self) -> None:
        """All of it. Raises DemoFailed at the first thing that is not as it must be."""
        self.opening()
        self.morning()
        board = Board(self._plant, self._ledger)
        self.business_runs(board)
        self.outage(board)
        self.return_of_the_controller(board)
        self.proof(corrected=False)
        self.one_order()
        self.the_bad_record()
        self.closing()

    def close(self) -> None:
        """Stop the business, whatever happened."""
        if self._day is not None:
            day, self._day = self._day, None
            day.close()

    def open_day(self, seconds: float) -> None:
        """The business works on its own, a tick every *seconds*, until `close`."""
        self._day = Day(self._business, seconds)

    def opening(self) -> None:
        self._stage.open(
            "crossdock demo · a small distributor on a busy day",
            [
                "  [bold]atl1[/] Atlanta     WMS files ─────────┐              ┌─▶ [bold]finance[/] (SQL)",
                "  [bold]rtm1[/] Rotterdam   WMS files ─────────┼═ crossdock ══┼─▶ [bold]webshop[/] (HTTP)",
                "                   ERP database ──────┘              └─▶ [bold]archive[/] (files)",
                "",
                "Real processes, real mutual TLS, real files, on this machine only.",
                "In a minute you will have seen the controller die at the worst moment,",
                "and every single record arrive. Once.",
            ],
        )
        self._stage.pause(4.0)

    def morning(self) -> None:
        stage, plant = self._stage, self._plant
        stage.act(1, "The centre opens, the sites join")
        seconds = plant.start_controller()
        stage.done(f"controller up in {words.duration(seconds)}, with a certificate authority of its own")
        tree = write_tree(plant.directory / "config", self._business, self._webshop.url)
        applied = configuration.apply(plant.data, tree, "local:demo", "opening day", _now_us())
        parts = words.plural(len(applied.plan.changes), "part")
        stage.done(f"configuration applied: revision {applied.revision}, {parts}, one tree of YAML files")
        for site in SITES:
            token = enrolment.create_token(plant.data, site, "", 600.0, _now_us(), by="local:demo")
            plant.enroll(site, token.token)
            stage.done(f"[bold]{site}[/] enrolled: [dim]crossdock-agent enroll --token {token.token[:14]}…[/]")
        self._wait("the agents run revision 1", lambda: self._agents_run(applied.revision), SETTLE_SECONDS)
        stage.done("both agents run their part of revision 1, over mutual TLS")

    def business_runs(self, board: Board) -> None:
        stage, business, webshop = self._stage, self._business, self._webshop
        stage.act(2, "Business as usual")
        stage.say("The WMS drops files as it has since 2004: cp1252, decimal commas, fixed width.")
        stage.say("The ERP commits orders and invoices. Nobody tells crossdock when.")
        business.add_products()
        self.open_day(self._tick_seconds)
        began = time.monotonic()
        events = iter(
            [
                (lambda: time.monotonic() - began > self._pace.morning / 2, webshop.close_shop),
                (lambda: webshop.refused > 0, webshop.reopen),
                (lambda: True, business.plant_bad_record),
                (lambda: True, lambda: business.repeat_a_file("atl1")),
                (lambda: time.monotonic() - began > self._pace.morning, lambda: None),
            ]
        )
        if not stage.watch(board.picture, board.line, one_after_the_other(events), SETTLE_SECONDS + self._pace.morning):
            raise DemoFailed("the web shop was never asked while it was closed")
        stage.done("the web shop answered 503 for a moment: only its own documents waited")
        stage.done("someone typed a word over a number, and a WMS sent a file twice: we will see")

    def outage(self, board: Board) -> None:
        stage = self._stage
        stage.act(3, "The controller is killed")
        pid = self._plant.controller.pid
        self._plant.controller.kill()
        stage.say(f"[bold red]SIGKILL[/] to process {pid}: no goodbye, nothing flushed. The sites work on:")
        self._business.place_orders([FAMOUS_ORDER])
        began = time.monotonic()

        def long_enough() -> bool:
            return time.monotonic() - began >= self._pace.outage and sum(board.outboxes().values()) > 0

        if not stage.watch(board.picture, board.line, long_enough, self._pace.outage + SETTLE_SECONDS):
            raise DemoFailed("the outboxes did not fill while the controller was down")
        self._raise_for_dead_agents()
        waiting = words.plural(sum(board.outboxes().values()), "record")
        stage.done(f"{waiting} safe on disk at the sites, order {FAMOUS_ORDER} among them")

    def return_of_the_controller(self, board: Board) -> None:
        stage = self._stage
        stage.act(4, "It returns, and the backlog drains")
        seconds = self._plant.start_controller()
        stage.say(f"Up again after {words.duration(seconds)}; the agents find it by themselves.")
        began = time.monotonic()
        closed = began + self._pace.afternoon

        def drained() -> bool:
            if time.monotonic() < closed:
                return False
            self.close()
            return self._drained()

        if not stage.watch(board.picture, board.line, drained, DRAIN_SECONDS):
            self._explain_what_waits()
        stage.done(f"closing time: everything is delivered {words.duration(time.monotonic() - began)} after the return")

    def proof(self, *, corrected: bool) -> None:
        stage = self._stage
        if not corrected:
            stage.act(5, "The account")
            stage.command("crossdock account")
        found = account.account(self._plant.data, _now_us())
        if not corrected:
            account_view.show(found)
            self._repeated_file_was_recognised()
            stage.say("That is what crossdock says. Now what the systems say, against what was made:")
        data = self._plant.data.root
        checks = check_all(
            self._ledger, data / "finance.db", data / "archive", self._webshop, found, corrected=corrected
        )
        for check in checks:
            if check.differs:
                raise DemoFailed(f"{check.text}: {check.differs}")
            stage.done(check.text)

    def _repeated_file_was_recognised(self) -> None:
        def skipped() -> int:
            sources = [s for a in fleet.agents(self._plant.data, _now_us()) for s in a.sources]
            return sum(s.counters.get("duplicates_skipped", 0) for s in sources)

        self._wait("the file that came twice is noticed", lambda: skipped() == 1, SETTLE_SECONDS)
        self._stage.done("the file that the WMS sent twice was taken once: its content gave it away")

    def one_order(self) -> None:
        stage = self._stage
        stage.act(6, f"Where is order {FAMOUS_ORDER}?")
        stage.say("It was placed while the controller was dead.")
        stage.command(f"crossdock trace order {FAMOUS_ORDER}")
        found = trace.trace(self._plant.data, FAMOUS_ORDER, "order", by="local:demo", now_us=_now_us())
        trace_view.show(found)
        if not found.entries or not found.verdict.startswith("delivered to"):
            raise DemoFailed(f"order {FAMOUS_ORDER}: {found.verdict}")
        self._stage.pause(3.0)

    def the_bad_record(self) -> None:
        stage, data = self._stage, self._plant.data
        stage.act(7, "One bad record, mended by hand")
        stage.say(
            f"A shipment says [bold]{BAD_QUANTITY}[/] where a number belongs. It was set aside; nobody waited for it."
        )
        letters = dead.dead_list(data, by="local:demo", now_us=_now_us())
        if len(letters) != 1 or letters[0].records != 1:
            raise DemoFailed(f"expected one dead letter of one record, found {len(letters)}")
        letter = letters[0]
        stage.command(f"crossdock dead show {letter.id}")
        dead_view.show_one(letter)
        stage.command(f"crossdock dead retry {letter.id} --set QTY={GOOD_QUANTITY}")
        dead.dead_retry(data, letter.id, {"QTY": GOOD_QUANTITY}, "local:demo", "it says twelve")
        stage.say(f"[green]Dead letter {letter.id} is retried.[/]")
        key = f"{ERP_SITE}:{BAD_SHIPMENT}"
        self._wait(f"shipment {key} is delivered", lambda: self._delivered(key), SETTLE_SECONDS)
        stage.command(f"crossdock trace shipment {BAD_SHIPMENT}")
        trace_view.show(trace.trace(data, BAD_SHIPMENT, "shipment", by="local:demo", now_us=_now_us()))
        stage.pause(3.0)
        stage.say("And once more, everything against everything:")
        self.proof(corrected=True)

    def closing(self) -> None:
        found = account.account(self._plant.data, _now_us())
        self._stage.panel(
            "That was crossdock",
            [
                f"[bold]{words.count(found.total.in_)}[/] records, from {words.count(self._ledger.files)} files and"
                f" a database, became [bold]{words.count(self._ledger.documents)}[/] documents",
                "for three systems: through a crash, a closed shop, a file sent twice",
                f"and a typing error.  {account_view.verdict(found)}",
                "",
                "Go on from here:",
                "  [bold]make demo KEEP=1[/]                leave it running and play with it",
                "  [bold]docs/guide/quickstart.md[/]        your first site in ten minutes",
                "  [bold]examples/distributor/config[/]     the whole configuration you just saw",
            ],
        )

    def _agents_run(self, revision: int) -> bool:
        self._raise_for_dead_agents()
        found = fleet.agents(self._plant.data, _now_us())
        failed = [a for a in found if a.config_state == "failed"]
        if failed:
            raise DemoFailed(f"agent {failed[0].agent} refused the revision: {failed[0].config_reason}")
        return len(found) == len(SITES) and all(a.state == "connected" and a.revision == revision for a in found)

    def _drained(self) -> bool:
        """Everything that was made is in, and nothing is on its way any more."""
        self._raise_for_dead_agents()
        found = account.account(self._plant.data, _now_us())
        came = {(line.site, line.source): line.in_ for line in found.sources}
        return (
            all(came.get(key, 0) >= made for key, made in self._ledger.records.items())
            and not found.total.pending
            and not found.total.held
        )

    def _delivered(self, key: str) -> bool:
        found = trace.trace(self._plant.data, key, "shipment", by="local:demo", now_us=_now_us())
        return found.verdict.startswith("delivered to")

    def _explain_what_waits(self) -> None:
        found = account.account(self._plant.data, _now_us())
        account_view.show(found)
        raise DemoFailed(
            f"after {DRAIN_SECONDS:.0f} s {found.total.pending} records are pending and {found.total.held} held,"
            f" {found.total.in_} of {self._ledger.total} came in. "
            + "; ".join(status.status(self._plant.data, _now_us()).next),
            hint=f"the logs are in {self._plant.directory / 'logs'}",
        )

    def _raise_for_dead_agents(self) -> None:
        for part in self._plant.dead_parts():
            raise DemoFailed(f"{part.name} ended by itself:\n{part.last_words()}")

    def _wait(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        self._plant.wait_for(condition, what, self._plant.controller, seconds)


def _now_us() -> int:
    return time.time_ns() // 1000
