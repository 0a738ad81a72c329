"""The admin API as it is: real processes, real TLS, people with tokens, and everything a stranger may try."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossdock_controller.authority import Authority
from support.estate import TREE
from support.gateway import wait_until
from support.people import Api, started

US_ONLY = {**TREE, "sites/atl1.yaml": TREE["sites/atl1.yaml"].replace("root: drop", "root: new")}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    api = started(tmp_path_factory.mktemp("api"))
    try:
        yield api
    finally:
        api.centre.process.stop()


@pytest.fixture(scope="module")
def admin(api: Api) -> str:
    """The first admin's token, as a person finds it."""
    file = api.centre.data / "first-admin-token"
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ["first admin's token lies in" in r for r in api.centre.json("status")["reminders"]] == [True]
    assert "note " in api.centre.run("status")
    token = api.first_token()
    assert api.post("users.list", token).status == 200
    assert not file.exists(), "it goes with its first use"
    status = api.centre.json("status")
    assert (status["reminders"], status["api"]) == ([], api.url)
    assert token not in api.centre.process.log.read_text("utf-8", "replace")
    assert api.post("apply", token, {"tree": TREE, "message": "first"}).body["revision"] == 1
    return token


# Who comes with a wrong token comes from an address of their own (each test another one of this machine's): after some
# failures an address is looked at less often, which is what one of the tests is about.


def _audit(api: Api, admin: str, **filters: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.post("audit.list", admin, filters).body
    return found


def test_a_token_that_is_unknown_expired_or_revoked_or_whose_owner_is_disabled_opens_nothing(
    api: Api, admin: str
) -> None:
    token = api.user("anna", "operator", "region=us")
    assert api.post("agents", token).status == 200
    revoked = api.token("anna")
    api.centre.run("users", "token", "revoke", api.centre.json("users", "token", "list", "anna")["tokens"][0]["id"])
    brief = api.token("anna", "2s")
    wait_until(lambda: api.post("agents", brief, source="127.0.0.11").status == 401, "it expires", 60)
    for refused in (revoked, brief, token[:-1] + ("a" if token[-1] != "a" else "b"), "", "cdt_", "x" * 500):
        answer = api.post("agents", refused, source="127.0.0.11")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), refused
        assert set(answer.body) == {"error", "hint", "kind"}
    assert api.post("agents", token).status == 200
    assert api.post("users.disable", admin, {"name": "anna"}).body["disabled"] is True
    assert api.post("agents", token, source="127.0.0.11").status == 401, "from the next call on"
    api.post("users.disable", admin, {"name": "anna", "enable": True})
    assert api.post("agents", token).status == 200


def test_refused_calls_are_on_record_but_guessing_fills_neither_log_nor_patience(api: Api, admin: str) -> None:
    before = _audit(api, admin, limit=1)[0]["seq"]
    there = "127.0.0.9"  # an address of this machine that no other test calls from
    guesses = [api.post("agents", f"cdt_guess-{i}", source=there).status for i in range(40)]
    assert guesses[:10] == [401] * 10
    assert guesses.count(429) > 20, "and then they are not even looked at"
    last = api.post("agents", "cdt_guess", source=there)
    assert last.status == 429
    assert int(last.headers["retry-after"]) >= 1
    assert api.post("agents", admin, source=there).status == 200, "somebody else's guesses keep nobody out"
    noted = [e for e in _audit(api, admin, after=before) if e["actor"] == f"address:{there}"]
    assert 1 <= len(noted) <= 6
    assert {e["action"] for e in noted} == {"api.refuse"}
    assert "guess-" not in json.dumps(noted)


def test_who_may_not_is_told_which_role_it_needs_and_it_is_on_record(api: Api, admin: str) -> None:
    token = api.user("vera", "viewer", "region=us")
    answer = api.post("agents.revoke", token, {"agent": "rtm1"})
    assert answer.status == 403
    assert "needs the role engineer" in answer.body["error"]
    (entry,) = _audit(api, admin, actor="user:vera", action="api.refuse")
    assert (entry["target"], entry["details"]) == ("agents.revoke", {"reason": "no role"})
    for name in ("users.list", "audit.list", "users.token.create"):
        assert api.post(name, token).status == 403


def test_what_is_not_in_the_table_is_not_there_however_it_is_spelled(api: Api, admin: str) -> None:
    for path in (
        "/v1/backup", "/v1/", "/v1", "/", "/v1/agents/../users.list", "/v1/..%2fusers.list", "/v2/users.list",
        "/v1/commands.people:list_users", "/v1/users.list%00", "/docs", "/schema", "/v1/__class__", "/v1/" + "a" * 5000,
    ):  # fmt: skip
        answer = api.raw("POST", path, b"{}", admin)
        assert answer.status in {404, 405}, path
        assert answer.body["error"]
    walter = api.user("walter", "viewer", "all")
    for path in ("/v1/users.list/", "/v1//users.list", "//v1/users.list", "/v1/users%2Elist", "/v1/./users.list"):
        assert api.raw("POST", path, b"{}", walter).status in {403, 404}, f"{path} is another way past the role"
    for method in ("GET", "PUT", "DELETE", "PATCH", "TRACE"):
        assert api.raw(method, "/v1/users.list", b"", admin).status in {404, 405}
    assert api.raw("POST", "/v1/nothing", b"{}", source="127.0.0.14").status == 401, (
        "who proved nothing is not told what there is"
    )


def test_bodies_that_are_huge_nested_or_broken_are_refused_in_json_and_harm_nobody(api: Api, admin: str) -> None:
    nested = b'{"number": ' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    for body, status in (
        (b"{", 400), (b"[]", 400), (b"\x00\xff", 400), (b'{"number": "a", "number2": 1}', 400), (nested, 400),
        (b'{"number": 1e999}', 400), (b'{"number": ""}', 200), (b'{"number": "' + b"a" * 70_000 + b'"}', 413),
    ):  # fmt: skip
        answer = api.raw("POST", "/v1/trace", body, admin)
        assert answer.status == status, body[:40]
    assert api.raw("POST", "/v1/trace", b"a=1", admin, Content_Type="application/x-www-form-urlencoded").status == 415
    huge = api.connect()
    huge.putrequest("POST", "/v1/trace")
    for name, value in (("Authorization", f"Bearer {admin}"), ("Content-Type", "application/json")):
        huge.putheader(name, value)
    huge.putheader("Transfer-Encoding", "chunked")
    huge.endheaders()
    with contextlib.suppress(OSError):  # it hangs up before all of it is sent
        for _ in range(200):
            huge.send(b"10000\r\n" + b" " * 65_536 + b"\r\n")
        huge.send(b"0\r\n\r\n")
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert huge.getresponse().status == 413
    huge.close()
    heads = api.connect()
    with contextlib.suppress(OSError, http.client.HTTPException):
        heads.request("GET", "/", headers={"X-Long": "a" * 200_000})
        assert heads.getresponse().status == 400
    heads.close()
    assert api.post("agents", admin).status == 200


@pytest.mark.slow
def test_who_sends_no_whole_request_is_hung_up_on(api: Api, admin: str) -> None:
    host, _, port = api.url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cafile=str(api.ca))
    with (
        socket.create_connection((host, int(port)), 60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as slow,
    ):
        slow.sendall(b"POST /v1/agents HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        slow.settimeout(60)
        assert slow.recv(100) == b"", "closed, without our doing"
    assert api.post("agents", admin).status == 200


def test_only_tls_1_2_and_newer_and_only_a_certificate_of_our_authority(api: Api, tmp_path: Path) -> None:
    newest = api.connect()
    newest.connect()
    assert newest.sock.version() == "TLSv1.3"
    newest.close()
    for highest in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        old = ssl.create_default_context(cafile=str(api.ca))
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="deprecated"):
            old.maximum_version = highest
        with pytest.raises(ssl.SSLError):
            api.connect(old).connect()
    Authority.open(tmp_path / "other")
    stranger = ssl.create_default_context(cafile=str(tmp_path / "other" / "ca.pem"))
    with pytest.raises(ssl.SSLCertVerificationError):
        api.connect(stranger).connect()
    host, _, port = api.url.removeprefix("https://").rpartition(":")
    plain = http.client.HTTPConnection(host, int(port), timeout=60)
    plain.request("GET", "/")
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.getresponse()
    plain.close()


def test_every_answer_carries_the_headers_that_keep_browsers_out(api: Api, admin: str) -> None:
    for answer in (
        api.post("agents", admin),
        api.post("agents", "wrong", source="127.0.0.12"),
        api.raw("GET", "/nowhere"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers
        assert not any(name.startswith("access-control") for name in answer.headers)
    asked = api.raw("OPTIONS", "/v1/agents", Origin="https://evil.example", Access_Control_Request_Method="POST")
    assert not any(name.startswith("access-control") for name in asked.headers)


def test_an_address_in_a_header_is_not_believed(api: Api, admin: str) -> None:
    before = _audit(api, admin, limit=1)[0]["seq"]
    for i in range(3):
        api.post("agents", "cdt_wrong", source="127.0.0.13", X_Forwarded_For=f"10.9.8.{i}", Forwarded=f"for=10.9.8.{i}")
    assert "10.9.8" not in json.dumps(_audit(api, admin, after=before))


def test_the_same_call_made_again_is_not_done_again(api: Api, admin: str) -> None:
    body = {"name": "carl", "role": "viewer", "on": ["region=us"]}
    key = {"Idempotency_Key": "7d5c2f0e-one-key"}
    assert api.post("users.add", admin, body, **key).status == 200
    again = api.post("users.add", admin, body, **key)
    assert (again.status, "was asked for before" in again.body["error"]) == (409, True)
    wanted = {"user": "carl", "ttl_seconds": 60}
    tokens = [api.post("users.token.create", admin, wanted, Idempotency_Key="k" * 20).status for _ in range(3)]
    assert tokens == [200, 409, 409]
    assert len(api.post("users.token.list", admin, {"user": "carl"}).body) == 1
    for bad in ("short", "k" * 101, "with\ttab-in-it"):
        assert api.post("users.remove", admin, {"name": "carl"}, Idempotency_Key=bad).status == 400
    for _ in range(2):  # and what has no key is harmless all the same
        assert api.post("apply", admin, {"tree": TREE, "message": ""}).body["changed"] is False
        assert api.post("users.grant", admin, {"name": "carl", "role": "viewer", "on": ["region=us"]}).status == 200
    assert len(api.centre.json("history")["revisions"]) == 1


def test_two_admins_at_once_lose_nothing_and_one_of_two_trees_wins(api: Api, admin: str) -> None:
    second = api.user("ben", "admin", "all")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        made = list(threads.map(
            lambda i: api.post("users.add", (admin, second)[i % 2], {"name": f"u{i}", "role": "viewer", "on": ["all"]}),
            range(12),
        ))  # fmt: skip
    tried = [answer for answer in made if answer.status != 429]  # four calls of one person at a time
    assert {answer.status for answer in tried} == {200}
    assert len(tried) >= 8
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        trees = [{**US_ONLY, "sites/atl1.yaml": US_ONLY["sites/atl1.yaml"] + f"# {i}\n"} for i in range(2)]
        both = list(
            threads.map(lambda i: api.post("apply", (admin, second)[i], {"tree": trees[i], "message": ""}), (0, 1))
        )
    assert sorted(answer.status for answer in both) in ([200, 200], [200, 422])
    assert api.post("apply", admin, {"tree": TREE, "message": "back"}).status == 200
    verified = api.post("audit.verify", admin).body
    assert (verified["sound"], verified["problem"]) == (True, "")
    names = {e["target"] for e in _audit(api, admin, action="users.add", limit=100)}
    assert {f"u{i}" for i, answer in enumerate(made) if answer.status == 200} <= names


def test_an_openapi_description_is_served_to_those_who_may_call(api: Api, admin: str) -> None:
    assert api.raw("GET", "/v1/openapi.json", source="127.0.0.15").status == 401
    told = api.raw("GET", "/v1/openapi.json", token=admin)
    assert told.status == 200
    assert "/v1/agents.revoke" in told.body["paths"]


def test_an_error_says_what_is_wrong_and_what_to_do_with_a_fitting_status(api: Api, admin: str) -> None:
    for operation, body, status, kind in (
        ("agents.revoke", {"agent": "nobody"}, 422, "ConfigError"),
        ("dead.show", {"letter": 4711}, 409, "Refused"),
        ("rollback", {"revision": 99}, 422, "ConfigError"),
        ("users.add", {"name": "X", "role": "viewer", "on": ["all"]}, 422, "ConfigError"),
        ("apply", {"tree": {"sites/a.yaml": "site: [\n"}, "message": ""}, 422, "ConfigInvalid"),
    ):
        answer = api.post(operation, admin, body)
        assert (answer.status, answer.body["kind"]) == (status, kind), answer.body
        assert answer.body["error"]
        assert answer.body["hint"] or operation == "users.add"
    invalid = api.post("apply", admin, {"tree": {"sites/a.yaml": "site: [\n"}, "message": ""})
    assert invalid.body["problems"][0]["file"] == "sites/a.yaml"


def test_no_token_that_was_used_or_made_or_guessed_is_in_a_log_or_in_the_audit_log(api: Api, admin: str) -> None:
    log = api.centre.process.log.read_text("utf-8", "replace")
    assert "the API is up" in log
    assert "cdt_" not in log
    assert "cdt_" not in api.centre.run("audit", "export")
