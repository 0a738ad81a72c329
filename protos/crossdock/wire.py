"""Which wire each side speaks, and what is said when the two do not fit.

Hello carries the newest protocol that the agent speaks, the welcome the one that is spoken. Within a protocol fields
are only ever added, and what came after its first release is a capability: it is used when both sides announced it.
Configuration offers, certificates and heartbeats belong to protocol 1 itself. Kinds of message that a side does not
know are ignored, with a note.
"""

from __future__ import annotations

from collections.abc import Iterable

from crossdock import __version__

PROTOCOL = 1
OLDEST_PROTOCOL = 1  # still spoken

CONFIG = "config"
CERTIFICATE = "certificate"
GIVE_BACK = "give-back"  # a restored controller gets back what it once acknowledged
TRUST = "trust"  # the directive that says which certificate authorities to trust from now on
COMMANDS = "commands"  # to a site, and their answers
WRITE_BACK = "write-back"  # deliveries to writers at the site, and their receipts
CAPABILITIES = (CONFIG, CERTIFICATE, GIVE_BACK, TRUST, COMMANDS, WRITE_BACK)


def common(announced: Iterable[str]) -> frozenset[str]:
    """What may be used with a peer that announced these."""
    return frozenset(CAPABILITIES).intersection(announced)


def misfit(ours: str, theirs: str, protocol: int, version: str, oldest: int = OLDEST_PROTOCOL) -> str:
    """Why a peer with *protocol* cannot be spoken to, and what to upgrade; "" when it can.

    *ours* and *theirs* are "this agent" and "the controller" or the reverse, in a sentence about *version* of the peer.
    """
    if oldest <= protocol <= PROTOCOL:
        return ""
    old, new = (theirs, ours) if protocol < oldest else (ours, theirs)
    spoken = str(PROTOCOL) if oldest == PROTOCOL else f"{oldest} to {PROTOCOL}"
    return (
        f"{theirs} (crossdock {version or 'unknown'}) speaks protocol {protocol}, {ours} (crossdock {__version__}) "
        f"speaks {spoken}: upgrade {old} to the release of {new}; the agent collects and keeps everything meanwhile"
    )
