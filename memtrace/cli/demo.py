"""``memtrace demo``: printing what the three agents did."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from ..demo import DEMO_TOKEN_BUDGET, TASK, Demo, Done, Rollback, Step, run_demo
from ..export import export_to
from ..spantree import counted, printable
from .chart import open_console, plain_table, show_curve
from .log import kept_log
from .turns import report_as_values


def show(token_budget: int | None, *, report: bool = False, as_json: bool = False) -> None:
    """Run the demo and print its spans, its curve, its layers and what the loop did.

    Args:
        token_budget: Tokens of the agents' common memory; None: 40,000.
        report: Print what the agents wrote, too.
        as_json: One JSON object instead, with every step and the report in it.
    """
    budget = token_budget or DEMO_TOKEN_BUDGET
    if as_json:
        with kept_log():
            demo = run_demo(token_budget=budget)
        print(json.dumps(_as_values(demo)))
        return
    console = open_console()
    console.print(Text("Task  ", style="dim").append(TASK, style="not dim"))
    console.print()
    started = time.perf_counter()
    with kept_log() as log, export_to("console", file=sys.stdout):
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
    console.print(_actions_table(demo, max(8, console.width - 69)))
    console.print()
    log.show(console)
    console.print(_work(demo, seconds))
    console.print(Text(_summary(demo), style="bold"))


def _actions_table(demo: Demo, room: int) -> Table:
    """What the loop did by itself, and the rollbacks, in order; reasons in so many columns."""
    table = plain_table("items", "before")
    table.add_column("step", justify="right", no_wrap=True)
    for heading in ("agent", "action"):
        table.add_column(heading, no_wrap=True)
    for heading in ("before", "after", "gave back", "items"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("because", no_wrap=True)
    # One that declined changed nothing; the spans tell of it.
    done = (done for done in demo.done if done.report.outcome != "declined")
    rows = [(did.step, _done_row(did)) for did in done]
    rows += [(back.step, _rollback_row(back)) for back in demo.rollbacks]
    for step, (*cells, because) in sorted(rows, key=lambda row: row[0]):
        table.add_row(str(step), *cells, printable(because, room))
    return table


def _done_row(done: Done) -> tuple[str | Text, ...]:
    report = done.report
    action = Text(report.action, style=_STYLES.get(report.action, ""))
    # What there was none of needs no saying.
    because = ", ".join(part for part in report.reason.split(", ") if not part.startswith("0 "))
    if report.outcome != "effective":
        because = f"{report.outcome}: {because}"
    effect = _effect(report.tokens_before, report.tokens_after, report.items)
    return done.agent, action, *effect, because


def _rollback_row(back: Rollback) -> tuple[str | Text, ...]:
    effect = _effect(back.tokens_before, back.tokens_after, back.items)
    return back.agent, Text("rollback", style="red"), *effect, back.error


def _effect(before: int, after: int, items: int) -> tuple[str, str, str, str]:
    freed = before - after
    return f"{before:,}", f"{after:,}", f"{freed:,}" if freed else "", f"{items:,}"


_STYLES = {"cleanup": "yellow", "compress": "cyan", "consolidate": "green"}


def _work(demo: Demo, seconds: float) -> Text:
    """One line: how much was done, by whom, and how the cache did."""
    return Text(
        f"{len(demo.steps)} steps in {seconds:.1f} s ({_shares(demo.steps)}); "
        f"{sum(step.cached for step in demo.steps)} came from the cache; "
        f"{counted(demo.checkpoints, 'checkpoint')}, {counted(len(demo.rollbacks), 'rollback')}, "
        f"{counted(len(demo.alerts), 'alert')}; a report of {len(demo.report.splitlines())} lines."
    )


def _summary(demo: Demo) -> str:
    """One line: whether memory was kept under its budget, and what that took."""
    budget, steps = demo.profile.token_budget, demo.steps
    over = sum(step.call_tokens > budget for step in steps)
    # What tools return comes in before the loop has its say at the next model call.
    brimmed = any(step.profile.total_tokens > budget for step in steps)
    kept = f"Kept under {budget:,} tokens {'at every model call of' if brimmed else 'through'}"
    if over:
        kept = f"Over {budget:,} tokens at {over} of"
    kept = f"{kept} {len(steps)} steps"
    freed = [done.report.tokens_freed for done in demo.done if done.report.tokens_freed > 0]
    return (
        f"{kept}; gave back {sum(freed):,} tokens in {counted(len(freed), 'action')}; "
        f"nothing lost: {counted(demo.originals, 'original')} kept."
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
                "call_tokens": step.call_tokens,
                "profile": dict(step.profile),
            }
            for step in demo.steps
        ],
        "actions": [
            {"step": done.step, "agent": done.agent, **report_as_values(done.report)}
            for done in demo.done
        ],
        "rollbacks": [asdict(back) for back in demo.rollbacks],
        "alerts": [asdict(alert) for alert in demo.alerts],
        "checkpoints": demo.checkpoints,
        "originals": demo.originals,
        "report": demo.report,
    }
