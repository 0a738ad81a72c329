"""What a report on the control stream may be. An enrolled agent may be in a thief's hands: what it says of itself is
kept and shown to people, so it is small, and its numbers are ones that can be stored."""

from __future__ import annotations

from crossdock.v1 import link_pb2

MAX_REPORT_BYTES = 4 * 1024 * 1024  # a heartbeat of a thousand sources has half of one
MAX_ID_BYTES = 64  # instance, epoch and store have 16
MAX_WORD = 20
MAX_NUMBER = 2**63 - 1  # SQLite's largest integer
MAX_UNANSWERED = 64  # directives that wait for an agent that does not read


def fault_of(report: link_pb2.Report) -> str:
    """What is wrong with it, empty when nothing is. Nothing of what was sent is repeated."""
    size = report.ByteSize()
    if size > MAX_REPORT_BYTES:
        return f"a report has {size} bytes, the limit is {MAX_REPORT_BYTES}"
    kind = report.WhichOneof("kind")
    if kind == "hello":
        hello = report.hello
        longest = max(len(hello.instance), len(hello.epoch), len(hello.store))
        if longest > MAX_ID_BYTES:
            return f"an id in hello has {longest} bytes, the limit is {MAX_ID_BYTES}"
        return _running(hello.revision, hello.config_hash)
    if kind == "heartbeat":
        return _running(report.heartbeat.revision, report.heartbeat.config_hash)
    if kind == "config":
        if len(report.config.state) > MAX_WORD:
            return f"the state of a configuration has {len(report.config.state)} characters, the limit is {MAX_WORD}"
        return _running(report.config.revision, report.config.hash)
    return ""


def _running(revision: int, digest: str) -> str:
    if revision > MAX_NUMBER:  # heartbeats of a whole fleet are stored together: one must not spoil the others
        return f"revision {revision} is none"
    return f"the hash of a configuration has {len(digest)} characters, it has 64" if len(digest) > 64 else ""


def one_line(said: str, characters: int) -> str:
    """What a stranger calls itself, for people to read: a line break in it would be read as a line of ours."""
    return "".join(c if c.isprintable() else "\ufffd" for c in said[:characters])
