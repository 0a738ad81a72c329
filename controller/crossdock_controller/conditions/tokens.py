"""A condition as tokens: the CEL library shows no syntax tree, and the checks need to see what stands beside what.

Only texts that CEL itself accepted are looked at closely, so this needs to tell tokens apart and nothing more.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)
    |(?P<string>[bB]?[rR]?(?:'''(?:\\.|[^\\])*?'''|\"{3}(?:\\.|[^\\])*?\"{3}|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))
    |(?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[uU]?)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<op>&&|\|\||[=!<>]=|[-+*/%<>!?:.,()\[\]{}])""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    kind: str  # string, number, name, op
    text: str
    start: int
    end: int


def tokenize(source: str) -> list[Token] | None:
    """Tokens without blanks and comments; None when a character belongs to no token."""
    tokens: list[Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            return None
        if match.lastgroup != "space":
            tokens.append(Token(match.lastgroup or "", match[0], position, match.end()))
        position = match.end()
    return tokens


def bound_names(tokens: list[Token]) -> set[str]:
    """Names that comprehensions bind: the `l` of `doc.lines.exists(l, l.sku == 'x')`."""
    return {tokens[i + 3].text for i in range(len(tokens) - 3) if is_macro(tokens, i) and tokens[i + 3].kind == "name"}


def is_macro(tokens: list[Token], i: int) -> bool:
    return tokens[i].text == "." and tokens[i + 1].text in MACROS and tokens[i + 2].text == "("


def deepest_bracket(tokens: list[Token]) -> int:
    depth = deepest = 0
    for token in tokens:
        if token.kind == "op":
            depth += (token.text in "([{") - (token.text in ")]}")
            deepest = max(deepest, depth)
    return deepest


def path_at(tokens: list[Token], i: int) -> tuple[list[str], int]:
    """Names of the dotted path that begins at token *i*, and the index after it. A called name is not part of it."""
    names = [tokens[i].text]
    i += 1
    while i + 1 < len(tokens) and tokens[i].text == "." and tokens[i + 1].kind == "name":
        if i + 2 < len(tokens) and tokens[i + 2].text == "(":
            break
        names.append(tokens[i + 1].text)
        i += 2
    return names, i
