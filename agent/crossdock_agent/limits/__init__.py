"""The budgets of the agent as a whole: CPU, memory, disk and bandwidth."""

from crossdock_agent.limits.gate import ENOUGH, OPEN, Gate
from crossdock_agent.limits.governor import Governor, Machine
from crossdock_agent.limits.rules import Rules, describe, rules_of

__all__ = ["ENOUGH", "OPEN", "Gate", "Governor", "Machine", "Rules", "describe", "rules_of"]
