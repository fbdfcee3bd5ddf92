"""Writes the Grafana dashboard: `python ops/dashboard.py`, needs `grafana-foundation-sdk`.

Panels stand in rows that follow the five monitoring points. Rates are over Grafana's own interval,
so the dashboard needs none of the recording rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    VariableHide,
    VariableRefresh,
)

OUTPUT = Path(__file__).parent / "grafana" / "memtrace.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
WHERE = 'job=~"$job"'
WHOSE = f'{WHERE}, gen_ai_agent_name=~"$agent"'
RATE = "[$__rate_interval]"


class Query(NamedTuple):
    """One line of a panel: an expression, and what its series are called."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel.

    Args:
        title: Its title.
        text: What it shows, and when to worry.
        unit: Grafana's name of the unit.
        queries: Its lines.
        single: Show the last value as a number.
        signed: Values may be below 0.
    """

    title: str
    text: str
    unit: str
    queries: tuple[Query, ...]
    single: bool = False
    signed: bool = False


def above(scope: str, bound: str) -> str:
    """The share of runs and checkpoints that ended above a bound of the utilization histogram."""
    name, of = "memtrace_memory_utilization", f'{WHOSE}, memtrace_scope="{scope}"'
    under = f'sum by (job) (rate({name}_bucket{{{of}, le="{bound}"}}{RATE}))'
    return f"1 - {under} / sum by (job) (rate({name}_count{{{of}}}{RATE}))"


def quantile(share: float, metric: str, where: str, by: str) -> str:
    """A quantile of a histogram."""
    return (
        f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{{{where}}}{RATE})))"
    )


def utilization(scope: str) -> tuple[Query, ...]:
    """The middle and the upper end of what runs leave in memory."""
    where, name = f'{WHOSE}, memtrace_scope="{scope}"', "memtrace_memory_utilization"
    return tuple(
        Query(quantile(share, name, where, "gen_ai_agent_name"), legend)
        for share, legend in (
            (0.5, "{{gen_ai_agent_name}} median"),
            (0.99, "{{gen_ai_agent_name}} p99"),
        )
    )


def per_second(metric: str, where: str, by: str) -> str:
    """A counter's rate."""
    return f"sum by ({by}) (rate({metric}{{{where}}}{RATE}))"


ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel(
            "Live sessions",
            "Sessions alive in all processes.",
            "short",
            (Query(f"sum(memtrace_session_active{{{WHERE}}})", "sessions"),),
            single=True,
        ),
        Panel(
            "Runs that end above 90% of the budget",
            "Should be 0: above it the loop cleans up before the next run.",
            "percentunit",
            (Query(above("budget", "0.9"), "{{job}}"),),
            single=True,
        ),
        Panel(
            "Runs that end above 80% of working memory",
            "Should be 0 for most of the time.",
            "percentunit",
            (Query(above("working_memory", "0.8"), "{{job}}"),),
            single=True,
        ),
        Panel(
            "memtrace's own failures",
            "Should be 0. The agents go on; what memtrace should have done was not done.",
            "short",
            (Query(f"sum(increase(memtrace_failures_total{{{WHERE}}}[1h])) or vector(0)", "1 h"),),
            single=True,
        ),
        Panel(
            "Sessions past their review",
            "Should be 0. Stored sessions that nobody said to keep; counted anew each hour.",
            "short",
            # Processes that share a store each count the same sessions.
            (Query(f"sum(max by (job) (memtrace_retention_review_due{{{WHERE}}}))", "sessions"),),
            single=True,
        ),
    ),
    "Token budget": (
        Panel(
            "Share of the budget after a run",
            "Alert above 0.9. The upper end is what matters: full sessions among idle ones.",
            "percentunit",
            utilization("budget"),
        ),
        Panel(
            "Tokens held, by layer",
            "Summed over live sessions: for capacity, not for alerts.",
            "short",
            (
                Query(
                    f"sum by (memtrace_layer_name) (memtrace_memory_usage{{{WHERE}}})",
                    "{{memtrace_layer_name}}",
                ),
                Query(f"sum(memtrace_memory_limit{{{WHERE}}})", "allotted to all layers"),
            ),
        ),
        Panel(
            "Tokens that enter, by layer",
            "What fills memory.",
            "short",
            (
                Query(
                    per_second("memtrace_layer_added_total", WHERE, "memtrace_layer_name"),
                    "{{memtrace_layer_name}}",
                ),
            ),
        ),
    ),
    "Working memory": (
        Panel(
            "Share of working memory's allocation after a run",
            "Alert above 0.8, target below 0.7.",
            "percentunit",
            utilization("working_memory"),
        ),
        Panel(
            "Thresholds crossed",
            "What sessions found of themselves, each against its own policy.",
            "short",
            (
                Query(
                    f"sum by (memtrace_threshold_name) "
                    f"(increase(memtrace_alerts_total{{{WHERE}}}{RATE}))",
                    "{{memtrace_threshold_name}}",
                ),
            ),
        ),
    ),
    "Cache": (
        Panel(
            "Hit rate",
            "Alert below 0.6, target 0.7 to 0.8.",
            "percentunit",
            (
                Query(
                    f"sum by (job) (rate(memtrace_cache_requests_total{{{WHERE}, "
                    f'memtrace_cache_result="hit"}}{RATE})) / '
                    f"{per_second('memtrace_cache_requests_total', WHERE, 'job')}",
                    "{{job}}",
                ),
            ),
        ),
        Panel(
            "Lookups",
            "Below twenty a hit rate says nothing.",
            "reqps",
            (
                Query(
                    per_second("memtrace_cache_requests_total", WHERE, "memtrace_cache_result"),
                    "{{memtrace_cache_result}}",
                ),
            ),
        ),
    ),
    "Compression": (
        Panel(
            "Tokens left, as a share of those read",
            "Alert above 0.9: what is compressed is dense already.",
            "percentunit",
            (
                Query(
                    per_second("memtrace_compression_output_tokens_total", WHERE, "job")
                    + " / "
                    + per_second("memtrace_compression_input_tokens_total", WHERE, "job"),
                    "{{job}}",
                ),
                Query(quantile(0.9, "memtrace_compression_ratio", WHERE, "job"), "{{job}} p90"),
            ),
        ),
        Panel(
            "Duration of memtrace's own work, p99",
            "Off the event loop in async runs.",
            "s",
            (
                Query(
                    quantile(
                        0.99, "memtrace_operation_duration_seconds", WHERE, "memtrace_operation"
                    ),
                    "{{memtrace_operation}}",
                ),
            ),
        ),
    ),
    "Cleanups": (
        Panel(
            "Cleanups a run",
            "Alert above 1: runs leave more than the budget holds.",
            "short",
            (
                Query(
                    f"{per_second('memtrace_cleanups_total', WHOSE, 'gen_ai_agent_name')} / "
                    + per_second(
                        "gen_ai_invoke_agent_duration_seconds_count", WHOSE, "gen_ai_agent_name"
                    ),
                    "{{gen_ai_agent_name}}",
                ),
            ),
        ),
        Panel(
            "Tokens that cleanups remove",
            "What came back, by cause.",
            "short",
            (
                Query(
                    per_second(
                        "memtrace_cleanup_removed_tokens_total", WHERE, "memtrace_cleanup_reason"
                    ),
                    "{{memtrace_cleanup_reason}}",
                ),
            ),
        ),
    ),
    "What passes are worth": (
        Panel(
            "Passes judged",
            "Chosen: it pays. Forced: memory is too full to ask. Declined: nothing was changed.",
            "short",
            (
                Query(
                    f"sum by (memtrace_action_decision) "
                    f"(increase(memtrace_judgements_total{{{WHERE}}}{RATE}))",
                    "{{memtrace_action_decision}}",
                ),
            ),
        ),
        Panel(
            "Tokens saved, net",
            "What the passes of live processes are expected to save, less what is read again for "
            "them. Falling below 0: passes are forced at a loss, so raise the budget.",
            "short",
            (
                Query(
                    f"sum by (memtrace_action_decision) (memtrace_action_net_tokens{{{WHERE}}})",
                    "{{memtrace_action_decision}}",
                ),
            ),
            signed=True,
        ),
    ),
    "Agents": (
        Panel(
            "Runs",
            "Invocations a second, failed ones by the type of error.",
            "reqps",
            (
                Query(
                    per_second(
                        "gen_ai_invoke_agent_duration_seconds_count",
                        WHOSE,
                        "gen_ai_agent_name, error_type",
                    ),
                    "{{gen_ai_agent_name}} {{error_type}}",
                ),
            ),
        ),
        Panel(
            "Duration, p95",
            "Of whole runs, the model's time included.",
            "s",
            (
                Query(
                    quantile(
                        0.95, "gen_ai_invoke_agent_duration_seconds", WHOSE, "gen_ai_agent_name"
                    ),
                    "{{gen_ai_agent_name}}",
                ),
            ),
        ),
        Panel(
            "Hooks, p99",
            "A hook above a second is named in an alert; it is not killed.",
            "s",
            (
                Query(
                    quantile(0.99, "memtrace_hook_duration_seconds", WHERE, "memtrace_hook_name"),
                    "{{memtrace_hook_name}}",
                ),
            ),
        ),
    ),
}


def panel(given: Panel, width: int) -> Any:
    """A panel, as Grafana has it."""
    made: Any = (stat if given.single else timeseries).Panel()
    made = made.title(given.title).description(given.text).unit(given.unit).datasource(SOURCE)
    made = made.span(width).height(5 if given.single else 8)
    if not given.signed:
        made = made.min(0)
    for letter, query in zip("ABC", given.queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend)
        target = target.ref_id(letter)
        made = made.with_target(target.instant() if given.single else target.range())
    return made


def choice(name: str, label: str, query: str) -> Any:
    """A variable that is chosen among a label's values."""
    variable = dashboard.QueryVariable(name).label(label).query(query).datasource(SOURCE)
    variable = variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.multi(True).include_all(True).all_value(".*").hide(VariableHide.DONT_HIDE)


def built() -> Any:
    """The dashboard."""
    made = (
        dashboard.Dashboard("memtrace: agents' memory")
        .uid("memtrace")
        .tags(["memtrace", "agents", "llm"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
        )
        .with_variable(choice("job", "Service", "label_values(memtrace_session_active, job)"))
        .with_variable(
            choice(
                "agent",
                "Agent",
                f"label_values(memtrace_memory_utilization_count{{{WHERE}}}, gen_ai_agent_name)",
            )
        )
    )
    for title, panels in ROWS.items():
        made = made.with_row(dashboard.Row(title))
        for one in panels:
            made = made.with_panel(panel(one, 24 // len(panels)))
    return made.build()


def queries() -> Iterator[tuple[str, str]]:
    """Every panel's title and expression."""
    for panels in ROWS.values():
        for one in panels:
            for query in one.queries:
                yield one.title, query.expr


def text() -> str:
    """The file's text."""
    return JSONEncoder(sort_keys=True, indent=2).encode(built()) + "\n"


if __name__ == "__main__":
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(text(), encoding="utf-8")
