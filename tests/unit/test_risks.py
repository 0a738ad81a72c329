"""Who will lock out and when: the levels, the sentences, and nothing said of who is well."""

import json
import socket
import ssl
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossdock_controller.commands.authorities import Authorities, AuthorityView
from crossdock_controller.commands.authority_needs import Need
from crossdock_controller.commands.fleet import AgentView, OutboxHealth
from crossdock_controller.commands.risks import agents, api, authorities, joining, lives
from crossdock_controller.commands.risks.lives import Life
from crossdock_controller.commands.risks.risk import DAY_US, LEVELS, Risk, alarm, in_order
from crossdock_controller.store import certificates, connection, migrate
from crossdock_controller.store.certificates import Certificate
from crossdock_controller.store.enrolments import Enrolment
from crossdock_controller.store.machines import Machine
from crossdock_controller.store.people import TokenRow
from crossdock_controller.store.refusals import Refusal
from crossdock_controller.store.tokens import Token
from support.certificates import self_signed

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000


def agent(name: str = "atl1", state: str = "connected", **changes: object) -> AgentView:
    fields = {
        "agent": name, "site": "atl1", "state": state, "last_seen_us": NOW, "host": "wms-01", "platform": "",
        "revision": 1, "version": "0.1.0", "desired_revision": 1, "config_state": "applied", "config_reason": "",
        "certificate_expires_us": 0, "clock_offset_us": 0, "outbox": OutboxHealth(),
    } | changes  # fmt: skip
    return AgentView(**fields)  # type: ignore[arg-type]


def of_certificate(state: str, issued_us: int, expires_us: int, grace_us: int = 0, **changes: object) -> list[Risk]:
    return lives.certificates([agent(state=state, **changes)], {"atl1": Life(issued_us, expires_us)}, grace_us, NOW)


@pytest.mark.parametrize(
    ("left", "life", "level"),
    [
        (31 * DAY_US, 3650 * DAY_US, ""), (30 * DAY_US, 3650 * DAY_US, "notice"), (14 * DAY_US, 365 * DAY_US, "soon"),
        (7 * DAY_US, 365 * DAY_US, "urgent"), (DAY_US, 365 * DAY_US, "critical"), (0, DAY_US, "locked"),
        (9 * HOUR, DAY_US, ""), (8 * HOUR, DAY_US, "notice"), (3 * HOUR, DAY_US, "soon"), (HOUR, DAY_US, "urgent"),
        (15 * 60_000_000, DAY_US, "critical"), (-5, DAY_US, "locked"),
        (3_000_000, 9_000_000, "notice"), (100_000, 9_000_000, "critical"),
    ],
)  # fmt: skip
def test_alarms_come_at_30_14_7_and_1_day_or_at_the_same_shares_of_a_shorter_life(
    left: int, life: int, level: str
) -> None:
    assert alarm(left, life) == level


@given(st.integers(1, 4000 * DAY_US), st.integers(-DAY_US, 4000 * DAY_US), st.integers(0, DAY_US))
def test_an_alarm_never_calms_down_as_time_goes_by(life: int, left: int, passed: int) -> None:
    order = [*LEVELS, ""]
    assert order.index(alarm(left - passed, life)) <= order.index(alarm(left, life))


def test_a_connected_agent_that_renews_in_time_is_not_spoken_of() -> None:
    assert of_certificate("connected", NOW - 15 * HOUR, NOW + 9 * HOUR) == []
    assert of_certificate("connected", NOW - 16 * HOUR - 60_000_000, NOW + 8 * HOUR - 60_000_000) == []
    assert of_certificate("offline", NOW - HOUR, NOW + 23 * HOUR, 30 * DAY_US) == []


def test_a_renewal_that_fails_is_told_with_the_agents_own_reason_and_when_the_certificate_ends() -> None:
    (risk,) = of_certificate(
        "connected", NOW - 18 * HOUR, NOW + 6 * HOUR, 30 * DAY_US,
        problems=["the certificate cannot be renewed: disk full", "another"],
    )  # fmt: skip
    assert (risk.level, risk.kind, risk.at_us) == ("notice", "renewal", NOW + 6 * HOUR)
    assert "2 h ago, which ends in 6 h: the certificate cannot be renewed: disk full" in risk.sentence
    (late,) = of_certificate("connected", NOW - 23 * HOUR, NOW + HOUR)
    assert (late.level, late.pressing) == ("urgent", True)


def test_an_agent_that_is_away_is_locked_out_when_its_grace_ends_and_not_before() -> None:
    (away,) = of_certificate("offline", NOW - 34 * HOUR, NOW - 10 * HOUR, 30 * DAY_US)
    assert (away.level, away.at_us) == ("notice", NOW - 10 * HOUR + 30 * DAY_US)
    assert "ended 10 h ago; it can come back by itself for 29 d 14 h more" in away.sentence
    (near,) = of_certificate("offline", NOW - 29 * DAY_US, NOW - 28 * DAY_US, 30 * DAY_US)
    assert near.level == "urgent"
    (locked,) = of_certificate("offline", NOW - 33 * DAY_US, NOW - 32 * DAY_US, 30 * DAY_US)
    assert (locked.level, locked.next.startswith("crossdock token create --site atl1 --agent atl1")) == ("locked", True)
    assert of_certificate("revoked", NOW - 33 * DAY_US, NOW - 32 * DAY_US) == []


def test_what_the_ledger_does_not_know_is_judged_by_what_the_agent_said() -> None:
    known = lives.life_of(agent(certificate_expires_us=NOW - 1), None)
    assert known == Life(0, NOW - 1)
    (risk,) = lives.certificates([agent(state="offline")], {"atl1": known}, 0, NOW)
    assert risk.level == "locked"
    assert lives.life_of(agent(), None) is None
    assert lives.certificates([agent(state="offline")], {}, 0, NOW) == []


def test_what_an_agent_holds_is_its_last_used_certificate_or_one_it_has_not_used_yet(tmp_path: Path) -> None:
    migrate(tmp_path / "state.db")
    with closing(connection.connect(tmp_path / "state.db")) as db:
        assert certificates.newest(db) == {}
        for serial, issued_us, expires_us in (("a", 1, 90), ("b", 2, 50), ("c", 3, 60)):
            shown = Certificate(serial, "atl1", "ca", "key", issued_us, expires_us)
            certificates.record(db, shown)
            if serial != "c":
                certificates.used(db, shown, 5)
        assert certificates.newest(db) == {"atl1": (3, 60)}  # of what outlives it, the first is refused by now


def clock(off_us: int, server_left_us: int = 20 * DAY_US, life_us: int = DAY_US) -> list[str]:
    lives_of = {"atl1": Life(NOW, NOW + life_us)}
    found = agents.clocks([agent(clock_offset_us=off_us)], lives_of, NOW + server_left_us, NOW)
    return [f"{r.level}: {r.sentence}" for r in found]


def test_a_clock_is_told_by_what_it_leads_to() -> None:
    assert clock(4_000_000) == []
    assert clock(-60_000_000) == ["notice: the clock of agent atl1 is 60 s behind ours"]
    assert clock(2 * HOUR) == ["soon: the clock of agent atl1 is 2 h ahead of ours"]
    (late,) = clock(-13 * HOUR)
    assert late.startswith("urgent:")
    assert late.endswith("renews its certificate only after that has ended")
    assert "renews it all the time" in clock(30 * HOUR)[0]
    assert "not yet valid" in clock(-8 * DAY_US)[0]
    assert "takes our certificate for ended" in clock(21 * DAY_US)[0]


def test_old_releases_and_protocols_are_told_apart_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "__version__", "1.10.0")
    found = agents.releases(
        [
            agent("a", version="1.9.2"), agent("b", version="1.10.0"), agent("c", version="2.0.0"),
            agent("d", version="dev"), agent("e", version="0.1", state="revoked"),
            agent("f", version="0.1", own_problems=["agent f (crossdock 0.1) speaks protocol 0, ..."]),
        ]
    )  # fmt: skip
    assert [(r.subject, r.level, r.kind) for r in found] == [("a", "notice", "version"), ("f", "locked", "protocol")]


def refusal(kind: str, address: str = "10.0.0.9", count: int = 1, ago_us: int = 0, detail: str = "") -> Refusal:
    return Refusal(kind, "atl1", address, count, NOW - HOUR, NOW - ago_us, NOW, detail)


def test_a_clone_is_urgent_while_it_tries_and_still_told_when_it_has_stopped() -> None:
    rows = [refusal("twin", detail="copy"), refusal("machine", count=7, ago_us=HOUR), refusal("outdated")]
    twin, machine, outdated = agents.copies(rows, {"atl1": "atlanta"}, NOW)
    assert (twin.level, machine.level, outdated.level) == ("urgent", "soon", "urgent")
    assert "on copy" in twin.sentence
    assert "7 times, last 1 h ago" in machine.sentence
    assert "--site atlanta --agent atl1" in outdated.next
    assert "crossdock agents move atl1" in machine.next


def test_a_token_that_two_keys_were_used_with_stands_out_from_typing_errors() -> None:
    rows = [
        refusal("token", detail="other_key; host thief"),
        refusal("token", detail="expired; host x"),
        refusal("flood"),
    ]
    stolen, rest = joining.refused(rows, NOW)
    assert (stolen.level, rest.level) == ("urgent", "notice")
    assert "host thief" in stolen.sentence
    assert "2 attempts" in rest.sentence
    (many,) = joining.refused([refusal("flood", count=900)], NOW)
    assert many.level == "soon"
    assert joining.refused([], NOW) == []


def test_who_waits_what_is_open_and_what_may_move_is_told_with_its_command() -> None:
    waits = Enrolment(
        1, "t", "k", "AAAAA-BBBBB", "atl1", "atl1", "wms-01", "", "", "", "", "pending", NOW, NOW, 0, "", ""
    )  # fmt: skip
    (waiting,) = joining.waiting([waits], NOW)
    assert (waiting.level, waiting.next.endswith("approve atl1 --code AAAAA-BBBBB")) == ("urgent", True)
    token = Token("abcdefgh00", "atl1", "", 5, 3, NOW + HOUR, NOW, True, "", 0)
    (opened,) = joining.open_tokens([token, Token("x", "a", "a", 1, 0, NOW + HOUR, NOW, False, "", 0)], NOW)
    assert "abcdefgh of site atl1 is open for 3 uses and 1 h; a person approves each" in opened.sentence
    (moving,) = agents.moves([Machine("atl1", "m", "h", 0, NOW - HOUR), Machine("b", "m", "h", 0, 0)], NOW)
    assert "for 23 h more" in moving.sentence


def test_the_controllers_own_certificates_have_alarms_too() -> None:
    def known(ends_us: int, *needs: Need) -> Authorities:
        view = AuthorityView("f" * 64, "serving", NOW - 3000 * DAY_US, ends_us, 0, 1, 1, [], list(needs))
        return Authorities([view], 1, 30 * DAY_US, 0, "")

    assert authorities.endings(known(NOW + 400 * DAY_US), NOW) == []
    (ending,) = authorities.endings(known(NOW + 13 * DAY_US), NOW)
    assert (ending.level, ending.next) == ("soon", "replace it in phases: crossdock ca add")
    assert [r.level for r in authorities.noted(NOW + 3 * DAY_US, NOW)] == ["urgent"]
    assert authorities.noted(0, NOW) == authorities.noted(NOW + 60 * DAY_US, NOW) == []
    assert authorities.server(NOW + 10 * DAY_US, NOW) == authorities.server(0, NOW) == []
    (server,) = authorities.server(NOW + DAY_US, NOW)
    assert (server.level, server.kind) == ("urgent", "server")
    (lacks,) = authorities.lacking(known(0, Need("rtm1", "has not confirmed that it trusts x", "let it connect")))
    assert (lacks.subject, lacks.next) == ("rtm1", "let it connect")


def test_tokens_of_the_api_have_alarms_unless_they_were_made_to_end() -> None:
    def told(life_us: int, left_us: int, used_us: int = NOW - HOUR, revoked_us: int = 0) -> list[str]:
        row = TokenRow("t1", "anna", "ci", NOW + left_us - life_us, "", NOW + left_us, used_us, revoked_us)
        return [f"{r.level}: {r.sentence}" for r in api.tokens([row], NOW)]

    assert told(365 * DAY_US, 31 * DAY_US) == []
    assert told(365 * DAY_US, 6 * DAY_US) == ["urgent: API token t1 of anna (ci) ends in 6 d"]
    assert told(365 * DAY_US, 6 * DAY_US, used_us=0)[0].endswith("never used")
    assert told(DAY_US, HOUR) == []
    assert told(365 * DAY_US, -DAY_US, used_us=NOW - 2 * DAY_US)[0].startswith("locked: ")
    assert told(365 * DAY_US, -DAY_US, used_us=NOW - 30 * DAY_US) == []
    assert told(365 * DAY_US, -8 * DAY_US, used_us=NOW - 9 * DAY_US) == []
    assert told(365 * DAY_US, 6 * DAY_US, revoked_us=5) == []


def test_the_certificate_that_the_api_shows_is_judged_whoever_made_it(tmp_path: Path) -> None:
    pair = self_signed(tmp_path)  # for a day from now on
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    address, now_us = tmp_path / "api.json", int(time.time() * 1e6)
    assert api.certificate(address, now_us) == []
    with socket.create_server(("127.0.0.1", 0)) as server:
        address.write_text(json.dumps({"url": f"https://0.0.0.0:{server.getsockname()[1]}", "pid": 1}))

        def serve() -> None:
            for _ in range(3):
                raw, _peer = server.accept()
                with context.wrap_socket(raw, server_side=True):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        found = [api.certificate(address, now_us + hours * HOUR) for hours in (1, 23, 25)]
        thread.join()
    assert [[r.level for r in risks] for risks in found] == [[], ["urgent"], ["locked"]]
    assert api.certificate(address, now_us) == []  # nobody answers


def test_the_most_urgent_stands_first_and_what_has_a_time_before_what_has_none() -> None:
    made = [Risk(level, "k", f"{level}{at}", at, "", "") for level in reversed(LEVELS) for at in (0, 5, 3)]
    assert [r.subject for r in in_order(made)][:4] == ["locked3", "locked5", "locked0", "critical3"]
