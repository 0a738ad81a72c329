"""Takes secrets out of text before it leaves this process: log lines, answers to commands, support bundles.

Two ways, both always: by value, whatever this process has resolved (`KNOWN`), in the forms in which a value turns up
inside other text; and by shape, what looks like a password, a token or a private key. A reference (`secret:NAME`) is no
secret and stays. A value of fewer than MIN_LENGTH characters is found by shape alone: it would be found in every line.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "***"
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"}
MIN_LENGTH = 4
VALUES = 300  # known at once; the oldest give way

_NAMES = (
    r"pwd|passwd|password|passphrase|passwort|kennwort|secret|token|credentials?|api[-_ ]?key|access[-_ ]?key"
    r"|account[-_ ]?key|shared[-_ ]?key|private[-_ ]?key|client[-_ ]?secret|shared[-_ ]?access[-_ ]?signature"
    r"|authorization|cookie"
)
_HINT = re.compile(
    r"p(?:ass)?w(?:or)?d|passp|kennw|secret|token|key|auth|bearer|basic|://|cd[0-9a-z]{1,4}_|cred|cookie|signature"
    r"|[?&](?:sig|code|auth|access|pass)=",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"""["'{ ]*secret:[A-Za-z0-9][A-Za-z0-9._-]*["'} ]*""")
_PAIR = re.compile(
    rf"""(?P<name>(?:{_NAMES})["']?[ \t]*[=:][ \t]*(?:(?:bearer|basic|digest|negotiate)\s+)?)"""
    r"""(?P<value>\{(?:[^}]|\}\})*\}?|\\?"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?|"""
    r"""[^\s;,&"'})\]]+(?:[ ][^;=\r\n"']{0,200}?(?=;))?)""",
    re.IGNORECASE,
)
_SHAPES: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        rf"\1{MASK}",
    ),
    (re.compile(r"\bcd[0-9a-z]{1,4}_[A-Za-z0-9_=-]{12,}"), MASK),  # join tokens and API tokens
    (re.compile(r"\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b([Bb]asic\s+)(?=[a-z]*[A-Z0-9+/])[A-Za-z0-9+/]{8,}={0,2}"), rf"\1{MASK}"),
    (
        re.compile(r"""(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://[^\s/:@?#"']*:)(?!\d{1,5}(?:[/?#\s"']|$))[^\s"'<>]{1,300}@"""),
        rf"\1{MASK}@",
    ),
    (re.compile(r"""([?&](?:key|sig|code|auth|access|pass|token)=)[^&\s"'<>]+""", re.IGNORECASE), rf"\1{MASK}"),
)
_SENSITIVE_KEY = re.compile(rf"(?:.*[-_ .])?(?:{_NAMES})", re.IGNORECASE)


class Redactor:
    """Values to take out. Any thread may teach and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, None] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, value: str) -> None:
        """Never let *value* through from now on. Cheap for a value that is known."""
        if len(value) < MIN_LENGTH or value in self._values:
            return
        with self._lock:
            for part in dict.fromkeys([value, *(line for line in value.splitlines() if len(line) >= 8)]):
                self._values[part] = None
            while len(self._values) > VALUES:
                del self._values[next(iter(self._values))]
            found = {form for known in self._values for form in forms(known)}
            longest_first = sorted(found, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def learning(self, resolve: Callable[[str], str]) -> Callable[[str], str]:
        """*resolve*, whose answers are learned. What is no reference is no secret."""

        def resolved(value: str) -> str:
            answer = resolve(value)
            if answer != value:
                self.learn(answer)
            return answer

        return resolved

    def clean(self, text: str) -> str:
        """*text* without secrets."""
        pattern = self._pattern
        if pattern is not None:
            text = pattern.sub(MASK, text)
        return by_shape(text) if _HINT.search(text) else text

    def known(self) -> list[str]:
        return list(self._values)

    def structure(self, value: Any) -> Any:
        """A copy of what JSON can hold, without secrets: also not under a key that names one."""
        if isinstance(value, dict):
            return {
                self.clean(str(key)): self._under(str(key), item, self.structure) for key, item in value.items()
            }  # fmt: skip
        if isinstance(value, list | tuple):
            return [self.structure(item) for item in value]
        return self.clean(value) if isinstance(value, str) else value

    def _under(self, key: str, item: Any, otherwise: Callable[[Any], Any]) -> Any:
        if (
            not _SENSITIVE_KEY.fullmatch(key)
            or isinstance(item, dict | list | tuple)
            or item in (None, "", True, False)
        ):
            return otherwise(item)
        return item if isinstance(item, str) and _REFERENCE.fullmatch(item) else MASK


def by_shape(text: str) -> str:
    """*text* without what looks like a secret."""
    for pattern, mark in _SHAPES:
        text = pattern.sub(mark, text)
    return _PAIR.sub(_pair, text)


def _pair(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    is_reference = _REFERENCE.fullmatch(value) or _REFERENCE.fullmatch(name.lower() + value.rstrip(".:"))
    if is_reference or value.startswith(MASK) or value in {'""', "''", "{}"}:
        return match[0]
    quote_ = value[0] if value[0] in "\"'" else ""
    return f"{name}{quote_}{MASK}{quote_}"


def forms(value: str) -> Iterator[str]:
    """*value* as it turns up in text: as it is, escaped, in an address, in base64 at any offset, in UTF-16, in hex."""
    yield value
    for escaped in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]):
        yield escaped
        yield json.dumps(escaped)[1:-1]  # in a string inside a JSON document
    yield "".join(_HTML.get(char, char) for char in value)
    yield value.replace("}", "}}")  # in braces, in an ODBC connection string
    for encoded in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), encoded)
    for zero in ("\0", "\\x00", "\\u0000", "\\0"):  # UTF-16 that was read as something else
        yield zero.join(value)
    for data in (value.encode("utf-8", "surrogatepass"), value.encode("utf-16-le", "surrogatepass")):
        yield data.hex()
        yield data.hex().upper()
        yield repr(data)[2:-1]
        yield from _base64(data)
    yield from _base64(value.encode("utf-16-be", "surrogatepass"))


def _base64(data: bytes) -> Iterator[str]:
    """What *data* has in common in every base64 text that it is a part of, for each offset of its first byte."""
    for offset in range(3):
        begin, end = -(-offset * 8 // 6), (offset + len(data)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(offset) + data + bytes(3)).decode()[begin:end]
            if len(text) >= 5:
                yield text


KNOWN = Redactor()  # what this process has resolved
