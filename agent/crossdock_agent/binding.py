"""An identity belongs to the machine it was made on. A state directory that was copied to another is not used there.

Two agents under one identity would take each other for a restored machine and lose or double records. A machine without
an id of its own (many containers) is not judged.
"""

from __future__ import annotations

from loguru import logger

from crossdock.errors import Refused
from crossdock_agent.identity import Identity, IdentityStore


def check(identities: IdentityStore, machine: str) -> None:
    """Raises Refused when *machine* (a digest, or empty) is not where the identity was made. One of before this was
    noted is bound to the machine it is found on."""
    identity = identities.current()
    judge(identity, machine)
    if not machine or identity.machine:
        return
    try:
        identities.update(machine=machine)
    except OSError as error:  # a full disk is emptied by the agent that runs
        logger.warning("the identity is not bound to this machine before the next start: {}", error)
        return
    logger.info("the identity is bound to this machine from now on")


def judge(identity: Identity, machine: str) -> None:
    """As `check`, and changes nothing."""
    if not machine or identity.machine in {"", machine}:
        return
    raise Refused(
        f"the identity of agent {identity.agent} (site {identity.site}) was made on another machine; its state "
        "directory was copied, or the machine was cloned, and nothing is read or sent under it here",
        hint="for a new agent here: on the controller 'crossdock token create --site SITE', here empty the state "
        "directory and 'crossdock-agent enroll --token ...'. If this machine replaces the other, which is off for "
        f"good: on the controller 'crossdock agents move {identity.agent}', here 'crossdock-agent bind'; outbox and "
        "configuration stay",
    )


def bind(identities: IdentityStore, machine: str) -> Identity:
    """The identity is this *machine*'s from now on: a person says that it replaces the one before. Whether that is so
    is the controller's to judge. Raises ConfigError when there is none."""
    identities.update(machine=machine)
    return identities.current()
