"""The contract of a format: payload bytes in, rows out, and every record of the payload is in exactly one place.

A record is a row, a fault (it cannot be read; the others can) or blank. Positions count the records of the payload from
0, in file order. Nothing here raises for bad data. Whoever adds a format adds one file in this folder: settings (a
frozen pydantic model), the class, and `register(...)`.
"""

from __future__ import annotations

import codecs
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, overload

from pydantic import BaseModel, ConfigDict, field_validator

from crossdock.errors import ConfigError
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_controller.formats.lists import Elements, elements_of, named

SAMPLE_BYTES = 4096  # of a record, for the eyes of a person
REPLACEMENT = "\ufffd"  # stands in a leniently decoded text where bytes could not be read
BLANK = " \t\r\n\x00\x1a\ufeff"  # what no reader of a field means: padding, NULs, an end-of-file mark


class FormatSettings(BaseModel):
    """Base of every format's settings: unknown keys are refused with their path."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    def columns_declared(self) -> tuple[str, ...] | None:
        """Column names where the settings alone tell them; None where the data does."""
        return None

    def lists_declared(self) -> tuple[str, ...] | None:
        """Columns that hold a list of records, as the settings tell them; None where the data does."""
        return ()


class TextSettings(FormatSettings):
    encoding: str = "utf-8"

    @field_validator("encoding")
    @classmethod
    def _can_be_framed(cls, name: str) -> str:
        return cls.checked_encoding(name)

    @classmethod
    def checked_encoding(cls, name: str) -> str:
        """*name*, if the agent can find records in it. Raises ValueError."""
        return framable(name)


class LineSettings(TextSettings):
    """Of formats whose records end with a newline: UTF-16 as well."""

    @classmethod
    def checked_encoding(cls, name: str) -> str:
        return name if wide_codec(name) else framable(name)


def framable(name: str) -> str:
    """*name*. Raises ValueError unless it leaves ASCII as it is."""
    try:
        codecs.lookup(name)
        same = '\n\r",;|\t0A'.encode(name) == b'\n\r",;|\t0A'
    except (LookupError, UnicodeError) as error:
        raise ValueError(f"unknown encoding {name!r}; for example utf-8, cp1252, cp850, latin-1") from error
    if not same:
        raise ValueError(f"encoding {name!r} cannot be framed by bytes; have the file written as utf-8 or cp1252")
    return name


def single_bytes(name: str) -> str:
    """*name*. Raises ValueError unless every ASCII byte is that character wherever it stands."""
    utf8 = codecs.lookup(framable(name)).name in ("utf-8", "utf-8-sig")
    if not utf8 and len(bytes(range(256)).decode(name, "replace")) != 256:
        raise ValueError(f"encoding {name!r} cannot be framed by bytes; have the file written as utf-8")
    return name


def wide_codec(name: str) -> str:
    """`utf-16-le` or `utf-16-be`; empty for what is not UTF-16, which without an order is read as Windows writes it."""
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return ""
    return {"utf-16": "utf-16-le", "utf-16-le": "utf-16-le", "utf-16-be": "utf-16-be"}.get(found, "")


@dataclass(frozen=True, slots=True)
class Fault:
    """One record that cannot be read. *row* holds what could be read of it by column: enough to tell which group it
    belongs to, and to correct by hand; what is damaged is left out of it. *cut* is the field at which a torn file ends:
    perhaps whole, perhaps half."""

    position: int
    line: int
    code: str
    reason: str
    column: str = ""
    sample: bytes = b""
    row: dict[str, object] = field(default_factory=dict)
    cut: dict[str, object] = field(default_factory=dict)


class Flat(Sequence[list[str]]):
    """Rows of texts kept as one flat list: a column is a stride of it, a row is cut out only when someone looks."""

    __slots__ = ("_count", "_delimiter", "_marked", "_stride", "_values")

    def __init__(self, marked: str, delimiter: str, values: list[str], width: int) -> None:
        """Use `of`. *marked* is the text with a field of one newline after each row, *values* are its fields."""
        self._marked, self._delimiter, self._values = marked, delimiter, values
        self._stride = width + 1
        self._count = len(values) // self._stride

    @classmethod
    def of(cls, text: str, delimiter: str, width: int) -> Flat | None:
        """The rows of *text*, each ended by a newline (or CR LF); None unless every one has *width* fields.

        All fields by one split. A newline that stands alone after each *width* fields, and nowhere else, proves them.
        """
        mark = f"{delimiter}\n{delimiter}"
        marked = text.replace("\r\n" if "\r" in text else "\n", mark)
        if not marked.endswith(mark) or "\r" in marked:
            return None
        values = marked.split(delimiter)
        del values[-1]  # what follows the last mark
        rows, stride = marked.count("\n"), width + 1
        if len(values) != rows * stride or values[width::stride].count("\n") != rows:
            return None
        return cls(marked, delimiter, values, width)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> list[str]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[str]]: ...
    def __getitem__(self, index: int | slice) -> list[str] | list[list[str]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        start = index * self._stride
        return self._values[start : start + self._stride - 1]

    def column(self, at: int) -> list[str]:
        return self._values[at :: self._stride]

    def joined(self, separator: str) -> list[bytes]:
        """Each row with *separator* between its values, in UTF-8."""
        mark = f"{separator}\n{separator}".encode()
        data = self._marked.replace(self._delimiter, separator).encode("utf-8", "surrogatepass").split(mark)
        del data[-1]
        return data


@dataclass(slots=True)
class Decoded:
    """The rows of one payload. *positions* and *lines* stand beside *rows*; a table has line 0 everywhere."""

    columns: tuple[str, ...]
    rows: Sequence[Any]  # sequences of values under *columns*; the objects themselves where there are objects
    positions: Sequence[int]
    lines: Sequence[int]
    count: int  # records found in the payload: rows, faults and blanks
    sample: Callable[[int], bytes]  # raw bytes of the record at a position, at most SAMPLE_BYTES
    terminated: bool = True  # the last record has its ending, so that it cannot be torn
    faults: list[Fault] = field(default_factory=list)
    blanks: list[int] = field(default_factory=list)  # positions
    trailers: list[int] = field(default_factory=list)  # positions of what is no record and was found right
    # Set when the header cannot be understood (code, reason): then nothing can be said of any row.
    header_fault: tuple[str, str] | None = None
    header_seen: str = ""
    # Whole records by field, of a format without fixed columns (JSON).
    objects: list[dict[str, object]] | None = None
    # Columns of the rows inside a column, by its name (rows of a child table); their elements are arrays.
    nested: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def column(self, name: str) -> Sequence[Any]:
        """The values of one column, a row each."""
        if self.objects is not None:
            return [entry.get(name) for entry in self.objects]
        at = self.columns.index(name)
        return self.rows.column(at) if isinstance(self.rows, Flat) else [row[at] for row in self.rows]

    def elements(self, name: str) -> Elements:
        """The lists in one column."""
        if self.objects is None:
            return elements_of(self.column(name), self.nested.get(name))
        return elements_of([_list_in(entry, name) for entry in self.objects], None)

    def fields(self, i: int) -> dict[str, object]:
        """Row *i* by column name, as a dead letter shows and corrects it."""
        if self.objects is not None:
            return self.objects[i]
        row = dict(zip(self.columns, self.rows[i], strict=False))
        for name, names in self.nested.items():
            row[name] = named(row.get(name), names)
        return row

    def select(self, keep: Sequence[int]) -> Decoded:
        """Only the rows at the indices *keep*; faults and blanks stay."""
        return Decoded(
            columns=self.columns,
            rows=[self.rows[i] for i in keep],
            positions=[self.positions[i] for i in keep],
            lines=[self.lines[i] for i in keep],
            count=self.count,
            sample=self.sample,
            terminated=self.terminated,
            faults=self.faults,
            blanks=self.blanks,
            trailers=self.trailers,
            header_fault=self.header_fault,
            header_seen=self.header_seen,
            objects=None if self.objects is None else [self.objects[i] for i in keep],
            nested=self.nested,
        )


def _list_in(entry: dict[str, object], name: str) -> object:
    """The list at *name*. An object in its place, of which only the parts are left, must not read as no list."""
    if name in entry:
        return entry[name]
    return {key: value for key, value in entry.items() if key.startswith(f"{name}.")} or None


class Format(Protocol):
    text_only: bool  # every value of a row is a str, so that conversions may be remembered by value

    def decode(self, header: BatchHeader, payload: bytes, wanted: Sequence[str]) -> Decoded:
        """Rows of *payload*. *wanted* are the columns the mapping reads; a format whose records have no fixed columns
        returns these, others return their own."""

    def contents(self, decoded: Decoded) -> list[bytes]:
        """One byte string a row, equal for equal content whatever batch it came in: what an event id is made of."""

    def content(self, row: dict[str, object]) -> bytes:
        """The same for one row by column name, in column order (a corrected dead letter)."""

    def glimpse(self, header: BatchHeader, sample: bytes) -> dict[str, object]:
        """What can be read of the beginning of a record that is too damaged or too long to be read whole."""


@dataclass(frozen=True, slots=True)
class FormatKind:
    name: str
    settings: type[FormatSettings]
    create: Callable[[Any], Format]


_KINDS: dict[str, FormatKind] = {}


def register(name: str, settings: type[FormatSettings], create: Callable[[Any], Format]) -> None:
    _KINDS[name] = FormatKind(name, settings, create)


def kinds() -> dict[str, FormatKind]:
    """Every format in this folder, by name."""
    import crossdock_controller.formats as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_KINDS)


def create(settings: FormatSettings) -> Format:
    """Raises ConfigError when no format of that kind exists."""
    known = kinds()
    if settings.kind not in known:
        raise ConfigError(f"unknown format {settings.kind!r}", hint=f"known formats: {', '.join(sorted(known))}")
    return known[settings.kind].create(settings)


def column_names(raw: Sequence[str]) -> tuple[str, ...]:
    """Header names without padding; a blank one, and each of several equal ones, gets its position ("QTY#3"): a name
    that stands twice cannot be asked for by mistake."""
    names = [text.strip(BLANK) for text in raw]
    return tuple(name if name and names.count(name) == 1 else f"{name}#{i}" for i, name in enumerate(names, start=1))


def strip_mark(text: str) -> str:
    """*text* without a leading byte order mark."""
    return text.removeprefix("\ufeff")


def mark_fault(encoding: str) -> tuple[str, str] | None:
    """For a text that begins with a UTF-8 mark under another declared *encoding*: every non-ASCII character would be
    read wrong without an error."""
    name = codecs.lookup(encoding).name
    if name in ("utf-8", "utf-8-sig"):
        return None
    return "encoding", f"the file begins with a UTF-8 byte order mark, the source declares {name}"


def encoding_fault(name: str, error: UnicodeDecodeError) -> str:
    """A sentence about *error*: the byte, its place, the encoding that was declared."""
    byte = error.object[error.start]
    return f"byte 0x{byte:02x} at byte {error.start + 1} of the record is not {name}, the encoding the source declares"
