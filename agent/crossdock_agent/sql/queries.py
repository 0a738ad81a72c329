"""A query that somebody wrote, as a table to read from: `FROM (query) s`. It is put in as it stands.

Looked at here is only what would break out of the parentheses or read as something else: a semicolon, a second
statement, a `?` that the driver would take for a value, a first word that is no query. Text literals, quoted names and
comments are stepped over (ISO/IEC 9075-2, 5.2 and 5.3; backslashes and `#` as MySQL has them).
"""

from __future__ import annotations

import re

from crossdock.errors import ConfigError
from crossdock_agent.sql.dialect import Dialect

_OPAQUE = (  # one of these is stepped over whole
    r"'(?:[^']|'')*'",
    r'"(?:[^"]|"")*"',
    r"`(?:[^`]|``)*`",
    r"--[^\n]*",
    r"/\*.*?\*/",
    r"\$(\w*)\$.*?\$\1\$",
)
_BACKSLASHED = (r"'(?:[^'\\]|\\.|'')*'", r'"(?:[^"\\]|\\.|"")*"', *_OPAQUE[2:5], r"#[^\n]*")
_PLAIN = re.compile("|".join(_OPAQUE), re.DOTALL)
_MYSQL = re.compile("|".join(_BACKSLASHED), re.DOTALL)
_BRACKETED = re.compile("|".join((*_OPAQUE[:5], r"\[(?:[^\]]|\]\])*\]")), re.DOTALL)


def checked(query: str, dialect: Dialect) -> str:
    """*query* without a semicolon at its end. Raises ConfigError when it cannot stand in FROM, with what to do."""
    pattern = _MYSQL if dialect.backslashes else _BRACKETED if dialect.quote == "[" else _PLAIN
    bare = pattern.sub(lambda match: " " * len(match[0]), query)  # the same length: places stay what they were
    end = len(bare.rstrip("; \t\r\n"))
    query = query[:end] + "".join(" " if b == ";" else q for q, b in zip(query[end:], bare[end:], strict=True))
    bare = bare[:end]
    words = bare.split()
    first = words[0].lower().lstrip("(") if words else ""
    if first not in ("select", "with", "values", "table"):
        raise ConfigError(f"the query begins with {words[0] if words else 'nothing'!r}", hint="write a SELECT")
    if ";" in bare:
        raise ConfigError("the query holds more than one statement", hint="write one SELECT, without a semicolon")
    if "?" in bare:
        raise ConfigError(
            "the query holds a '?', which stands for a value nobody gives",
            hint="write the value itself; an operator with a '?' has a function that does the same",
        )
    if first == "with" and not dialect.nested_with:
        raise ConfigError(
            f"the query begins with WITH, which {dialect.name} takes in no FROM",
            hint="make a view of it and read that with kind sql_table",
        )
    if bare.count("(") != bare.count(")"):
        raise ConfigError("the query's parentheses do not match", hint="correct 'query'")
    return query.rstrip()


def as_table(query: str) -> str:
    """On lines of its own: it may end in a comment."""
    return f"(\n{query}\n)"
