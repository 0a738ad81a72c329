"""A certificate that ran out cannot be renewed. What a person is told of it, at each stage of getting in again.

It runs out when the machine was away for longer than the certificate's life, or was restored from an old snapshot.
"""

from __future__ import annotations

from datetime import UTC, datetime

from crossdock_agent.identity import Identity

PROBLEM = "certificate expired"


def asking(identity: Identity, now_us: int, address: str) -> str:
    """While the controller is not reached."""
    return (
        f"{_ended(identity, now_us)}; this agent asks for a new one by itself at {address} and has not reached the "
        "controller yet; is that address reachable from here, and this machine's clock right? Collecting goes on"
    )


def waiting(identity: Identity, now_us: int, code: str) -> str:
    """While somebody there has to approve."""
    return (
        f"{_ended(identity, now_us)}; the new one waits for approval on the controller under the code {code}: tell it "
        "whoever runs the controller; collecting goes on meanwhile"
    )


def refused(identity: Identity, now_us: int, reason: str) -> str:
    """When the controller says no: the grace is over, the agent is revoked."""
    return f"{_ended(identity, now_us)}, and the controller gives no new one: {reason}; {_by_hand(identity)}"


def sentence(identity: Identity, now_us: int) -> str:
    """When the controller is of a release that lets nobody in again."""
    return f"{_ended(identity, now_us)}, and the controller does not let it in; {_by_hand(identity)}"


def _ended(identity: Identity, now_us: int) -> str:
    end = f"{datetime.fromtimestamp(identity.expires_us / 1e6, UTC):%Y-%m-%d %H:%M} UTC"
    if identity.expires_us > now_us:
        return (
            f"the controller hangs up on the certificate of agent {identity.agent}, which is good until {end} by this "
            "machine's clock"
        )
    return f"the certificate of agent {identity.agent} ended on {end} by this machine's clock"


def _by_hand(identity: Identity) -> str:
    return (
        f"if the clock is right: on the controller 'crossdock token create --site {identity.site} --agent "
        f"{identity.agent}', here stop the agent, 'crossdock-agent enroll --token ...', start it; outbox and "
        "configuration stay, and collecting goes on meanwhile"
    )
