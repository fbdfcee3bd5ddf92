"""A real task for three agents, without network or model: documenting this package's API."""

from .agents import DEMO_TOKEN_BUDGET, TASK, Demo, planner, run_demo
from .bench import Step, Workbench
from .tools import Tools

__all__ = [
    "DEMO_TOKEN_BUDGET",
    "TASK",
    "Demo",
    "Step",
    "Tools",
    "Workbench",
    "planner",
    "run_demo",
]
