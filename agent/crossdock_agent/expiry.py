"""A certificate that ran out cannot be renewed: a person must enrol the machine again, and is told how.

It runs out when the machine was away for longer than the certificate's life, or was restored from an old snapshot.
"""

from __future__ import annotations

from datetime import UTC, datetime

from crossdock_agent.identity import Identity
from crossdock_agent.problems import Problems

PROBLEM = "certificate expired"


def look(identity: Identity, problems: Problems, now_us: int) -> None:
    """Tell, or no longer, by this machine's clock."""
    if identity.expires_us > now_us:
        problems.clear(PROBLEM)
    else:
        problems.report(PROBLEM, sentence(identity))


def sentence(identity: Identity) -> str:
    ended = datetime.fromtimestamp(identity.expires_us / 1e6, UTC)
    return (
        f"the certificate of agent {identity.agent} ended on {ended:%Y-%m-%d %H:%M} UTC by this machine's clock, and "
        "the controller does not let it in; if the clock is right: on the controller 'crossdock token create --site "
        f"{identity.site} --agent {identity.agent}', here stop the agent, 'crossdock-agent enroll --token ...', start "
        "it; outbox and configuration stay, and collecting goes on meanwhile"
    )
