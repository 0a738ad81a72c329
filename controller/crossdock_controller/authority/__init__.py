"""The private certificate authorities of a controller, in the data directory's `authority/`. One is enough until it is
to be replaced: then a second one takes over in phases (`states`), and no agent is left behind.

Several processes open the same directory: the controller, which takes up what commands change (`Authority.refresh`),
and the commands themselves, which exclude each other by a lock.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from crossdock.errors import Corrupt
from crossdock.lock import SingleInstance
from crossdock_controller.authority import files
from crossdock_controller.authority import states as phases
from crossdock_controller.authority.files import write_private
from crossdock_controller.authority.signer import (
    BACKDATE,
    CA_LIFE,
    SERVER_LIFE,
    UNREADABLE,
    Issued,
    ServerPair,
    Signer,
    public_key_of,
)
from crossdock_controller.authority.states import State, States, short

__all__ = [
    "BACKDATE", "CA_LIFE", "SERVER_LIFE", "UNREADABLE", "Authority", "Issued", "ServerPair", "Signer", "State",
    "public_key_of", "short", "token_hash", "write_private",
]  # fmt: skip


LOCK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Held:
    """What was read at one moment. *signers*: of those that are trusted, by fingerprint, in the order of making."""

    states: States
    signers: dict[str, Signer]
    signature: tuple[int, int, int]
    retired: bytes = b""  # PEM

    def one(self, flag: str) -> Signer:
        return next(self.signers[s.fingerprint] for s in self.states if getattr(s, flag))


class Authority:
    """Opened from a directory; `open` makes the first CA at the first start. Any thread may use it; each property is of
    what held at that moment."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held = _read(directory)

    @classmethod
    def open(cls, directory: Path) -> Authority:
        """Raises Corrupt when the list, a key or a certificate is damaged, or a pair does not belong together."""
        files.make_first(directory, dt.datetime.now(dt.UTC))
        return cls(directory)

    def refresh(self) -> bool:
        """Take up what a command changed meanwhile; whether there was anything. Raises Corrupt: what held goes on
        holding."""
        if files.signature(self._directory) == self._held.signature:
            return False
        self._held = _read(self._directory)
        return True

    # --- what is trusted

    @property
    def states(self) -> States:
        """All that ever were, in the order they were made."""
        return self._held.states

    @property
    def version(self) -> str:
        """Differs after each phase."""
        return files.version(self._held.states)

    @property
    def bundle(self) -> bytes:
        """The CA certificates an agent trusts, PEM, the oldest first."""
        return b"".join(signer.pem for signer in self._held.signers.values())

    @property
    def record(self) -> bytes:
        """PEM of all that ever were: what a retired one signed while it was trusted can still be checked."""
        return self._held.retired + self.bundle

    @property
    def bundle_fingerprints(self) -> tuple[str, ...]:
        """SHA-256, hex, of each certificate in `bundle`."""
        return tuple(self._held.signers)

    @property
    def fingerprint(self) -> str:
        """Of the one that serves."""
        return self._held.one("serving").fingerprint

    @property
    def issuer(self) -> str:
        """The fingerprint of the one that issues agents' certificates."""
        return self._held.one("issuing").fingerprint

    def ends(self) -> dict[str, dt.datetime]:
        """When each that is trusted ends, by fingerprint."""
        return {fingerprint: signer.ends for fingerprint, signer in self._held.signers.items()}

    def certificates(self) -> dict[str, str]:
        """PEM of each that is trusted, by fingerprint."""
        return {fingerprint: signer.pem.decode() for fingerprint, signer in self._held.signers.items()}

    @property
    def serves_until_us(self) -> int:
        """When the one that serves ends, and all that it signs, microseconds UTC."""
        return int(self._held.one("serving").ends.timestamp() * 1_000_000)

    def maker_of(self, certificate: x509.Certificate) -> str:
        """The fingerprint of the trusted CA that made *certificate*; "" when none did."""
        return next((s.fingerprint for s in self._held.signers.values() if s.made(certificate)), "")

    # --- what is signed

    def issue_agent(self, csr_pem: bytes, agent: str, life: dt.timedelta, now: dt.datetime) -> Issued:
        """See `Signer.issue_agent`."""
        return self._held.one("issuing").issue_agent(csr_pem, agent, life, now)

    def issue_server(self, names: Sequence[str], now: dt.datetime) -> ServerPair:
        """With the cross certificate behind it, if there is one: an agent that knows only the oldest CA follows it."""
        held = self._held
        pair = held.one("serving").issue_server(names, now)
        cross = phases.serving(held.states).crosses.get(_anchor(held, now), "")
        return replace(pair, certificate=pair.certificate + cross.encode())

    def sign(self, data: bytes, trusted: Collection[str] = ()) -> bytes:
        """A signature over *data* that an agent can check who trusts these; where nothing is known, the oldest."""
        return self._held.signers[self.signer_for(trusted)].sign(data)

    def signer_for(self, trusted: Collection[str]) -> str:
        """The fingerprint of the one that signs for who trusts these: the one that serves, if they do."""
        ours = list(self._held.signers)
        serving = self._held.one("serving").fingerprint
        if serving in trusted:
            return serving
        return next((f for f in reversed(ours) if f in trusted), ours[0])

    @property
    def anchor(self) -> str:
        """The fingerprint of the CA that every agent must trust at least, to follow the certificate the server shows
        now: the one that serves, or the oldest that vouches for it."""
        held = self._held
        return _anchor(held, dt.datetime.now(dt.UTC)) or held.one("serving").fingerprint

    def join_token(self, enrollment_address: str) -> tuple[str, str]:
        """(the token to paste at the site, the hash to store). It carries the `anchor`: nothing is trusted blindly."""
        secret = secrets.token_urlsafe(24)
        certificate = self._held.signers[self.anchor].certificate
        body = {
            "a": enrollment_address,
            "c": base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode(),
            "t": secret,
        }
        packed = base64.urlsafe_b64encode(json.dumps(body, separators=(",", ":")).encode()).rstrip(b"=")
        return "cd1_" + packed.decode(), token_hash(secret)

    # --- the phases; the caller has the lock, and has audited

    @staticmethod
    def lock(directory: Path) -> SingleInstance:
        """To be held while a phase is taken, and while the files are copied. Raises Refused after LOCK_SECONDS."""
        return SingleInstance(directory / "lock", LOCK_SECONDS)

    def prepared(self, now: dt.datetime, life: dt.timedelta = CA_LIFE) -> tuple[Signer, State]:
        """A new CA, vouched for by those before it; nothing is written. Raises ConfigError while another replacement is
        under way."""
        held = self._held
        new = Signer.make(now, life)
        earlier = [s for s in held.signers.values() if s.vouches and s.ends > now]
        state = State(
            new.fingerprint, f"{files.FIRST}-{new.fingerprint[:16]}", int(now.timestamp() * 1e6),
            crosses={s.fingerprint: s.cross(new, now).decode() for s in earlier},
        )  # fmt: skip
        phases.added(held.states, state)
        return new, state

    def added(self, new: Signer, state: State) -> State:
        """What was prepared is to be trusted by everybody from now on. Raises ConfigError."""
        after = phases.added(self._held.states, state)
        files.create(self._directory, new, state.file)
        self._write(after)
        return state

    def issuing(self) -> State:
        """The newest issues from now on. Raises ConfigError."""
        self._write(phases.issued(self._held.states))
        return phases.newest(self._held.states)

    def switched(self) -> State:
        """The one that issues serves from now on. Raises ConfigError."""
        self._write(phases.switched(self._held.states))
        return phases.serving(self._held.states)

    def retired(self, fingerprint: str, now_us: int) -> State:
        """This one is trusted no more, and its key is gone. Raises ConfigError."""
        self._write(phases.retired(self._held.states, fingerprint, now_us))
        return phases.find(self._held.states, fingerprint)

    def _write(self, after: States) -> None:
        files.write(self._directory, after)
        self._held = _read(self._directory)


def token_hash(secret: str) -> str:
    """What the store keeps of a join token: enough to recognise it, not to use it (192 random bits: no stretching)."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _read(directory: Path) -> _Held:
    while True:
        signature = files.signature(directory)
        try:
            found = files.read(directory)
            signers = {s.fingerprint: files.load(directory, s.file) for s in found if s.trusted}
        except Corrupt:
            if files.signature(directory) == signature:
                raise
        else:
            retired = b"".join(files.certificate(directory, s.file) for s in found if not s.trusted)
            return _Held(found, signers, signature, retired)
        # A command changed it while we read: now it is whole again.


def _anchor(held: _Held, now: dt.datetime) -> str:
    """The oldest CA that vouches for the one that serves; "" when none does.

    Whoever trusts any of ours trusts the oldest: it was in every bundle since. So one cross certificate serves all,
    and it must be one: of two for the same name, a verifier follows the first (measured with gRPC 1.85).
    """
    crosses = phases.serving(held.states).crosses
    return next((f for f, signer in held.signers.items() if f in crosses and signer.ends > now), "")
