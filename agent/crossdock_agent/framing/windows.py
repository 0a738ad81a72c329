"""Records that stand one behind the other: every byte of a file is in the prefix, a payload or a reject, in order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from crossdock.v1.batch_pb2 import Reject
from crossdock_agent.framing.base import SAMPLE_BYTES, Position, Run, Scan, Scanner

_FOREIGN = (
    "the file begins with the mark of the other byte order; set 'encoding' to the other of utf-16-le and utf-16-be"
)


@dataclass(slots=True)
class _Skip:
    """A reject in the making: what has been seen of it, without its bytes."""

    sample: bytes
    length: int
    lines: int
    code: str
    reason: str
    to_the_end: bool  # of the file; else to the next newline
    rest: bytes = b""  # half a character, at the end of a block


class WindowFramer:
    """Collects blocks to windows and cuts each at the last record that ends in it.

    A window begins at a record and has the size of a batch; it grows, by doubling, only for a record that is longer.
    A record that does not end within *max_record_bytes* becomes a reject. If no quote is open there, the reject is the
    whole record and reading goes on behind it. If one is, it is taken for a slip: the reject ends with the line that
    holds the quote, and reading goes on in the next. For a record of one line that is the record's first line; in one
    of several it does not tear quoted newlines before the slip apart. And it is cheap whatever the file holds: no quote
    in the rest of the window can stay open again, or it would have closed this one.
    """

    def __init__(
        self,
        scanner: Scanner,
        max_record_bytes: int,
        *,
        start: Position | None,
        prefix: bytes,
        target_bytes: int,
        target_records: int,
    ) -> None:
        self.prefix = prefix
        self._scanner = scanner
        self._limit = max_record_bytes
        self._base = self._window = min(target_bytes, max_record_bytes)
        self._target_records = target_records
        self._position = start or Position()
        self._begun = start is not None
        self._mark: bytes | None = b"" if self._begun else None  # None: not yet looked for
        self._buffer = b""
        self._at = 0
        self._skip: _Skip | None = None
        self._torn: Position | None = None  # where the first record begins that is a reject because the file ends

    @property
    def wanted(self) -> int:
        """The size of block that makes the next window full. Any other works as well."""
        return self._base if self._skip else self._window - (len(self._buffer) - self._at)

    def feed(self, block: bytes) -> Iterator[Run]:
        """The runs that *block*, the next bytes of the file, completes. Take all of them before feeding on."""
        if self._skip:
            block = yield from self._pass_over(self._skip, block)
        self._buffer = self._buffer[self._at :] + block
        self._at = 0
        yield from self._frame(last=False)

    def finish(self) -> Iterator[Run]:
        """What is left when the file has ended."""
        yield from self._frame(last=True)
        if self._skip:
            self._torn = self._torn or self._position
            self._skip.length += len(self._skip.rest)
            yield self._reject(self._skip)
        self.prefix = self._take_mark() + self.prefix  # a file of nothing but a mark

    def _frame(self, *, last: bool) -> Iterator[Run]:
        while held := len(self._buffer) - self._at:
            if held < self._window and not last:
                return
            if self._mark is None:
                yield from self._lift_mark()
                continue
            end = self._at + min(held, self._window)
            whole = last and end == len(self._buffer)
            scan = self._scanner.scan(self._buffer, self._at, end, last=whole) if self._begun else None
            if scan and scan.records:
                yield from self._runs(scan)
                self._window = self._base
            elif not scan and self._begin(end, whole=whole):
                self._window = self._base
            elif not whole and self._window < self._limit:
                self._window = min(2 * self._window, self._limit)
            else:
                yield from self._give_up(scan.opened if scan else -1, end, whole=whole)
                self._window = self._base

    def _begin(self, end: int, *, whole: bool) -> bool:
        """Take the header off; False when it does not end in the window."""
        first = self._scanner.header(self._buffer, self._at, end, last=whole)
        if first < 0:
            return False
        if first > self._at:
            self.prefix = self._take_mark() + self._buffer[self._at : first]
            self._position = Position(len(self.prefix), 0, 1 + self._scanner.newlines(self._buffer, self._at, first))
            self._at = first
        self._begun = True
        return True

    def _lift_mark(self) -> Iterator[Run]:
        """A quote behind a byte order mark stands at the beginning of a field: scanners never see the mark."""
        mark = self._scanner.mark
        self._mark = mark if mark and self._buffer.startswith(mark) else b""
        self._buffer = self._buffer[len(self._mark) :]
        if self._scanner.foreign and not self._mark and self._buffer.startswith(self._scanner.foreign):
            seen = self._buffer[: min(SAMPLE_BYTES, self._window)]
            self._skip = _Skip(seen, 0, 0, "encoding", _FOREIGN, to_the_end=True)
            self._buffer = yield from self._pass_over(self._skip, self._buffer)

    def _take_mark(self) -> bytes:
        """The byte order mark, once: it travels before the first bytes, for decoding to see."""
        mark, self._mark = self._mark or b"", b""
        return mark

    def _runs(self, scan: Scan) -> Iterator[Run]:
        """One run, or full ones of *target_records*; what then remains is looked at again, as after a restart."""
        if scan.records <= self._target_records:
            yield self._run(scan.end, scan.records, scan.lines, scan.loose)
            return
        for cut in self._scanner.cuts(self._buffer, scan, self._target_records):
            lines = self._scanner.newlines(self._buffer, self._at, cut) if scan.lines else 0
            yield self._run(cut, self._target_records, lines, -1)
            if self._window > self._base:
                return

    def _run(self, end: int, records: int, lines: int, loose: int) -> Run:
        start = self._position
        payload = self._buffer[self._at : end]
        if self._mark:
            payload = self._take_mark() + payload
        stop = Position(start.offset + len(payload), start.record + records, start.line + lines)
        torn = None
        if loose >= 0:
            inside = self._scanner.newlines(self._buffer, loose, end)
            torn = Position(stop.offset - (end - loose), stop.record - 1, stop.line - inside)
        self._at, self._position = end, stop
        return Run(start, stop, payload, records, loose=self._torn or torn)

    def _give_up(self, opened: int, end: int, *, whole: bool) -> Iterator[Run]:
        """No record ends in this window, and none may be longer; or a quote stays open and the file has ended."""
        line_end = self._scanner.after_line(self._buffer, opened, end) if opened >= 0 else -1
        stop = line_end if line_end >= 0 else end
        code, reason = self._reason(opened, end, whole=whole)
        if whole and self._torn is None:
            self._torn = self._position
        seen = self._take_mark() + self._buffer[self._at : stop]
        lines = self._scanner.newlines(self._buffer, self._at, stop)
        to_the_end = not self._begun or not self._scanner.resumes
        skip = _Skip(seen[:SAMPLE_BYTES], len(seen), lines, code, reason, to_the_end)
        self._at = stop
        if line_end >= 0:
            yield self._reject(skip)
        else:
            self._skip = skip
            self._buffer = yield from self._pass_over(skip, self._buffer[stop:])
            self._at = 0

    def _reason(self, opened: int, end: int, *, whole: bool) -> tuple[str, str]:
        if not self._begun:
            text = f"the header does not end within {end - self._at} bytes; nothing in the file can be read without it"
            return "header_too_long", text
        if trouble := self._scanner.trouble(self._buffer, self._at, end):
            return trouble
        if opened < 0:
            return "too_long", f"the {self._scanner.noun} is longer than max_record_bytes, {self._limit}"
        line = self._position.line + self._scanner.newlines(self._buffer, self._at, opened)
        until = "until the end of the file" if whole else f"for {self._limit} bytes (max_record_bytes)"
        text = f"the quote opened in line {line} stays open {until}; reading went on in line {line + 1}"
        return "unclosed_quote" if whole else "too_long", text

    def _pass_over(self, skip: _Skip, block: bytes) -> Generator[Run, None, bytes]:
        """Count *block* towards *skip*; what follows its end is given back."""
        block = skip.rest + block
        whole = len(block) - len(block) % self._scanner.unit
        line_end = -1 if skip.to_the_end else self._scanner.after_line(block, 0, whole)
        stop = line_end if line_end >= 0 else whole
        skip.length += stop
        skip.lines += self._scanner.newlines(block, 0, stop)
        if line_end >= 0:
            yield self._reject(skip)
            return block[stop:]
        skip.rest = block[stop:]
        return b""

    def _reject(self, skip: _Skip) -> Run:
        start = self._position
        reject = Reject(
            record=start.record,
            line=start.line,
            offset=start.offset,
            bytes=skip.length,
            code=skip.code,
            reason=skip.reason,
            sample=skip.sample,
        )
        self._position = Position(start.offset + skip.length, start.record + 1, start.line + skip.lines)
        self._skip = None
        return Run(start, self._position, rejects=(reject,), loose=self._torn)
