"""``memtrace demo``: printing what the three agents did."""

from __future__ import annotations

import json
import sys
import time
from itertools import groupby
from typing import Any

from rich.text import Text

from ..demo import DEMO_TOKEN_BUDGET, TASK, Demo, Step, run_demo
from ..export import export_to
from .chart import open_console, short, show_curve


def show(token_budget: int | None, *, report: bool = False, as_json: bool = False) -> None:
    """Run the demo and print its spans, its curve and its layers.

    Args:
        token_budget: Tokens of the agents' common memory; None: 80,000.
        report: Print what the agents wrote, too.
        as_json: One JSON object instead, with every step and the report in it.
    """
    budget = token_budget or DEMO_TOKEN_BUDGET
    if as_json:
        print(json.dumps(_as_values(run_demo(token_budget=budget))))
        return
    console = open_console()
    console.print(Text("Task  ", style="dim").append(TASK, style="not dim"))
    console.print()
    started = time.perf_counter()
    with export_to("console", file=sys.stdout):
        demo = run_demo(token_budget=budget)
    seconds = time.perf_counter() - started
    console.print()
    if report:
        console.print(Text(demo.report), soft_wrap=True)
        console.print()
    steps = demo.steps
    samples = [step.profile.layer_tokens for step in steps]
    show_curve(console, samples, demo.profile, who=[step.agent for step in steps])
    console.print()
    console.print(_summary(demo, seconds))


def _summary(demo: Demo, seconds: float) -> Text:
    """One line: how much was done, by whom, and how the cache did."""
    hits = sum(step.cached for step in demo.steps)
    searches = sum(step.tool == "search" for step in demo.steps)
    return Text(
        f"{len(demo.steps)} steps in {seconds:.1f} s ({_shares(demo.steps)}); "
        f"{hits} of {searches} searches came from the cache; "
        f"a report of {len(demo.report.splitlines())} lines; "
        f"a model call would carry {short(demo.profile.in_context_tokens)} tokens."
    )


def _shares(steps: tuple[Step, ...]) -> str:
    agents = sorted(step.agent for step in steps)
    return ", ".join(f"{agent} {len(list(group))}" for agent, group in groupby(agents))


def _as_values(demo: Demo) -> dict[str, Any]:
    return {
        "task": TASK,
        "token_budget": demo.profile.token_budget,
        "profile": dict(demo.profile),
        "cache_hit_rate": demo.profile.cache_hit_rate,
        "layers": {name: usage._asdict() for name, usage in demo.profile.layers.items()},
        "steps": [
            {
                "step": step.number,
                "agent": step.agent,
                "tool": step.tool,
                "argument": step.argument,
                "cached": step.cached,
                "profile": dict(step.profile),
            }
            for step in demo.steps
        ],
        "report": demo.report,
    }
