"""One route's condition, compiled: what never changes for a source is decided apart from what each document decides.

How a document's values are bound (the comparison rules the reference page promises):

* a decimal is bound as the nearest double. Two decimals of at most 15 significant digits have different nearest doubles
  and the same order, so `==`, `<` and `>` say exactly what they would say of the decimals. A value with more digits is
  refused instead of compared wrongly, and arithmetic is refused at load (0.1 + 0.2 is not 0.3 in doubles).
* an instant is bound as a CEL timestamp; a date without a time as ISO text, which sorts as dates do; text as text.
* an optional field without a value is `null`. Comparing `null` by order fails, and the route does not match.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import cel
import msgspec

from crossdock_controller.conditions.tokens import Token, bound_names, tokenize
from crossdock_controller.conditions.vocabulary import EXACT_DIGITS, STATIC

_INT64 = 2**63
_MAX_EXPONENT = 300  # within it a double keeps its full precision


class PredicateFailed(Exception):  # noqa: N818 - a verdict on one event, handled by the router
    """The condition could not be decided for this event: it counts as not matched."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """`static && dynamic`: *static* names only document, site, source, lane, labels; *dynamic* the rest. None: true."""

    static: cel.Program | None
    dynamic: cel.Program | None
    statics: tuple[str, ...]  # static variables that `dynamic` names as well: only what is named is bound
    fields: tuple[str, ...]  # top fields of the document that `dynamic` names
    needs_key: bool

    def holds(self, variables: Mapping[str, Any], key: str, document: msgspec.Struct) -> bool:
        """The dynamic part for one document; *variables* are the static ones. Raises PredicateFailed."""
        if self.dynamic is None:
            return True
        binding = {name: variables[name] for name in self.statics}
        if self.needs_key:
            binding["key"] = key
        if self.fields:
            binding["doc"] = {name: bind(getattr(document, name)) for name in self.fields if hasattr(document, name)}
        return _run(self.dynamic, binding)


@dataclass(frozen=True, slots=True)
class Settled:
    """What the static variables alone decide. *matched*: it holds whatever the document says; otherwise it holds when
    one of *open* does. *failure*: why a part could not be decided; that part does not hold."""

    matched: bool
    open: tuple[Alternative, ...] = ()
    failure: str = ""

    def holds(self, variables: Mapping[str, Any], key: str, document: msgspec.Struct) -> bool:
        """Raises PredicateFailed when nothing holds and something could not be decided, as CEL's `||` does."""
        failed: PredicateFailed | None = None
        for alternative in self.open:
            try:
                if alternative.holds(variables, key, document):
                    return True
            except PredicateFailed as error:
                failed = error
        if failed is not None:
            raise failed
        return self.matched


@dataclass(frozen=True, slots=True)
class Predicate:
    """A condition as alternatives, one of which must hold.

    `||` and `&&` at the top are split, whatever their order, which changes no verdict: in CEL both are commutative.
    """

    source: str
    alternatives: tuple[Alternative, ...]

    def settle(self, variables: Mapping[str, Any]) -> Settled:
        """Decides all that the static *variables* decide."""
        binding = dict(variables)
        undecided: list[Alternative] = []
        failure = ""
        for alternative in self.alternatives:
            try:
                holds = alternative.static is None or _run(alternative.static, binding)
            except PredicateFailed as error:
                failure = str(error)
                continue
            if holds and alternative.dynamic is None:
                return Settled(matched=True)
            if holds:
                undecided.append(alternative)
        return Settled(matched=False, open=tuple(undecided), failure=failure)


def compile_predicate(source: str) -> Predicate:
    """*source* must have passed `lint`. Raises ValueError when it cannot be parsed."""
    tokens = tokenize(source) or []
    return Predicate(source, tuple(_alternative(source, part) for part in _operands(tokens, "||", above=("?",))))


def _alternative(source: str, tokens: list[Token]) -> Alternative:
    static: list[str] = []
    dynamic: list[str] = []
    fields: set[str] = set()
    names: set[str] = set()
    for conjunct in _operands(tokens, "&&", above=("?", "||")):
        text = source[conjunct[0].start : conjunct[-1].end] if conjunct else source
        if _names(conjunct) <= STATIC:
            static.append(text)
        else:
            dynamic.append(text)
            names |= _names(conjunct)
            fields |= _top_fields(conjunct)
    return Alternative(
        static=_join(static),
        dynamic=_join(dynamic),
        statics=tuple(sorted(names & STATIC)),
        fields=tuple(sorted(fields)),
        needs_key="key" in names,
    )


def bind(value: Any) -> Any:
    """*value* as CEL compares it; see the module's docstring. Raises PredicateFailed for what has no exact form."""
    if value is None or isinstance(value, bool | str | float | dt.timedelta):
        return value.value if isinstance(value, enum.Enum) else value
    if isinstance(value, Decimal):
        return _bind_decimal(value)
    if isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            raise PredicateFailed(f"the number {value} does not fit 64 bits")
        return value
    if isinstance(value, dt.datetime):
        return value if value.tzinfo is not None else value.isoformat()
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, msgspec.Struct):
        return {name: bind(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(name): bind(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [bind(item) for item in value]
    if isinstance(value, enum.Enum):
        return bind(value.value)
    return str(value)


def _bind_decimal(value: Decimal) -> float:
    if not value.is_finite():
        raise PredicateFailed(f"the decimal {value} is not a number")
    digits = "".join(map(str, value.as_tuple().digits)).strip("0")
    if len(digits) > EXACT_DIGITS or abs(value.adjusted()) > _MAX_EXPONENT:
        raise PredicateFailed(
            f"a decimal has more than {EXACT_DIGITS} significant digits and cannot be compared exactly"
        )
    return float(value)


def _run(program: cel.Program, binding: dict[str, Any]) -> bool:
    try:
        result = program.execute(binding)
    except KeyError as error:
        raise PredicateFailed(f"there is no {error.args[0]!r}") from error
    except Exception as error:
        raise PredicateFailed(str(error).split(". ")[0]) from error
    if not isinstance(result, bool):
        raise PredicateFailed(f"the condition gave {type(result).__name__}, not true or false")
    return result


def _join(conjuncts: list[str]) -> cel.Program | None:
    return cel.compile(" && ".join(f"({c})" for c in conjuncts)) if conjuncts else None


def _operands(tokens: list[Token], operator: str, *, above: tuple[str, ...]) -> list[list[Token]]:
    """The operands of *operator* at the top; the whole when one of *above*, which bind more loosely, stands there."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "op":
            depth += (token.text in "([{") - (token.text in ")]}")
            if depth == 0 and token.text in above:
                return [tokens]
            if depth == 0 and token.text == operator:
                parts.append([])
                continue
        parts[-1].append(token)
    return parts


def _names(tokens: list[Token]) -> set[str]:
    """Variables that *tokens* name: not members, functions, literals, or what a comprehension binds."""
    bound = bound_names(tokens)
    names: set[str] = set()
    for i, token in enumerate(tokens):
        member = i > 0 and tokens[i - 1].text == "."
        called = i + 1 < len(tokens) and tokens[i + 1].text == "("
        if token.kind == "name" and not member and not called and token.text not in bound:
            names.add(token.text)
    return names - {"true", "false", "null", "in"}


def _top_fields(tokens: list[Token]) -> set[str]:
    return {
        tokens[i + 2].text
        for i in range(len(tokens) - 2)
        if tokens[i].text == "doc" and tokens[i + 1].text == "." and (i == 0 or tokens[i - 1].text != ".")
    }
