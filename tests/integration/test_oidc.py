"""Tokens of a real issuer: over HTTPS, with keys that change, and with everything that must not be believed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from crossdock.errors import ConfigError, Retryable
from crossdock_controller.api import oidc
from crossdock_controller.api.identify import Identifier, Unknown
from crossdock_controller.apisettings import OidcSettings
from crossdock_controller.commands import people
from support import issuer as issuers
from support.issuer import AUDIENCE
from support.people import started
from support.pipeline import Box


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[issuers.Issuer, Path]]:
    with issuers.running(tmp_path) as running:
        yield running


def _verifier(site: tuple[issuers.Issuer, Path], claim: str = "sub", clock: Clock | None = None) -> oidc.Issuer:
    return oidc.Issuer(OidcSettings(site[0].url, AUDIENCE, claim, str(site[1])), clock=clock or Clock())


def test_a_token_of_the_issuer_names_its_subject_by_rsa_and_by_p256(site: tuple[issuers.Issuer, Path]) -> None:
    verifier = _verifier(site)
    assert verifier.verified(site[0].token(), time.time()) == "sub-anna"
    site[0].add("ec-1", ec.generate_private_key(ec.SECP256R1()))
    again = _verifier(site)
    assert again.verified(site[0].token("ec-1"), time.time()) == "sub-anna"
    assert again.verified(site[0].token("rsa-1", aud=[AUDIENCE, "other"]), time.time()) == "sub-anna"
    assert site[0].asked["/keys"] == 2, "each verifier asked once"


def test_who_is_out_of_time_meant_for_others_or_incomplete_is_not_believed(site: tuple[issuers.Issuer, Path]) -> None:
    now = int(time.time())
    verifier = _verifier(site)
    for name, changes in {
        "expired": {"exp": now - 61},
        "not yet valid": {"nbf": now + 120},
        "issued in the future": {"iat": now + 120, "exp": now + 300},
        "issued long ago": {"iat": now - 2 * 86_400, "exp": now + 300},
        "another audience": {"aud": "elsewhere"},
        "another issuer": {"iss": "https://localhost:1"},
        "a prefix of the issuer": {"iss": site[0].url + "/"},
        "no end": {"exp": None},
        "no audience": {"aud": None},
        "no subject": {"sub": None},
        "no issuer": {"iss": None},
        "no time of issue": {"iat": None},
    }.items():
        with pytest.raises(oidc.Untrusted):
            pytest.fail(f"{name}: believed as {verifier.verified(site[0].token(**changes), time.time())}")
    within = site[0].token(exp=now - 30, nbf=now + 30, iat=now - 90)
    assert verifier.verified(within, time.time()) == "sub-anna", "clocks differ by seconds"


def _parts(header: dict[str, object], claims: dict[str, object]) -> bytes:
    return b".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims))


def test_the_algorithm_is_the_keys_and_never_the_tokens(site: tuple[issuers.Issuer, Path]) -> None:
    issuer = site[0]
    issuer.add("ec-1", ec.generate_private_key(ec.SECP256R1()))
    verifier = _verifier(site)
    public = issuer.keys["rsa-1"].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )  # fmt: skip

    def hs256(secret: bytes, kid: str) -> str:
        text = _parts({"alg": "HS256", "kid": kid, "typ": "JWT"}, issuer.claims())
        signature = base64.urlsafe_b64encode(hmac.new(secret, text, hashlib.sha256).digest()).rstrip(b"=")
        return (text + b"." + signature).decode()

    none = _parts({"alg": "none", "kid": "rsa-1"}, issuer.claims()).decode() + "."
    stripped = issuer.token("rsa-1").rpartition(".")[0] + "."
    stranger = rsa.generate_private_key(65537, 2048)
    own_key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(stranger.public_key()))
    for name, token in {
        "no signature at all": none,
        "alg none in other letters": _parts({"alg": "nOnE", "kid": "rsa-1"}, issuer.claims()).decode() + ".",
        "the signature taken off": stripped,
        "HMAC with the public key": hs256(public, "rsa-1"),
        "HMAC with the public key, without its last line end": hs256(public.rstrip(), "rsa-1"),
        "HMAC with nothing": hs256(b"", "rsa-1"),
        "RS512": jwt.encode(issuer.claims(), issuer.keys["rsa-1"], "RS512", {"kid": "rsa-1"}),
        "PS256": jwt.encode(issuer.claims(), issuer.keys["rsa-1"], "PS256", {"kid": "rsa-1"}),
        "the key id of another algorithm": jwt.encode(issuer.claims(), issuer.keys["rsa-1"], "RS256", {"kid": "ec-1"}),
        "a stranger's key under a known id": jwt.encode(issuer.claims(), stranger, "RS256", {"kid": "rsa-1"}),
        "a stranger's key in the header": jwt.encode(
            issuer.claims(), stranger, "RS256", {"kid": "rsa-1", "jwk": own_key}
        ),
        "a stranger's keys by address": jwt.encode(
            issuer.claims(), stranger, "RS256", {"kid": "mine", "jku": f"{issuer.url}/mine"}
        ),
        "no key id": jwt.encode(issuer.claims(), issuer.keys["rsa-1"], "RS256"),
        "conditions": issuer.token("rsa-1", {"crit": ["exp"]}),
        "claims changed": issuer.token("rsa-1").replace(".", ".e30", 1),
        "not a token": "a.b.c",
        "nothing": "..",
    }.items():  # fmt: skip
        with pytest.raises(oidc.Untrusted):
            pytest.fail(f"{name}: believed as {verifier.verified(token, time.time())}")


def test_keys_that_change_are_found_and_a_guesser_of_key_ids_does_not_make_us_ask_again_and_again(
    site: tuple[issuers.Issuer, Path],
) -> None:
    clock = Clock()
    verifier = _verifier(site, clock=clock)
    old = site[0].token()
    assert verifier.verified(old, time.time()) == "sub-anna"
    clock.now += 31
    site[0].add("rsa-2", rsa.generate_private_key(65537, 2048))
    assert verifier.verified(site[0].token("rsa-2"), time.time()) == "sub-anna", "looked for at once"
    asked = site[0].asked["/keys"]
    stranger = rsa.generate_private_key(65537, 2048)
    for i in range(20):
        with pytest.raises(oidc.Untrusted):
            verifier.verified(jwt.encode(site[0].claims(), stranger, "RS256", {"kid": f"guess-{i}"}), time.time())
    assert site[0].asked["/keys"] == asked, "one look in half a minute"
    del site[0].keys["rsa-1"]
    assert verifier.verified(old, time.time()) == "sub-anna", "kept for a while"
    clock.now += 601
    with pytest.raises(oidc.Untrusted):
        verifier.verified(old, time.time())


def test_an_issuer_that_is_away_is_waited_for_and_its_keys_are_not_believed_for_ever(
    site: tuple[issuers.Issuer, Path],
) -> None:
    clock = Clock()
    verifier = _verifier(site, clock=clock)
    token = site[0].token()
    site[0].pages["/keys"] = b"nonsense"
    with pytest.raises(Retryable, match="cannot be fetched"):
        verifier.verified(token, time.time())
    asked = site[0].asked["/keys"]
    with pytest.raises(Retryable, match="a moment ago"):
        verifier.verified(token, time.time())
    assert site[0].asked["/keys"] == asked
    clock.now += 31
    del site[0].pages["/keys"]
    assert verifier.verified(token, time.time()) == "sub-anna"
    site[0].pages["/keys"] = b"nonsense"
    clock.now += 300
    assert verifier.verified(token, time.time()) == "sub-anna"
    clock.now += 301
    with pytest.raises(Retryable):
        verifier.verified(token, time.time())


@pytest.mark.parametrize(
    ("page", "content"),
    [
        ("/.well-known/openid-configuration", b'{"issuer": "https://elsewhere", "jwks_uri": "https://localhost/keys"}'),
        ("/.well-known/openid-configuration", b"redirect https://elsewhere/"),
        ("/.well-known/openid-configuration", b"[]"),
        ("/keys", b"redirect https://elsewhere/"),
        ("/keys", b'{"keys": "none"}'),
        ("/keys", b" " * (1024 * 1024 + 1)),
    ],
)
def test_an_issuer_that_leads_elsewhere_or_talks_nonsense_is_not_followed(
    site: tuple[issuers.Issuer, Path], page: str, content: bytes
) -> None:
    site[0].pages[page] = content
    with pytest.raises(Retryable):
        _verifier(site).verified(site[0].token(), time.time())


def test_keys_over_plain_http_or_an_issuer_over_it_are_refused(site: tuple[issuers.Issuer, Path]) -> None:
    with pytest.raises(ConfigError, match="no https"):
        oidc.Issuer(OidcSettings("http://localhost", AUDIENCE))
    site[0].about["jwks_uri"] = "http://localhost/keys"
    with pytest.raises(Retryable, match="not at an https"):
        _verifier(site).verified(site[0].token(), time.time())


def test_an_issuer_whose_certificate_is_of_another_authority_is_not_asked(
    site: tuple[issuers.Issuer, Path], tmp_path: Path
) -> None:
    from crossdock_controller.authority import Authority

    Authority.open(tmp_path / "other")
    stranger = oidc.Issuer(OidcSettings(site[0].url, AUDIENCE, "sub", str(tmp_path / "other" / "ca.pem")))
    with pytest.raises(Retryable, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.verified(site[0].token(), time.time())
    assert not site[0].asked


def test_keys_that_are_weak_or_for_something_else_are_passed_over(site: tuple[issuers.Issuer, Path]) -> None:
    site[0].add("weak", rsa.generate_private_key(65537, 1024))
    site[0].add("other-curve", ec.generate_private_key(ec.SECP384R1()))
    verifier = _verifier(site)
    with pytest.warns(jwt.warnings.InsecureKeyLengthWarning):
        weak = jwt.encode(site[0].claims(), site[0].keys["weak"], "RS256", {"kid": "weak"})
    curve = jwt.encode(site[0].claims(), site[0].keys["other-curve"], "ES384", {"kid": "other-curve"})
    for token in (weak, curve):
        with pytest.raises(oidc.Untrusted, match="does not publish"):
            verifier.verified(token, time.time())
    assert verifier.verified(site[0].token("rsa-1"), time.time()) == "sub-anna"


def test_a_caller_is_a_user_that_an_admin_made_and_nobody_becomes_one_by_calling(
    site: tuple[issuers.Issuer, Path], tmp_path: Path
) -> None:
    box = Box(tmp_path / "data")
    try:
        by_subject = Identifier(box.data, _verifier(site))
        header = f"Bearer {site[0].token()}"
        with pytest.raises(Unknown) as caught:
            by_subject.caller(header)
        assert "no user here" in caught.value.reason
        assert people.list_users(box.data, 1) == []
        people.add_user(
            box.data, "anna", "operator", ["region=us"], "anna@example.com", "sub-anna", by="local:test", now_us=1
        )
        assert by_subject.caller(header).actor == "user:anna"
        by_email = Identifier(box.data, _verifier(site, claim="email"))
        good = site[0].token(sub="whatever", email="Anna@Example.com", email_verified=True)
        assert by_email.caller(f"Bearer {good}").user == "anna"
        for verified in (False, "true", 1, None):
            bad = site[0].token(email="anna@example.com", email_verified=verified)
            with pytest.raises(Unknown):
                by_email.caller(f"Bearer {bad}")
        people.disable_user(box.data, "anna", by="local:test", now_us=1)
        with pytest.raises(Unknown) as caught:
            by_subject.caller(header)
        assert "disabled" in caught.value.reason
        with pytest.raises(Unknown):
            Identifier(box.data).caller(header)  # no issuer is configured
    finally:
        box.close()


def test_a_person_signs_in_at_a_real_controller_with_a_token_of_the_issuer(
    site: tuple[issuers.Issuer, Path], tmp_path: Path
) -> None:
    issuer, ca = site
    oidc_options = ["--oidc-issuer", issuer.url, "--oidc-audience", AUDIENCE, "--oidc-ca", str(ca)]
    api = started(tmp_path / "centre", *oidc_options)
    try:
        api.centre.run("users", "add", "anna", "--role", "viewer", "--on", "all", "--oidc-subject", "sub-anna")
        good = issuer.token()
        assert api.post("agents", good).status == 200
        assert api.post("users.list", good).status == 403
        assert "There is no revision yet" in api.remote(good, "history").stdout, "and from the desk"
        refused = {
            "expired": issuer.token(exp=int(time.time()) - 120),
            "for others": issuer.token(aud="elsewhere"),
            "unsigned": _parts({"alg": "none", "kid": "rsa-1"}, issuer.claims()).decode() + ".",
            "nobody here": issuer.token(sub="sub-eve"),
        }
        for why, token in refused.items():
            assert api.post("agents", token, source="127.0.0.21").status == 401, why
        entries = api.centre.json("audit", "--action", "api")["entries"]
        reasons = " ".join(e["details"].get("reason", "") for e in entries)
        assert "no user here" in reasons
        assert "Audience" in reasons
        assert not any(token in str(entries) for token in refused.values())
        assert [u["name"] for u in api.centre.json("users", "list")["users"]] == ["admin", "anna"]
    finally:
        api.centre.process.stop()
