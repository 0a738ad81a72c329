"""The fast way from a document to a row: decode only what the columns need, straight into a struct of their shape.

It gives exactly the row that the plain way in `sql_rows` gives, or None for a document that is not of that shape (a
list where text was expected, a null on the way to a field); then the plain way decides. Twice as fast, and rows are
half of what a run costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from operator import attrgetter, or_
from typing import Any

import msgspec

from crossdock_controller.sinks.base import Outgoing
from crossdock_controller.sinks.sql_statements import Style, TableMapping, columns_in_order

Row = tuple[object, ...]
QuickReader = Callable[[Outgoing], Row | None]


def quick_reader(
    mapping: TableMapping, style: Style, envelope: Mapping[str, Callable[[Outgoing], object]]
) -> QuickReader | None:
    """None when the mapping is not simple enough: with children, or with a path that is part of another."""
    names = columns_in_order(mapping)
    paths = [mapping.columns[name] for name in names]
    inside = [path for path in paths if path not in envelope]
    defaults = {mapping.columns[name]: value for name, value in mapping.defaults.items()}
    tree = _tree(inside)
    if mapping.children or tree is None or len(inside) != len(set(inside)) or set(defaults) & set(envelope):
        return None
    decode = msgspec.json.Decoder(_struct(tree, "", style, defaults)).decode
    fields = attrgetter(*[_attributes(path, tree) for path in inside])
    first = paths.index(inside[0])
    before = [envelope[path] for path in paths[:first]]
    after = [envelope[path] for path in paths[first + len(inside) :]]
    adapt, single = style.adapt, len(inside) == 1

    def read(delivery: Outgoing) -> Row | None:
        try:
            values = fields(decode(delivery.body))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        if single:
            values = (values,)
        if before:
            values = (*[adapt(value(delivery)) for value in before], *values)
        return (*values, *[adapt(value(delivery)) for value in after]) if after else values

    return read


_Tree = dict[str, Any]  # a part of a path to the parts after it; empty at a leaf


def _tree(paths: list[str]) -> _Tree | None:
    """None without paths, or when one path goes on where another ends."""
    root: _Tree = {}
    for path in paths:
        node = root
        for part in path.split("."):
            node = node.setdefault(part, {})
    leaves = {path for path in paths if not _at(root, path)}
    return root if paths and leaves == set(paths) else None


def _at(root: _Tree, path: str) -> _Tree:
    return reduce(lambda node, part: node[part], path.split("."), root)


def _struct(tree: _Tree, path: str, style: Style, defaults: Mapping[str, object]) -> type[msgspec.Struct]:
    """A struct with a field for each part; absent parts have their default, and a leaf holds only plain values."""
    fields: list[tuple[str, Any, Any]] = []
    names = {}
    for number, (part, below) in enumerate(tree.items()):
        here = f"{path}.{part}" if path else part
        names[f"f{number}"] = part
        if below:
            inner = _struct(below, here, style, defaults)
            fields.append((f"f{number}", inner, msgspec.field(default=inner())))
        elif here in defaults:  # an explicit null has the default too, which the plain way sees to
            fields.append((f"f{number}", reduce(or_, style.plain), style.adapt(defaults[here])))
        else:
            fields.append((f"f{number}", reduce(or_, style.plain) | None, None))
    return msgspec.defstruct("Row", fields, frozen=True, gc=False, rename=names)


def _attributes(path: str, tree: _Tree) -> str:
    """The path in the struct's own names: fields are numbered, for a part of a path need not be an identifier."""
    names, node = [], tree
    for part in path.split("."):
        names.append(f"f{list(node).index(part)}")
        node = node[part]
    return ".".join(names)
