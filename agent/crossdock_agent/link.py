"""A channel to the controller under this agent's identity, and what its failures mean.

Each stream makes a channel of its own for each attempt: the newest certificate is used, bulk data and control share no
connection, and the only reconnect schedule is the caller's backoff.
"""

from __future__ import annotations

import grpc
import grpc._common

from crossdock.errors import ControllerUnavailable, CrossdockError, Refused
from crossdock.tls import CLIENT_OPTIONS, mutual_credentials
from crossdock_agent.identity import IdentityStore

_HUNG_UP = ("Socket closed", "Connection reset", "Broken pipe")
_REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED: "was this agent revoked, or its certificate left to expire? enrol again",
    grpc.StatusCode.PERMISSION_DENIED: "see 'crossdock agents' there: was it revoked, or does another machine use it?",
    grpc.StatusCode.ALREADY_EXISTS: "another machine uses this identity (a clone?): enrol one of them again",
    grpc.StatusCode.INVALID_ARGUMENT: "do agent and controller fit together? see their versions",
    grpc.StatusCode.UNIMPLEMENTED: "is the address that of the controller's link port, and its version new enough?",
}


# grpcio looks ten times a second, on each idle stream, whether it was notified. It is, so once a second will do: two
# idle streams would cost 0.2% of a core. The name is grpcio's own; without it, nothing changes.
if hasattr(grpc._common, "MAXIMUM_WAIT_TIMEOUT"):
    grpc._common.MAXIMUM_WAIT_TIMEOUT = 1.0


class TurnedAway(ControllerUnavailable):
    """Somebody answers there and hangs up before a word is said: so a controller does to a certificate that ended, or
    that is of a CA it no longer knows."""


def open_channel(identities: IdentityStore, bundle: bytes | None = None) -> grpc.Channel:
    """Connects on first use, trusting *bundle* if given. Raises ConfigError when there is no identity."""
    identity, key = identities.pair()
    credentials = mutual_credentials(bundle or identity.ca_bundle, identity.certificate, key)
    options = [*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(identity.link_address, credentials, options=options)


def explain(error: grpc.RpcError, address: str) -> CrossdockError:
    """The error of a finished call as one of ours, naming *address* and the next step."""
    code = error.code() if isinstance(error, grpc.Call) else grpc.StatusCode.UNKNOWN
    details = (error.details() if isinstance(error, grpc.Call) else "") or code.name
    if code in _REFUSALS:
        return Refused(f"controller {address} refused: {details}", hint=_REFUSALS[code])
    hint = "is it running, and is this address reachable from here?"
    if "failed to connect" in details and any(said in details for said in _HUNG_UP):
        return TurnedAway(
            f"controller {address} closes the connection: {details}",
            hint="has this agent's certificate ended, or its CA retired there? it asks for a new one by itself",
        )
    if "CERTIFICATE" in details.upper() or "SSL" in details.upper() or "HANDSHAKE" in details.upper():
        hint = "certificates do not match: check the clock, and whether CA or certificate were replaced"
    return ControllerUnavailable(f"controller {address} is not available: {details}", hint=hint)
