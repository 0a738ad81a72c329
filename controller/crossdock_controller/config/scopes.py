"""Groups and environments: what many sites share. Both are laid under the files of the sites they select.

Least specific first: the environment, then groups (the more labels `on` names, the more specific), then the site.
"""

from __future__ import annotations

from pydantic import Field

from crossdock_controller.config.models import Limits, OutboxLimits, StrictModel, VariableName
from crossdock_controller.config.selection import Name, On

GROUP_KEYS = ("variables", "outbox", "limits")  # of a group, that become defaults of its sites


class Group(StrictModel):
    """Defaults of the sites that carry some labels: `groups/*.yaml`."""

    group: Name = Field(description="its name, unique; the file's name without .yaml unless given")
    on: On = Field(min_length=1, description="labels of the sites it is for")
    variables: dict[VariableName, str] = Field(
        default={}, description="texts for `${name}`, unless the site has its own"
    )
    outbox: OutboxLimits | None = Field(default=None, description="limits of the outbox, unless the site has its own")
    limits: Limits | None = Field(default=None, description="limits of each agent, unless the site has its own")


class Environment(StrictModel):
    """What differs where this tree runs: `environments/*.yaml`. A controller serves one environment."""

    environment: Name = Field(description="its name, unique; the file's name without .yaml unless given")
    on: On = Field(description="labels of the sites that belong to it; `{}` is every site")
    variables: dict[VariableName, str] = Field(
        default={}, description="texts for `${name}` in sinks, sources and variables of sites"
    )
