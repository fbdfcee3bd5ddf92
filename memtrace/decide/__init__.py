"""Deciding: pure functions over values. Nothing here changes anything."""

from .monitor import LoopFacts, alerts, monitor
from .plan import plan

__all__ = ["LoopFacts", "alerts", "monitor", "plan"]
