"""Tokens of an OpenID Connect issuer: signed by a key that it publishes, for us, and in time.

Keys are fetched over HTTPS and kept; a token that names a key we do not know makes us look again, once in half a minute
at most. The algorithm follows from the key and never from the token: RS256 for RSA, ES256 for P-256, nothing else.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crossdock.errors import ConfigError, Retryable
from crossdock_controller.apisettings import OidcSettings

LEEWAY_SECONDS = 60.0  # so far the issuer's clock may be from ours
KEEP_SECONDS = 600.0  # a key that is withdrawn is forgotten within this time
AGAIN_SECONDS = 30.0  # between two looks for a key that we do not know
MAX_AGE_SECONDS = 86_400.0  # a token that was issued longer ago is refused, whatever it says of its own end
MAX_ANSWER_BYTES = 1024 * 1024
MIN_RSA_BITS = 2048
TIMEOUT_SECONDS = 10.0

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
Fetch = Callable[[str], bytes]


class Untrusted(Exception):  # noqa: N818 - names the verdict
    """Why a token is not to be believed; for the audit log, without anything of the token but names."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Keys come from where the issuer says, or not at all."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class Issuer:
    """May be used from any thread. *clock* is monotonic seconds."""

    def __init__(
        self, settings: OidcSettings, fetch: Fetch | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if urlsplit(settings.issuer).scheme != "https":
            raise ConfigError(f"the OIDC issuer {settings.issuer!r} is no https:// address")
        self.settings = settings
        self._fetch = fetch or _fetcher(settings.ca)
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: dict[str, tuple[str, Key]] = {}  # by key id: the algorithm and the key
        self._fetched = float("-inf")
        self._tried = float("-inf")

    def verified(self, token: str, now: float) -> str:
        """The value of the claim that names the user. Raises Untrusted, and Retryable when the keys cannot be had."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Untrusted("no signed token") from error
        if "crit" in header:
            raise Untrusted("a token with conditions that are not known here")
        algorithm, key = self._key(str(header.get("kid", "")))
        if header.get("alg") != algorithm:
            raise Untrusted(f"algorithm {str(header.get('alg'))[:20]!r} does not fit the issuer's key")
        try:
            claims = jwt.decode(
                token, key, algorithms=[algorithm], audience=self.settings.audience, issuer=self.settings.issuer,
                leeway=LEEWAY_SECONDS, options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise Untrusted(f"the token is not valid here: {error}") from error
        if now - float(claims["iat"]) > MAX_AGE_SECONDS + LEEWAY_SECONDS:
            raise Untrusted("the token was issued more than a day ago")
        return self._name(claims)

    def _name(self, claims: dict[str, Any]) -> str:
        value = claims.get(self.settings.claim)
        if not isinstance(value, str) or not value:
            raise Untrusted(f"the token has no claim {self.settings.claim!r}")
        if self.settings.claim == "email" and claims.get("email_verified") is not True:
            raise Untrusted("the issuer has not verified the e-mail address")
        return value

    def _key(self, name: str) -> tuple[str, Key]:
        with self._lock:
            now = self._clock()
            if now - self._fetched > KEEP_SECONDS or (name not in self._keys and now - self._tried > AGAIN_SECONDS):
                self._refresh(now)
            found = self._keys.get(name)
        if found is None:
            raise Untrusted("signed by a key that the issuer does not publish")
        return found

    def _refresh(self, now: float) -> None:
        """What cannot be fetched anew is used on for as long as it is kept; then nobody is believed."""
        if now - self._tried <= AGAIN_SECONDS and self._fetched == float("-inf"):
            raise Retryable("the OIDC issuer did not answer a moment ago", after_seconds=AGAIN_SECONDS)
        self._tried = now
        try:
            self._keys = self._published()
        except (OSError, ValueError, KeyError, TypeError) as error:
            if now - self._fetched > KEEP_SECONDS:
                self._keys, self._fetched = {}, float("-inf")
                raise Retryable(
                    f"the keys of the OIDC issuer {self.settings.issuer} cannot be fetched: {error}",
                    hint="is it reachable from the controller, and its certificate trusted (--oidc-ca)?",
                ) from error
            return
        self._fetched = now

    def _published(self) -> dict[str, tuple[str, Key]]:
        about = json.loads(self._fetch(self.settings.issuer.rstrip("/") + "/.well-known/openid-configuration"))
        if about["issuer"] != self.settings.issuer:
            raise ValueError(f"it calls itself {str(about['issuer'])[:200]!r}")
        if urlsplit(about["jwks_uri"]).scheme != "https":
            raise ValueError("its keys are not at an https:// address")
        found = {}
        for described in json.loads(self._fetch(about["jwks_uri"]))["keys"]:
            usable = _usable(described) if isinstance(described, dict) else None
            if usable is not None:
                found[str(described.get("kid", ""))] = usable
        if not found:
            raise ValueError("it publishes no key that can be used")
        return found


def _usable(described: dict[str, Any]) -> tuple[str, Key] | None:
    """(algorithm, key) of a published key for signatures; None for any other, and for those that are too weak."""
    if described.get("use", "sig") != "sig":
        return None
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(str(described.get("kty")))
    if algorithm is None or described.get("alg", algorithm) != algorithm:
        return None
    try:
        key = jwt.PyJWK(described, algorithm).key
    except jwt.PyJWTError:
        return None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return algorithm, key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return algorithm, key
    return None


def _fetcher(ca: str) -> Fetch:
    context = ssl.create_default_context(cafile=ca or None)
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), NoRedirects())

    def fetch(url: str) -> bytes:
        """Raises OSError, ValueError for what is too long."""
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            data: bytes = answer.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise ValueError(f"{url} answers with more than {MAX_ANSWER_BYTES} bytes")
        return data

    return fetch
