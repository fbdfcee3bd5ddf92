"""Metrics by Prometheus' own route: the same names, and alerts that reach somebody."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import work
from monitoring import RULE_FILES, Monitoring
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from otlp import until
from programs import HERE, program
from prometheus_client import CollectorRegistry

import memtrace

GOLDEN: dict[str, Any] = json.loads((HERE / "golden" / "metrics.json").read_text("utf-8"))


def as_prometheus(name: str, metric: dict[str, Any]) -> set[str]:
    """Names of the series that OTLP's translation gives a metric: what a Collector would write.

    A unit in braces is left out, `s` is written out, `1` is told of gauges alone, and a counter
    ends in `_total`. See https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
    """
    gauge = metric["kind"] == "sum" and not metric["monotonic"]
    unit = {"s": "_seconds", "1": "_ratio" if gauge else ""}.get(metric["unit"], "")
    base = re.sub(r"[^a-zA-Z0-9_]", "_", name) + unit
    if metric["kind"] == "histogram":
        return {f"{base}_bucket", f"{base}_count", f"{base}_sum"}
    return {f"{base}_total"} if metric["monotonic"] else {base}


def test_names_are_the_same_on_both_routes(tmp_path: Path) -> None:
    """
    By Prometheus' exporter each metric has the name, and its points the labels, of OTLP's route.
    """
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    memtrace.configure(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    work.work(tmp_path)

    samples = [sample for family in registry.collect() for sample in family.samples]
    ours = [sample for sample in samples if sample.name != "target_info"]
    assert {sample.name for sample in ours} == set().union(
        *(as_prometheus(name, metric) for name, metric in GOLDEN.items())
    )
    assert {label for sample in ours for label in sample.labels} - {"le"} == {
        key.replace(".", "_")
        for metric in GOLDEN.values()
        for point in metric["points"]
        for key in point["attributes"]
    } | {"otel_scope_name", "otel_scope_version", "otel_scope_schema_url"}


def test_an_alert_fires_end_to_end(live: Monitoring) -> None:
    """
    One full session among forty idle ones: Prometheus sees it, and Alertmanager tells somebody.
    """
    alert = until(lambda: live.firing("MemtraceWorkingMemoryHigh"))[0]

    assert alert["labels"]["gen_ai_agent_name"] == "crowded"
    assert alert["labels"]["job"] == "agents"
    assert "runbook" in alert["annotations"]
    assert {a["labels"]["gen_ai_agent_name"] for a in live.firing("MemtraceWorkingMemoryHigh")} == {
        "crowded"
    }


def test_what_is_scraped_is_what_was_done(live: Monitoring) -> None:
    """
    Prometheus has both agents' runs, every session, and the full one's share in its bucket.
    """
    runs = 'gen_ai_invoke_agent_duration_seconds_count{gen_ai_agent_name="crowded"} > 2'
    until(lambda: live.query(runs))

    (active,) = live.query("memtrace_session_active")
    assert active["value"][1] == "41"
    of = 'gen_ai_agent_name="crowded",memtrace_scope="working_memory"'
    (below,) = live.query(f'memtrace_memory_utilization_bucket{{{of},le="0.9"}}')
    (within,) = live.query(f'memtrace_memory_utilization_bucket{{{of},le="1.0"}}')
    assert below["value"][1] == "0"
    assert int(within["value"][1]) > 2


def test_every_rule_is_evaluated(live: Monitoring) -> None:
    """
    No rule fails on what memtrace exports.
    """

    def rules() -> Any:
        found = [rule for group in live.api("rules")["groups"] for rule in group["rules"]]
        return found if found and all(rule["health"] != "unknown" for rule in found) else None

    assert [(r["name"], r.get("lastError")) for r in until(rules) if r["health"] != "ok"] == []


def test_rules_are_valid() -> None:
    """
    `promtool check rules` finds nothing wrong.
    """
    done = subprocess.run(
        [program("promtool", "prometheus"), "check", "rules", *map(str, RULE_FILES)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
