"""Enrolments that wait, tokens that are open, and what was refused at the enrollment port."""

from __future__ import annotations

from collections.abc import Sequence

from crossdock_controller.commands.risks.risk import Risk
from crossdock_controller.commands.risks.said import ago, duration, plural
from crossdock_controller.store.enrolments import Enrolment
from crossdock_controller.store.refusals import OTHERS, Refusal
from crossdock_controller.store.tokens import Token

WAITING_SECONDS = 3600.0  # a person at the site may still be there
MANY = 20  # refusals of one day that are no typing errors any more
LONG_SECONDS = 86_400.0


def waiting(found: Sequence[Enrolment], now_us: int) -> list[Risk]:
    """Agents that nobody has let in yet."""
    return [
        Risk(
            "urgent" if now_us - one.first_us < WAITING_SECONDS * 1e6 else "soon", "approval", one.agent, 0,
            f"agent {one.agent} of site {one.site} waits for a person since {duration((now_us - one.first_us) / 1e6)}:"
            f" host {one.host or 'unnamed'}, code {one.code}",
            f"compare the code with the site's: crossdock agents approve {one.agent} --code {one.code}",
        )
        for one in found
    ]  # fmt: skip


def open_tokens(found: Sequence[Token], now_us: int) -> list[Risk]:
    """Doors that are open: who has the line can enrol."""
    return [
        Risk(
            "notice", "token", token.id, token.expires_us,
            f"join token {token.id} of site {token.site} is open for {plural(token.uses_left, 'use')} and"
            f" {duration((token.expires_us - now_us) / 1e6)}" + ("; a person approves each" if token.approve else ""),
            f"if it is not needed any more: crossdock token revoke {token.id}",
        )
        for token in found
        if token.state(now_us) == "open"
    ]  # fmt: skip


def refused(found: Sequence[Refusal], now_us: int) -> list[Risk]:
    """What the enrollment port refused in the last day: one for each token that two keys were used with, one for all
    the rest."""
    stolen = [r for r in found if r.kind == "token" and r.detail.startswith("other_key")]
    rest = [r for r in found if r not in stolen]
    risks = [
        Risk(
            "urgent", "token", row.subject, 0,
            f"join token {row.subject} was used with another key, from {row.address} ({row.detail.partition('; ')[2]}),"
            f" and refused: somebody else may have it (last {ago(row.last_us, now_us)})",
            "was it you? else find out who enrolled first: crossdock agents, and crossdock agents revoke NAME",
        )
        for row in stolen
    ]  # fmt: skip
    if rest:
        attempts, last = sum(r.count for r in rest), max(r.last_us for r in rest)
        most = max(rest, key=lambda r: r.count)
        where = "many addresses" if most.address == OTHERS else most.address
        risks.append(
            Risk(
                "soon" if attempts > MANY else "notice", "port", "enrollment port", 0,
                f"{plural(attempts, 'attempt')} to enrol refused in the last day, most from {where} ({most.kind}"
                f"{': ' + most.detail if most.detail else ''}), the last {ago(last, now_us)}",
                "is that a site with an old token? if not, close the enrollment port to that address",
            )
        )  # fmt: skip
    return risks
