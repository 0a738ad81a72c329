"""No secret leaves a process in a log line, an answer or a bundle: by value in every form, and by shape."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import re
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger

from crossdock import telemetry
from crossdock.errors import SourceUnavailable
from crossdock.keptlog import KeptLog
from crossdock.redaction import KNOWN, MASK, MIN_LENGTH, Redactor
from crossdock.secrets import Secrets

SECRET = "canary/Pa55 wörd+1%}=&\"'"

FORMS = {
    "as it is": SECRET,
    "in JSON": json.dumps(SECRET)[1:-1],
    "in JSON with its own letters": json.dumps(SECRET, ensure_ascii=False)[1:-1],
    "in JSON within JSON": json.dumps(json.dumps({"x": SECRET})),
    "as Python shows it": repr(SECRET)[1:-1],
    "in an address": urllib.parse.quote(SECRET, safe=""),
    "in an address, small letters": re.sub("%..", lambda match: match[0].lower(), urllib.parse.quote(SECRET, safe="")),
    "in a query": urllib.parse.quote_plus(SECRET),
    "in HTML": html.escape(SECRET),
    "in an ODBC connection string": "{" + SECRET.replace("}", "}}") + "}",
    "in hex": SECRET.encode().hex(),
    "in UTF-16, as bytes": repr(SECRET.encode("utf-16-le")),
    "in UTF-16, read as Latin-1": SECRET.encode("utf-16-le").decode("latin-1"),
    "in UTF-16, in hex": SECRET.encode("utf-16-le").hex(),
    "in base64": base64.b64encode(SECRET.encode()).decode(),
    "in base64, behind a name": base64.b64encode(f"user:{SECRET}".encode()).decode(),
    "in base64, between others": base64.b64encode(f"ab{SECRET}cd".encode()).decode(),
    "in base64 for addresses": base64.urlsafe_b64encode(f"x{SECRET}".encode()).decode(),
    "in base64 of UTF-16": base64.b64encode(f"abc{SECRET}".encode("utf-16-le")).decode(),
}


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.learn(SECRET)
    return redactor


def longest_piece(secret: str, text: str) -> int:
    """The length of the longest piece of *secret* that is still in *text*."""
    spans = ((i, j) for i in range(len(secret)) for j in range(i + 1, len(secret) + 1))
    return max((j - i for i, j in spans if secret[i:j] in text), default=0)


@pytest.mark.parametrize("form", FORMS)
def test_a_known_secret_is_found_in_every_form(form: str, redactor: Redactor) -> None:
    said = redactor.clean(f"before {FORMS[form]} behind")
    assert MASK in said
    assert said.startswith("before ")
    for data in (SECRET.encode(), SECRET.encode("utf-16-le")):
        for offset in range(3):
            coded = base64.b64encode(bytes(offset) + data).decode()[4:-4]
            assert longest_piece(coded, said) < 6
    assert longest_piece(SECRET, said.removeprefix("before ").removesuffix(" behind")) < 4


@given(st.text(st.characters(codec="utf-8", min_codepoint=33), min_size=MIN_LENGTH, max_size=40), st.integers(0, 2))
def test_any_secret_is_taken_out_of_base64_at_any_offset(secret: str, offset: int) -> None:
    redactor = Redactor()
    redactor.learn(secret)
    coded = base64.b64encode(b"u:x"[:offset] + secret.encode() + b"tail").decode()
    decodable = base64.b64encode(b"u:x"[:offset] + secret.encode()).decode()
    assert redactor.clean(secret) != secret or secret in MASK
    assert decodable[4:-4] not in redactor.clean(coded) or len(decodable) < 14


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Driver={x};UID=sa;PWD=two words;Server=erp", "two words"),
        ("Driver={x};UID=sa;Pwd={a}}b;c};Server=erp", "b;c"),
        ("password: hunter2", "hunter2"),
        ("db_password=hunter2 tries=3", "hunter2"),
        ('{"client_secret": "hun\\"ter2"}', "ter2"),
        ("{'api_key': 'hunter2'}", "hunter2"),
        ('{"odbc": "Driver=x;PWD=hunter2;"}', "hunter2"),
        ("Authorization: Basic c2NvdHQ6dGlnZXI=", "c2NvdHQ6dGlnZXI"),
        ("Authorization: Bearer abc.def-ghi", "abc.def"),
        ("sent 'bearer abcdef.ghijkl' to", "abcdef"),
        ("Cookie: session=abcdef", "abcdef"),
        ("postgresql://scott:tiger/9@erp:5432/x", "tiger"),
        ("https://scott:t:ger@erp/x", "t:ger"),
        ("https://erp/x?api=1&sig=abcdef%2F&b=1", "abcdef"),
        ("cd1_eyJhIjoiMTI3LjAuMC4xOjEi", "eyJhIjoi"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----", "abcd"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE cut o", "MIIE"),
        ("'-----BEGIN PRIVATE KEY-----\\nMIIE\\n-----END PRIVATE KEY-----'", "MIIE"),
        ("AccountKey=abc123==;EndpointSuffix=x", "abc123"),
    ],
)
def test_what_looks_like_a_secret_is_taken_out(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in Redactor().clean(text)


@pytest.mark.parametrize(
    "text",
    [
        "configuration applied revision=12 source=wms key=ORDER_NO file=/srv/in/SHP1.csv",
        "PWD={secret:wms-db};Server=erp",
        "password: secret:wms-db",
        '{"Authorization": "secret:erp-token"}',
        "secret 'wms-db' is not known here (set CROSSDOCK_SECRET_WMS_DB or write it to /x/secrets/wms-db)",
        "http://erp:8080/orders?number=5",
        "basic authentication is not supported",
        "a batch has 5 records, the primary key is NO",
        "passwords,\ntokens",
    ],
)
def test_references_and_plain_words_stay(text: str) -> None:
    assert Redactor().clean(text) == text


def test_a_key_that_names_a_secret_hides_its_value_and_a_reference_stays() -> None:
    given_ = {
        "headers": {"X-Api-Key": "abc", "Authorization": "secret:erp", "Accept": "a/b"},
        "password": 12345, "token": "", "key": "ORDER_NO", "tokens": ["a"], "list": [{"db-password": "x"}],
    }  # fmt: skip
    assert Redactor().structure(given_) == {
        "headers": {"X-Api-Key": MASK, "Authorization": "secret:erp", "Accept": "a/b"},
        "password": MASK, "token": "", "key": "ORDER_NO", "tokens": ["a"], "list": [{"db-password": MASK}],
    }  # fmt: skip


@pytest.mark.parametrize(
    "piece", ["token: x ", "a.", "a://b:", "PWD={", "-----BEGIN PRIVATE KEY-----", 'password="', "cd1_", "bearer "]
)
def test_a_long_line_made_to_be_slow_is_not(piece: str) -> None:
    Redactor().clean(piece * (1_000_000 // len(piece)))  # the test's own limit of time is the assertion


def test_a_short_secret_is_left_to_its_shape() -> None:
    redactor = Redactor()
    redactor.learn("abc")
    assert redactor.clean("abcdef PWD=abc;") == f"abcdef PWD={MASK};"


# --- the log


@pytest.fixture
def lines(tmp_path: Path) -> Iterator[io.StringIO]:
    kept = KeptLog(tmp_path / "agent.log", 1_000_000)
    telemetry.configure("agent", level="DEBUG", kept=kept)
    stream = io.StringIO()
    sink = logger.add(stream, format="{message} {extra[fields]}", level="DEBUG", serialize=True)
    yield stream
    logger.remove(sink)
    telemetry.configure("agent")


def written(tmp_path: Path, lines: io.StringIO, capsys: pytest.CaptureFixture[str]) -> str:
    return (tmp_path / "agent.log").read_text("utf-8") + lines.getvalue() + capsys.readouterr().err


def test_no_log_line_carries_a_secret_that_was_resolved(
    tmp_path: Path, lines: io.StringIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSDOCK_SECRET_WMS_DB", "canary-in-logs-1")
    assert Secrets(tmp_path).resolve("secret:wms-db") == "canary-in-logs-1"
    logger.info("login with {} failed", "canary-in-logs-1")
    logger.bind(source="wms", reason="canary-in-logs-1", many=["canary-in-logs-1"]).warning("bound")
    logging.getLogger("some.driver").warning("driver says canary-in-logs-1")
    try:
        try:
            raise ValueError("PWD=canary-in-logs-1")
        except ValueError as error:
            raise SourceUnavailable("no login") from error
    except SourceUnavailable as error:
        logger.opt(exception=error).error("a source failed")
    said = written(tmp_path, lines, capsys)
    assert said.count("a source failed") == 3
    assert "SourceUnavailable" in said
    assert "driver says" in said
    assert "canary" not in said


def test_a_traceback_without_a_secret_is_written_as_ever(
    tmp_path: Path, lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        raise ValueError("nothing to hide")
    except ValueError:
        logger.exception("it failed")
    assert "Traceback" in written(tmp_path, lines, capsys)


def test_every_secret_of_the_machine_is_known_whether_it_was_used_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSDOCK_SECRET_UNUSED", "canary-unused-env")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "erp").write_text("canary-unused-file\n")
    (tmp_path / "secrets" / "binary").write_bytes(b"\xff\xfe\x00")
    Secrets(tmp_path).know_all()
    assert KNOWN.clean("a canary-unused-env b canary-unused-file c") == f"a {MASK} b {MASK} c"
