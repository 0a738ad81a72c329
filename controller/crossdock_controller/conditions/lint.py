"""What a route's condition may say, checked when it is loaded: at run time CEL has no clock and no mercy.

CEL holds the interpreter lock and cannot be stopped, so its size and nesting are limited here. It also never says that
a comparison is senseless (`'5' == 5` is quietly false), so operands whose types are known are compared here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import cel

from crossdock_controller.conditions.comparisons import lint_comparisons
from crossdock_controller.conditions.tokens import (
    MACROS,
    Token,
    bound_names,
    deepest_bracket,
    is_macro,
    path_at,
    tokenize,
)
from crossdock_controller.conditions.vocabulary import EXACT_DIGITS, VARIABLES, Finding, Vocabulary
from crossdock_controller.hints import did_you_mean

MAX_LENGTH = 2_000
MAX_BRACKETS = 24
_FUNCTIONS = frozenset(
    [
        "size",
        "startsWith",
        "endsWith",
        "contains",
        "matches",
        "has",
        "timestamp",
        "duration",
        "string",
        "int",
        "uint",
        "double",
        "bool",
        "getFullYear",
        "getMonth",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getHours",
        "getMinutes",
        "getSeconds",
        "getMilliseconds",
    ]
)


def lint(source: str, vocabulary: Vocabulary) -> list[Finding]:
    """Everything wrong with *source*, by column; empty when it may be used."""
    if len(source) > MAX_LENGTH:
        return [Finding(1, f"condition has {len(source)} characters, the limit is {MAX_LENGTH}", "split the route")]
    if not source.strip():
        return [Finding(1, "condition is empty", "leave 'when' out to take every event")]
    tokens = tokenize(source)
    if tokens is not None and deepest_bracket(tokens) > MAX_BRACKETS:
        return [Finding(1, f"condition nests more than {MAX_BRACKETS} brackets", "prepare the value in the mapping")]
    try:
        program = cel.compile(source)
    except ValueError as error:
        return [_syntax(str(error))]
    if tokens is None:
        return [Finding(1, "condition uses a form of text or name that is not supported here", "write plain names")]
    return sorted({*_lint_tokens(tokens, program, vocabulary)})


def _syntax(text: str) -> Finding:
    """The first of CEL's parse errors: "ERROR: <input>:1:5: Syntax error: mismatched input ...", without its tables."""
    match = re.search(r"ERROR: <input>:\d+:(\d+): (.*)", text)
    column, message = (int(match[1]), match[2]) if match else (1, text.splitlines()[0])
    message = message.removeprefix("Syntax error: ").split(" expecting {")[0]
    return Finding(column, f"condition cannot be read: {message}", "for example: document == 'Shipment'")


def _lint_tokens(tokens: list[Token], program: cel.Program, vocabulary: Vocabulary) -> Iterator[Finding]:
    bound = bound_names(tokens)
    yield from _lint_names(tokens, bound, set(program.variables()))
    yield from _lint_functions(tokens)
    yield from _lint_patterns(tokens)
    yield from _lint_arithmetic(tokens)
    yield from _lint_nesting(tokens)
    yield from _lint_paths(tokens, bound, vocabulary)
    yield from lint_comparisons(tokens, bound, vocabulary)
    if (
        not program.functions()
        and [t.text for t in tokens] not in (["true"], ["false"])
        and "has" not in _texts(tokens)
    ):
        yield Finding(1, "condition compares nothing", "a condition is true or false: document == 'Shipment'")


def _texts(tokens: list[Token]) -> list[str]:
    return [t.text for t in tokens]


def _lint_names(tokens: list[Token], bound: set[str], used: set[str]) -> Iterator[Finding]:
    for name in sorted(bound & VARIABLES.keys()):
        yield Finding(1, f"{name!r} is bound inside a comprehension and is also a variable", "use another letter")
    for name in sorted(used - bound - VARIABLES.keys()):
        column = next((t.start + 1 for t in tokens if t.text == name), 1)
        hint = did_you_mean(name, VARIABLES)
        if not hint.startswith("did"):
            hint = f"fields of the document are written doc.{name}; " + hint
        yield Finding(column, f"unknown variable {name!r}", hint)


def _lint_functions(tokens: list[Token]) -> Iterator[Finding]:
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        method = before is not None and before.text == "."
        if token.kind == "name" and after.text == "(" and token.text not in _FUNCTIONS | (MACROS if method else set()):
            yield Finding(
                token.start + 1, f"unknown function {token.text!r}", did_you_mean(token.text, _FUNCTIONS | MACROS)
            )


def _lint_patterns(tokens: list[Token]) -> Iterator[Finding]:
    for token, bracket, pattern in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.text == "matches" and bracket.text == "(" and pattern.kind == "string":
            try:
                cel.evaluate(f"''.matches({pattern.text})")
            except (ValueError, TypeError, RuntimeError):
                yield Finding(pattern.start + 1, f"{pattern.text} is not a regular expression", "RE2 syntax is used")


def _lint_arithmetic(tokens: list[Token]) -> Iterator[Finding]:
    """Decimals are bound as doubles: compared exactly, but not added exactly. So routes compare and do not compute."""
    for before, token in zip([None, *tokens], tokens, strict=False):
        operand = before is not None and (before.kind != "op" or before.text in ")]}")
        if token.kind == "op" and (token.text in "+*/%" or (token.text == "-" and operand)):
            yield Finding(
                token.start + 1,
                f"conditions compare, they do not compute ({token.text!r})",
                "compute it in the mapping",
            )
        if token.kind == "number" and _significant_digits(token.text) > EXACT_DIGITS:
            yield Finding(
                token.start + 1, f"number has more than {EXACT_DIGITS} significant digits", "compare it as text"
            )


def _significant_digits(text: str) -> int:
    if text[:2].lower() == "0x":
        return 0
    return len(re.sub(r"[eE].*|[uU.]", "", text).strip("0"))


def _lint_nesting(tokens: list[Token]) -> Iterator[Finding]:
    open_brackets: list[bool] = []  # True: the bracket of a comprehension
    for i, token in enumerate(tokens):
        if token.kind != "op":
            continue
        if token.text in "([{":
            macro = i >= 2 and is_macro(tokens, i - 2)
            if macro and any(open_brackets):
                yield Finding(
                    tokens[i - 1].start + 1, "a comprehension stands inside another", "prepare the value in the mapping"
                )
            open_brackets.append(macro)
        elif token.text in ")]}" and open_brackets:
            open_brackets.pop()


def _lint_paths(tokens: list[Token], bound: set[str], vocabulary: Vocabulary) -> Iterator[Finding]:
    known = {path for fields in vocabulary.fields.values() for path in fields}
    for i, token in enumerate(tokens):
        if token.kind != "name" or token.text not in ("doc", "labels") or token.text in bound:
            continue
        if i and tokens[i - 1].text == ".":
            continue
        names, end = path_at(tokens, i)
        column = token.start + 1
        if token.text == "doc" and len(names) < 2:
            yield Finding(column, "'doc' is used whole", "name the field: doc.number")
        elif token.text == "doc" and known:
            yield from _lint_field(column, names[1:], known, vocabulary)
        elif token.text == "labels" and vocabulary.labels:
            name = _label_at(tokens, names, end)
            if name is not None and name not in vocabulary.labels:
                yield Finding(column, f"no site carries the label {name!r}", did_you_mean(name, vocabulary.labels))


def _lint_field(column: int, names: list[str], known: set[str], vocabulary: Vocabulary) -> Iterator[Finding]:
    for length in range(1, len(names) + 1):
        path = ".".join(names[:length])
        if path in known:
            if length < len(names) and vocabulary.field_type(path) == "list":
                hint = f"doc.{path}.exists(x, x.{names[length]} == ...)"
                yield Finding(column, f"doc.{path} is a list and has no {names[length]!r}", hint)
                return
            continue
        prefix = ".".join(names[: length - 1])
        near = {p for p in known if p.rpartition(".")[0] == prefix}
        yield Finding(column, f"no document has the field {path!r}", did_you_mean(path, near))
        return


def _label_at(tokens: list[Token], names: list[str], end: int) -> str | None:
    if len(names) > 1:
        return names[1]
    if end + 1 < len(tokens) and tokens[end].text == "[" and tokens[end + 1].kind == "string":
        return tokens[end + 1].text.strip("'\"")
    return None
