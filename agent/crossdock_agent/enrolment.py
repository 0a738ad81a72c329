"""A join token becomes an identity. The key is made here, and only the controller that the token names is trusted.

Key and request are kept until the answer is stored, so that the same request is sent again after a crash, a lost answer
or a night of waiting for somebody to approve it. They lie beside the identity, readable by the owner only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from loguru import logger

from crossdock.errors import UNREADABLE, ControllerUnavailable, CrossdockError, Refused, Retryable
from crossdock.machine import key_code, machine_digest
from crossdock.v1.enrollment_pb2 import EnrollRequest, EnrollResponse
from crossdock_agent.asking import about_here, ask, identity_of, retry_seconds
from crossdock_agent.files import private_directory, write_atomic
from crossdock_agent.identity import Identity, IdentityStore, JoinToken, parse_token

WAIT_SECONDS = 3600.0  # for the approval


class KeptRequest(msgspec.Struct, frozen=True):
    """*token* is a digest of the join token that it was made for."""

    token: str
    key: bytes
    csr: bytes


def enroll(
    text: str,
    state: Path,
    *,
    wait_seconds: float = WAIT_SECONDS,
    say: Callable[[str], None] = lambda _sentence: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Identity:
    """Exchange the join token *text* for an identity stored in *state*, and wait for a person's approval if it must be.

    Raises ConfigError (not a token), ControllerUnavailable, Retryable (not approved in *wait_seconds*; the same call
    goes on waiting), or Refused (used, expired, denied, not the controller it names).
    """
    from crossdock_agent import crypto

    token = parse_token(text)
    kept = _Kept(state, text)
    request = kept.open()
    try:
        answer = _approved(token, request, wait_seconds, say, sleep)
        agent, expires_us = crypto.certificate_facts(answer.certificate, request.key)
        machine = machine_digest()
        identity = identity_of(answer, agent, expires_us, machine=machine, asked_at=token.address)
    except Refused:
        kept.forget()  # whatever comes next begins with a key of its own
        raise
    IdentityStore(state).save(identity, request.key)
    kept.forget()
    logger.bind(agent=agent, site=answer.site).info("enrolled")
    return identity


class _Kept:
    """The request on its way, in `<state>/identity/request.json`."""

    def __init__(self, state: Path, token: str) -> None:
        self._path = state / "identity" / "request.json"
        self._token = hashlib.sha256(token.strip().encode()).hexdigest()

    def open(self) -> KeptRequest:
        """The one that was sent for this token already, or a new one."""
        from crossdock_agent import crypto

        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=KeptRequest)
            if kept.token == self._token:
                return kept
        except FileNotFoundError:
            pass  # the first time
        except (OSError, *UNREADABLE) as error:
            logger.bind(file=str(self._path)).warning("the request kept cannot be read, a new one is made: {}", error)
        made = KeptRequest(self._token, *crypto.new_key_and_request())
        private_directory(self._path.parent)
        write_atomic(self._path, msgspec.json.encode(made), private=True)
        return made

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # an identity lies beside it
            self._path.parent.rmdir()


def _approved(
    token: JoinToken,
    kept: KeptRequest,
    wait_seconds: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None],
) -> EnrollResponse:
    """The answer with a certificate. While it waits, an outage of the controller is waited out too."""
    from crossdock_agent import crypto

    authority = crypto.pem_of_der(token.ca_der)
    request = EnrollRequest(token=token.secret, csr=kept.csr, **about_here(machine_digest()))
    deadline = time.monotonic() + wait_seconds
    code = ""
    while True:
        pause = 0.0
        try:
            answer = ask(token.address, authority, request)
        except ControllerUnavailable as error:
            if not code or time.monotonic() >= deadline:
                raise
            say(f"the controller cannot be asked just now, waiting on: {error.message}")
        else:
            if not answer.pending:
                return answer
            if not code:
                code = key_code(crypto.public_key_of(kept.csr))
                say(_waiting(code, answer.agent or "NAME", wait_seconds))
            pause = retry_seconds(answer)
        if time.monotonic() >= deadline:
            raise Retryable(
                f"request {code} is not approved yet",
                hint="give the same command again to go on waiting (the request is kept), and have it approved there",
            )
        sleep(min(pause or 5.0, max(0.5, deadline - time.monotonic())))


def _waiting(code: str, agent: str, seconds: float) -> str:
    return (
        f"waiting for approval, code {code}\n"
        "  Next: tell whoever runs the controller this code by telephone; they compare it with 'crossdock agents "
        f"pending' there, and let this machine in with 'crossdock agents approve {agent} --code {code}'.\n"
        f"  This command waits {seconds / 60:.0f} minutes; stopped earlier, give it again: the request stays the same."
    )


def seconds_of(text: str) -> float:
    """*text* such as 90s, 10m, 2h or 0, in seconds. Raises CrossdockError."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        seconds = float(number) * units[unit]
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 30 * 86400:
        raise CrossdockError(f"{text!r} is not a time to wait", hint="write 90s, 10m, 2h or 0")
    return seconds
