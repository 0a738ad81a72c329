"""Commands from the centre: allowed by the site, run one at a time and once, remembered, written down."""

from crossdock_agent.remote.deeds import Deeds
from crossdock_agent.remote.worker import Link, Remote

__all__ = ["Deeds", "Link", "Remote"]
