"""One file of a tree on its way to a model: read, put together with what it includes, then built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from crossdock.yamlfile import YamlFile
from crossdock_controller.config.errors import Problem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class File:
    """*yaml* with what it includes; *sound* is False when that cannot be told."""

    yaml: YamlFile
    text: str
    sound: bool


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """One file of a tree. *model* is None when *problems* has an error.

    *variants* is the model in each environment, those of a site only where it belongs; under "" when there are none.
    """

    file: YamlFile
    name: str  # what it declares, or its file's stem when that cannot be read
    model: T | None
    problems: list[Problem] = field(default_factory=list)
    variants: Mapping[str, T] = field(default_factory=dict)
