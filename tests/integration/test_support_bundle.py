"""No secret and no record leaves a site in a bundle or an answer, wherever it was planted, in whatever form."""

from __future__ import annotations

import base64
import io
import json
import sqlite3
import urllib.parse
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from loguru import logger

from crossdock import siteconfig, telemetry
from crossdock.keptlog import KeptLog
from crossdock.secrets import Secrets
from crossdock.siteconfig import SourceConfig
from crossdock_agent import answering, bundle, check, helper
from crossdock_agent.answers import Answer, Question
from crossdock_agent.configuration import LastGood
from crossdock_agent.outbox import Outbox
from crossdock_agent.settings import Settings
from crossdock_agent.sources.base import Finding
from support.agents import ROOMY, helpers_in_process, site_config
from support.controller import FakeController

ENV = "cAnary-env/Zq1 +é"
FILE = "cAnary-file=Zq2&x"
UNUSED = "cAnary-unused-Zq3"
LITERAL = "cAnary-literal-Zq4"  # written into a connection string, against all advice
HEADER = "cAnary-header-Zq5"
TOKEN = "cd1_eyJhIjoiY0FuYXJ5IiwidCI6IlpxNiJ9"
URL = "cAnary-url-Zq7"
SECRETS = (ENV, FILE, UNUSED, LITERAL, HEADER, TOKEN, URL)
RECORD = "cAnary-record-Zq8"


def forms(secret: str) -> Iterator[bytes]:
    """As whoever looks for leaks would search: the secret, and its encodings, in UTF-8 and UTF-16."""
    texts = [secret, urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), json.dumps(secret)[1:-1]]
    texts += [secret.encode().hex(), secret.encode("utf-16-le").hex()]
    for data in (secret.encode(), secret.encode("utf-16-le")):
        for offset in range(3):  # what is left at the edges depends on the neighbours
            texts.append(base64.b64encode(bytes(offset) + data).decode()[4:-4])
            texts.append(base64.urlsafe_b64encode(bytes(offset) + data).decode()[4:-4])
    for text in texts:
        yield text.encode()
        yield text.encode("utf-16-le")


def leaks(data: bytes) -> list[str]:
    return [secret for secret in (*SECRETS, RECORD) for form in forms(secret) if form in data]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site that did everything wrong: secrets in its configuration, its errors, its log and its data."""
    helpers_in_process(monkeypatch)
    directory = tmp_path / "state"
    fake = FakeController()
    fake.identity(directory)
    monkeypatch.setenv("CROSSDOCK_SECRET_WMS_DB", ENV)
    monkeypatch.setenv("CROSSDOCK_SECRET_UNUSED", UNUSED)
    monkeypatch.setenv("CROSSDOCK_TOKEN", TOKEN)
    (directory / "secrets").mkdir()
    (directory / "secrets" / "erp").write_text(FILE + "\n")
    (directory / "secrets" / "erp").chmod(0o600)
    connection = {"odbc": f"Driver=x;UID=sa;PWD={LITERAL};Server=erp", "dialect": "sqlserver"}
    table = SourceConfig(name="orders", kind="sql_table", settings={
        "connection": connection, "table": "ORDERS", "headers": {"Authorization": HEADER},
        "url": f"https://scott:{URL}@erp.example/x", "password": "secret:erp",
    })  # fmt: skip
    config = site_config(1, table)
    kept = LastGood(1, siteconfig.digest(config), config)
    (directory / "last-good.json").write_bytes(msgspec.json.encode(kept))
    with Outbox(directory / "outbox.db", ROOMY, migrate=helper.migrate):
        pass
    with sqlite3.connect(directory / "outbox.db") as db:
        db.execute("CREATE TABLE payloads(data)")
        db.execute("INSERT INTO payloads VALUES(?)", (RECORD,))
    db.close()
    basic = base64.b64encode(f"scott:{FILE}".encode()).decode()
    problem = f"login failed for PWD={LITERAL}; basic {basic}; {urllib.parse.quote(ENV)}; {ENV.encode('utf-16').hex()}"
    (directory / "status.json").write_text(json.dumps({"agent": "atl1", "problems": [problem, f"token {TOKEN}"]}))
    (directory / "policy.toml").write_text('sources = ["orders"]\n')
    telemetry.configure("agent", kept=KeptLog(directory / "logs" / "agent.log", 1_000_000))
    Secrets(directory).resolve("secret:wms-db")
    logger.error("driver said {} and PWD={}", ENV, LITERAL)
    telemetry.configure("agent")
    with (directory / "logs" / "agent.log").open("a") as log:  # as an older release may have written it
        log.write(f"2026-11-26T20:00:00.000+0000 ERROR   agent {FILE} {UNUSED} {basic} https://a:{URL}@b {TOKEN}\n")
    (directory / "logs" / "commands.log").write_text(f"someone typed {TOKEN}\n")
    return directory


@pytest.fixture
def made(state: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    finding = Finding("orders", ok=False, detail=f"login failed, PWD={LITERAL}; {FILE}")
    monkeypatch.setattr(check, "check", lambda _settings: [finding])
    question = msgspec.json.encode(Question(Settings(state=str(state)), "support-bundle", {}, values=False, secrets=[]))
    zipped = answering.answer(question)
    assert leaks(zipped) == []
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_search_finds_what_was_planted(state: Path) -> None:
    planted = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert {*leaks(planted)} == {FILE, LITERAL, HEADER, TOKEN, URL, RECORD, ENV, UNUSED}


def test_no_canary_is_in_any_member_of_the_bundle_in_any_form(made: Mapping[str, str]) -> None:
    assert {name: leaks(text.encode()) for name, text in made.items() if leaks(text.encode())} == {}


def test_what_is_no_secret_is_there(made: Mapping[str, str]) -> None:
    source = json.loads(made["configuration.json"])["site"]["sources"][0]
    assert source["settings"]["connection"]["odbc"] == "Driver=x;UID=sa;PWD=***;Server=erp"
    assert source["settings"]["password"] == "secret:erp"
    assert source["settings"]["url"] == "https://scott:***@erp.example/x"
    assert json.loads(made["settings.json"])["policy"]["sources"] == ["orders"]
    assert json.loads(made["status.json"])["agent"] == "atl1"
    assert json.loads(made["outbox.json"])["schema"] > 0
    assert {"CROSSDOCK_SECRET_WMS_DB", "CROSSDOCK_TOKEN"} <= set(json.loads(made["about.json"])["variables"])
    assert "driver said ***" in made["agent.log"]
    assert {"secrets/erp", "outbox.db"} <= {file["name"] for file in json.loads(made["files.json"])}
    assert "KEY" not in "".join(made.values()).replace("identity/key", "")


def test_a_bundle_of_a_broken_site_says_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "last-good.json").write_text("{")
    (state / "outbox.db").write_bytes(b"no database at all, of some length" * 100)
    (state / "policy.toml").write_text("oops")
    (state / "status.json").write_text("{")
    zipped = bundle.made(Settings(state=str(state), own_log_mb=0))
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        made = {name: archive.read(name).decode() for name in archive.namelist()}
    for name in ("configuration.json", "outbox.json", "status.json"):
        assert "could not be found out" in made[name], name
    assert "every command is refused" in made["settings.json"]
    assert "no identity" in made["settings.json"]
    assert "FAIL  identity" in made["check.txt"]


def test_an_answer_carries_no_secret_either(state: Path) -> None:
    Secrets(state).know_all()
    answer = Answer([f"{ENV} {FILE}", f"PWD={LITERAL};"], {"rows": [[ENV, f"token={TOKEN}"]], "password": "x"})
    said = answer.encoded()
    assert leaks(said) == []
    assert json.loads(said)["value"]["password"] == "***"


def test_a_large_log_does_not_make_a_large_bundle(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "2026-11-26T20:00:00.000+0000 INFO    agent unit read source=wms origin=SHP{:07}.csv total=12\n"
    for number in range(1, 5):
        text = "".join(line.format(n) for n in range(20_000))
        (state / "logs" / f"agent.log.{number}").write_text(text)
    zipped = bundle.made(Settings(state=str(state)))
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        assert archive.getinfo("agent.log").file_size <= bundle.LOG_BYTES
        assert "driver said" in archive.read("agent.log").decode()
    assert len(zipped) < 2_000_000
