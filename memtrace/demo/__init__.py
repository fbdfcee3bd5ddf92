"""A real task for three agents, without network or model: documenting this package's API."""

from .agents import DEMO_TOKEN_BUDGET, TASK, Demo, planner, run_demo
from .bench import Step, Workbench
from .journal import ACTIONS, Done, Journal, Rollback
from .tools import Tools

__all__ = [
    "ACTIONS",
    "DEMO_TOKEN_BUDGET",
    "TASK",
    "Demo",
    "Done",
    "Journal",
    "Rollback",
    "Step",
    "Tools",
    "Workbench",
    "planner",
    "run_demo",
]
