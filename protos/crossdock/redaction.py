"""Takes secrets out of text before it is kept or sent: those that were looked up here, and what has a secret's form.

A belt beside the braces: nothing of ours writes secrets to a log, but a driver's error may quote its connection string.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

MASK = "***"
MIN_LENGTH = 4  # a shorter one would make every other word illegible

_PATTERNS = [
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"\bcd[a-z]?\d_[A-Za-z0-9_-]{16,}"),  # join tokens and the like
    re.compile(r"(?i)(?<=\bbearer )[A-Za-z0-9._~+/=-]{8,}"),
    re.compile(r"(?i)(?<=\bbasic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),  # user:password of an address
]
_ASSIGNED = re.compile(
    r"(?i)\b(pwd|password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)"
    r"""(["']?\s*[=:]\s*)(\{[^}]*\}|"[^"]*"|'[^']*'|[^\s;,&}]+)"""
)


class Redactor:
    """Knows the secrets that were resolved in this process. From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None

    def learn(self, secret: str) -> None:
        """Take *secret* out from now on, also where it stands line by line."""
        parts = {secret, *secret.splitlines()}
        new = {part.strip() for part in parts if len(part.strip()) >= MIN_LENGTH}
        with self._lock:
            if new <= self._known:
                return
            self._known |= new
            longest_first = sorted(self._known, key=len, reverse=True)
            self._pattern = re.compile("|".join(re.escape(word) for word in longest_first))

    def learning(self, resolve: Callable[[str], str]) -> Callable[[str], str]:
        """*resolve* of `Secrets`, whose answers are learned. What is no reference is no secret."""

        def resolved(value: str) -> str:
            answer = resolve(value)
            if answer != value:
                self.learn(answer)
            return answer

        return resolved

    def clean(self, text: str) -> str:
        pattern = self._pattern
        if pattern is not None:
            text = pattern.sub(MASK, text)
        for form in _PATTERNS:
            text = form.sub(MASK, text)
        return _ASSIGNED.sub(rf"\1\2{MASK}", text)
