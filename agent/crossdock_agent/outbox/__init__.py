"""The agent's durable log of batches not yet acknowledged, and for a while of those that are: the agent's only SQL.

`schema` opens, checks and quarantines the file; `store` holds the statements, `kept` those about acknowledged batches;
`groupcommit` shares one sync among threads; `outbox` is what the other parts use.
"""

from crossdock_agent.outbox.facts import facts
from crossdock_agent.outbox.groupcommit import Writer
from crossdock_agent.outbox.outbox import Outbox
from crossdock_agent.outbox.rows import Append, Loss, Missing, Position, Stats, StoredBatch
from crossdock_agent.outbox.schema import Quarantined, inspect, quarantine
from crossdock_agent.outbox.store import Store

__all__ = [
    "Append",
    "Loss",
    "Missing",
    "Outbox",
    "Position",
    "Quarantined",
    "Stats",
    "Store",
    "StoredBatch",
    "Writer",
    "facts",
    "inspect",
    "quarantine",
]
