"""The process that works for a command: bounded in time and size, ended with the agent, heard when it fails."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import msgspec
import pytest

from crossdock.errors import CrossdockError, Retryable
from crossdock.lifecycle import Stop
from crossdock_agent.answers import Question
from crossdock_agent.remote import children
from crossdock_agent.settings import Settings


@pytest.fixture
def question(tmp_path: Path) -> Question:
    return Question(Settings(state=str(tmp_path)), "check", {}, values=False, secrets=["s3cret\nof two lines"])


def instead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str) -> None:
    """Run *program* in place of the agent's own."""
    script = tmp_path / "child.py"
    script.write_text(f"import sys, time\nquestion = sys.stdin.buffer.readline()\n{program}\n")
    (tmp_path / "crossdock_agent").mkdir()
    (tmp_path / "crossdock_agent" / "__main__.py").write_text(script.read_text())
    (tmp_path / "crossdock_agent" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")


def test_the_question_arrives_whole_and_the_answer_comes_back(
    question: Question, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instead(monkeypatch, tmp_path, "sys.stdout.buffer.write(question)")
    assert msgspec.json.decode(children.answer(question, 60, Stop()), type=Question) == question


def test_one_that_takes_too_long_is_ended(question: Question, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instead(monkeypatch, tmp_path, "time.sleep(300)")
    with pytest.raises(Retryable, match="did not finish within 1 s and was ended"):
        children.answer(question, 1.0, Stop())


def test_a_stop_ends_it_at_once(question: Question, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    instead(monkeypatch, tmp_path, "time.sleep(300)")
    stop = Stop()
    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Retryable, match="interrupted: the agent was stopped meanwhile"):
        children.answer(question, 250, stop)  # longer than this test may take


def test_more_than_may_be_answered_is_not_kept(
    question: Question, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    instead(monkeypatch, tmp_path, "while True: sys.stdout.buffer.write(bytes(1_000_000))")
    with pytest.raises(CrossdockError, match="the answer is larger than 16 MiB"):
        children.answer(question, 60, Stop())


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("sys.exit('Error: no such table\\n  Next: create it')", "no such table\n  Next: create it"),
        ("raise ValueError('a fault of ours')", "ValueError: a fault of ours"),
        ("sys.stderr.write('x' * 1_000_000); sys.exit(3)", "x"),
        ("sys.exit(7)", "it ended with code 7"),
    ],
)
def test_one_that_fails_is_heard(
    question: Question, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, said: str
) -> None:
    instead(monkeypatch, tmp_path, program)
    with pytest.raises(CrossdockError) as failed:
        children.answer(question, 60, Stop())
    assert failed.value.message.startswith(said)
    assert len(failed.value.message) <= children.SAID_BYTES


def test_one_that_cannot_be_started_is_told(question: Question, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(Retryable, match="no process could be started"):
        children.answer(question, 60, Stop())
