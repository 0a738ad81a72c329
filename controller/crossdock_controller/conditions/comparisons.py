"""Comparisons that can never be true, found where types are known: CEL says nothing (`'5' == 5` is false)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from crossdock_controller.conditions.tokens import Token, path_at
from crossdock_controller.conditions.vocabulary import VARIABLES, Finding, Vocabulary
from crossdock_controller.hints import did_you_mean

_COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})


class _Operand(NamedTuple):
    type: str | None
    path: tuple[str, ...]  # of a variable, empty for a literal
    text: str


def lint_comparisons(tokens: list[Token], bound: set[str], vocabulary: Vocabulary) -> Iterator[Finding]:
    for i, token in enumerate(tokens):
        comparison = token.text in _COMPARISONS
        if not comparison and token.text != "in":
            continue
        left = _operand_before(tokens, i, bound, vocabulary)
        rights = [_operand_after(tokens, i + 1, bound, vocabulary)] if comparison else list(_elements(tokens, i + 1))
        for right in filter(None, rights):
            if left is None:
                continue
            yield from _lint_types(token.start + 1, left, right, vocabulary)
            for variable, literal in ((left, right), (right, left)):
                yield from _lint_value(token.start + 1, variable, literal, vocabulary)


def _lint_types(column: int, left: _Operand, right: _Operand, vocabulary: Vocabulary) -> Iterator[Finding]:
    types = {left.type, right.type}
    if len(types) == 1 or None in types or types & {"null", "any", "list"}:
        return
    if "map" in types:
        group = left if left.type == "map" else right
        prefix = ".".join(group.path[1:]) + "."
        inside = {p for fields in vocabulary.fields.values() for p in fields if p.startswith(prefix)}
        hint = ", ".join(f"doc.{path}" for path in sorted(inside)[:4])
        yield Finding(column, f"{group.text} is not one value", f"name a field of it: {hint}" if hint else "")
        return
    message = f"{left.text} is {left.type} and {right.text} is {right.type}: never equal"
    hint = "write timestamp('2026-01-31T00:00:00Z')" if "time" in types else "quote the value when the field is text"
    yield Finding(column, message, hint)


def _lint_value(column: int, variable: _Operand, literal: _Operand, vocabulary: Vocabulary) -> Iterator[Finding]:
    values = vocabulary.values.get(variable.path[0]) if len(variable.path) == 1 else None
    if values and not literal.path and literal.type == "text":
        text = literal.text[1:-1]
        if text not in values:
            yield Finding(column, f"no {variable.path[0]} is called {text!r}", did_you_mean(text, values))


def _operand_before(tokens: list[Token], i: int, bound: set[str], vocabulary: Vocabulary) -> _Operand | None:
    if i == 0:
        return None
    start = i - 1
    while start >= 2 and tokens[start].kind == "name" and tokens[start - 1].text == ".":
        start -= 2
    before = tokens[start - 1].text if start else ""
    if before not in ("", "(", "&&", "||", "!", ",", "?", ":"):
        return None
    operand, end = _operand(tokens, start, bound, vocabulary)
    return operand if end == i else None


def _operand_after(tokens: list[Token], i: int, bound: set[str], vocabulary: Vocabulary) -> _Operand | None:
    operand, end = _operand(tokens, i, bound, vocabulary)
    after = tokens[end].text if end < len(tokens) else ""
    return operand if after in ("", ")", "&&", "||", ",", "?", ":", "]") else None


def _operand(tokens: list[Token], i: int, bound: set[str], vocabulary: Vocabulary) -> tuple[_Operand | None, int]:
    if i >= len(tokens):
        return None, i
    token = tokens[i]
    if token.kind == "string" and token.text[0] in "'\"":
        return _Operand("text", (), token.text), i + 1
    if token.kind == "number":
        return _Operand("number", (), token.text), i + 1
    if token.text in ("true", "false", "null"):
        return _Operand("null" if token.text == "null" else "bool", (), token.text), i + 1
    if token.kind != "name" or token.text in bound:
        return None, i
    names, end = path_at(tokens, i)
    if names[0] == "doc":
        kind = vocabulary.field_type(".".join(names[1:]))
    elif names[0] == "labels" and len(names) == 2:
        kind = "text"
    else:
        kind = VARIABLES.get(names[0]) if len(names) == 1 else None
    return _Operand(kind, tuple(names), ".".join(names)), end


def _elements(tokens: list[Token], i: int) -> Iterator[_Operand]:
    """The literals of `[...]` at *i*; nothing when it holds anything else."""
    if i >= len(tokens) or tokens[i].text != "[":
        return
    for token in tokens[i + 1 :]:
        if token.text == "]":
            return
        if token.kind == "string":
            yield _Operand("text", (), token.text)
        elif token.kind == "number":
            yield _Operand("number", (), token.text)
        elif token.text != ",":
            return
