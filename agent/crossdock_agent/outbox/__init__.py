"""The agent's durable log of batches not yet acknowledged: the only SQL on the agent.

`schema` opens, checks and quarantines the file; `store` holds every statement; `groupcommit` shares one
sync among threads; `outbox` is what the other parts use.
"""

from crossdock_agent.outbox.groupcommit import Writer
from crossdock_agent.outbox.outbox import Outbox
from crossdock_agent.outbox.schema import Quarantined, inspect, quarantine
from crossdock_agent.outbox.store import Append, Position, Stats, Store, StoredBatch

__all__ = [
    "Append",
    "Outbox",
    "Position",
    "Quarantined",
    "Stats",
    "Store",
    "StoredBatch",
    "Writer",
    "inspect",
    "quarantine",
]
