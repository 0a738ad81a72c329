"""Any history of a log against plain lists of its lines: appended to, rotated, copied, emptied, packed, deleted, while
the agent is stopped, refused and killed at any draft.

Whatever happens: each line that could be read comes exactly once after deduplication, in the order of its generation,
from one unit with ordinals without gaps; and what was deleted before it was read is on the account.
"""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from support.log_site import HEADER, LogSite, lines, records, rejects

KEPT = 6


class Generation:
    """What was ever written to one file: complete lines, and the beginning of another."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.half = b""

    def end(self) -> None:
        """Rotated: a half line is all there will be of it."""
        if self.half:
            self.lines.append(self.half)
            self.half = b""


class LogAgainstLists(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.count = 0
        self.live: Generation | None = None
        self.rotated: list[tuple[str, Generation]] = []  # name and content, the newest first
        self.ended: list[Generation] = []
        self.lost: set[bytes] = set()  # could not be read any more
        self.late: set[bytes] = set()  # written after the renaming

    @initialize(rotated_seconds=st.sampled_from([0, 5]), wide=st.sampled_from([1, 30, 3000]))
    def begin(self, rotated_seconds: float, wide: int) -> None:
        self.wide = wide
        self.logs = LogSite(self.root, rotated_seconds=rotated_seconds, pattern="x.log", turn_bytes=1024 * 1024)

    # --- the writer

    @rule(n=st.integers(1, 4), many=st.booleans(), half=st.booleans())
    def append(self, n: int, many: bool, half: bool) -> None:
        if self.live is None:
            self.live = Generation()
        log, out = self.live, b""
        for _ in range(n * (200 if many else 1)):
            line = log.half + b";" * (not log.half) + b"%d;%s" % (self.count, b"x" * self.wide)
            out += line[len(log.half) :] + b"\n"
            log.lines.append(line)
            log.half = b""
            self.count += 1
        if half:
            log.half = b";%d;half" % self.count
            out += log.half
        self.logs.write(out)

    def shift(self) -> None:
        for name, _ in reversed(self.rotated):
            number = int(name.split(".")[2])
            self.logs.rename(name, name.replace(f".{number}", f".{number + 1}"))
        self.rotated = [
            (name.replace(name.split(".")[2], str(int(name.split(".")[2]) + 1), 1), content)
            for name, content in self.rotated
        ]

    @precondition(lambda self: self.live is not None)
    @rule()
    def rename(self) -> None:
        assert self.live is not None
        self.shift()
        self.logs.rename()
        self.rotate()

    @precondition(lambda self: self.live is not None)
    @rule(looks=st.booleans(), cut=st.floats(0, 1))
    def copy_and_empty(self, looks: bool, cut: float) -> None:
        """The agent may look while the copy is being made, and when it is whole."""
        self.shift()
        whole = self.logs.path().read_bytes()
        if looks and len(whole) * cut >= 256:  # what is shorter is not known for a copy without a pause
            self.logs.path("x.log.1").write_bytes(whole[: int(len(whole) * cut)])
            self.logs.read(passes=1, advance=1)
            self.logs.path("x.log.1").write_bytes(whole)
            self.logs.read(passes=1, advance=1)
        self.logs.copy_truncate()
        self.rotate()

    def rotate(self) -> None:
        assert self.live is not None
        self.live.end()
        self.rotated.insert(0, ("x.log.1", self.live))
        self.ended.append(self.live)
        self.live = None
        while len(self.rotated) > KEPT:
            self.delete()

    @precondition(lambda self: self.rotated and self.rotated[0][0] == "x.log.1")
    @rule()
    def a_writer_kept_its_handle(self) -> None:
        name, content = self.rotated[0]
        if not self.logs.path(name).read_bytes().endswith(b"\n"):
            return
        line = b";%d;late" % self.count
        self.count += 1
        content.lines.append(line)
        self.late.add(line)
        self.logs.write(line + b"\n", name)

    @precondition(lambda self: any(not name.endswith(".gz") for name, _ in self.rotated))
    @rule()
    def pack(self) -> None:
        i = next(i for i, (name, _) in enumerate(self.rotated) if not name.endswith(".gz"))
        name, content = self.rotated[i]
        self.logs.pack(name)
        self.rotated[i] = (name + ".gz", content)

    @precondition(lambda self: self.rotated)
    @rule()
    def delete(self) -> None:
        name, content = self.rotated.pop()
        self.logs.path(name).unlink()
        self.lost |= {*content.lines}

    @precondition(lambda self: self.live is not None)
    @rule()
    def empty(self) -> None:
        assert self.live is not None
        self.lost |= {*self.live.lines}
        self.live.half = b""
        with self.logs.path().open("r+b") as file:
            file.truncate(0)
        self.ended.append(self.live)
        self.live = None

    # --- the agent

    @rule(passes=st.integers(1, 3), advance=st.sampled_from([0.0, 1.0, 6.0]))
    def read(self, passes: int, advance: float) -> None:
        self.logs.read(passes=passes, advance=advance)

    @rule(after=st.integers(1, 3))
    def killed_after_a_draft(self, after: int) -> None:
        self.logs.read(passes=1, after=after)
        self.logs.restart()

    @rule(kept=st.integers(0, 2))
    def a_draft_is_refused(self, kept: int) -> None:
        if kept:
            self.logs.read(passes=1, after=kept)
        refused = self.logs.site.source.read(self.logs.site.checkpoint)
        next(refused, None)
        refused.close()  # type: ignore[attr-defined]

    @precondition(lambda self: self.rotated or self.live is not None)
    @rule()
    def touch(self) -> None:
        path = self.logs.path(self.rotated[-1][0] if self.rotated else "x.log")
        os.utime(path, ns=(10**18 + self.count, 10**18 + self.count))

    @rule()
    def restart(self) -> None:
        self.logs.restart()

    # --- the account

    def teardown(self) -> None:
        try:
            if hasattr(self, "logs"):
                self.logs.read(passes=12, advance=6)
                self.logs.restart()
                assert not records(self.logs.read(passes=2, advance=6)), "nothing is read twice"
                self.compare()
        finally:
            shutil.rmtree(self.root)

    def compare(self) -> None:
        generations = [*self.ended, *([self.live] if self.live else [])]
        written = [line for generation in generations for line in generation.lines]
        sent = lines(self.logs.seen)
        assert len(sent) == len(set(sent)), "a line came under two identities"
        assert set(sent) <= set(written), "something was sent that nobody wrote"
        assert set(written) - set(sent) <= self.lost, "a line is missing"
        home = {line: i for i, generation in enumerate(generations) for line in generation.lines}
        ordinal = {line: j for generation in generations for j, line in enumerate(generation.lines)}
        of_unit: dict[bytes, int] = {}
        for (unit, record), line in records(self.logs.seen):
            assert of_unit.setdefault(unit, home[line.rstrip(b"\n")]) == home[line.rstrip(b"\n")], "two files in a unit"
            assert record == ordinal[line.rstrip(b"\n")], "a line has another ordinal than in its file"
        assert len(set(of_unit.values())) == len(of_unit), "a file has two units"
        places = [home[line] for line in sent if line not in self.late]
        assert places == sorted(places), "a file was begun before an older one was finished"
        assert all(draft.header.prefix in (HEADER, b"") for draft in self.logs.seen)
        assert all(reject.code in ("gone", "truncated") for reject in rejects(self.logs.seen))


LogAgainstLists.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLogAgainstLists = LogAgainstLists.TestCase
