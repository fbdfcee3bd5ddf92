"""The five layers. Each keeps running totals in a tally that telemetry may outlive it with."""

from .agents import Agents, AgentState
from .base import Change, Wiring
from .cache import Cache, CacheStats
from .contexts import Contexts
from .history import History
from .tally import Tally, Totals

__all__ = [
    "AgentState",
    "Agents",
    "Cache",
    "CacheStats",
    "Change",
    "Contexts",
    "History",
    "Tally",
    "Totals",
    "Wiring",
]
