"""Dashboard, rules and runbook, against a live Prometheus that scrapes a real exporter."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import promql_parser
import pytest

from memtrace.telemetry import names

# In CI it must be there: a test that is left out proves nothing.
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None and not os.environ.get("CI"),
    reason="Prometheus is not installed (Debian's package is called prometheus)",
)

_APP = """
import logging, sys
logging.disable()
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server
import memtrace
from memtrace.telemetry import reviews

memtrace.configure(meter_provider=MeterProvider([PrometheusMetricReader()]))
idle = [memtrace.Session() for _ in range(100)]
full = memtrace.Session("full", token_budget=1_000)
talk = memtrace.Session("talk", token_budget=1_000)
kept = memtrace.Session.open("kept", store=sys.argv[1] + "/memory.db")

@memtrace.managed_agent
def answer(session, fills=0):
    for step in range(fills):
        session.history.append({"role": "user", "content": f"step {step} of many " * 20})
        if session is talk:
            session.history.append({"role": "assistant", "content": f"answer {step} " * 20})
        session.messages()
    session.cache.get("missing")

@full.on("after_run")
def broken(event):
    raise KeyError("a hook of the application's")

for session in idle:
    answer(session)
answer(full, fills=60)
full.active_contexts.add("a document " * 480, pinned=True)
answer(full)
answer(talk, fills=60)
reviews.due()
reviews.settle()
server, _ = start_http_server(0, "127.0.0.1")
print(server.server_port, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def dashboard(root: Path) -> ModuleType:
    """The module that makes the dashboard."""
    spec = importlib.util.spec_from_file_location("memtrace_ops", root / "ops" / "dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where NamedTuple looks for its annotations
    spec.loader.exec_module(module)
    return module


def _runnable(expression: str) -> str:
    """An expression with Grafana's variables filled in as Grafana would."""
    return (
        expression.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$agent", ".*")
    )


class _Prometheus:
    """A live one, with the project's rules."""

    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        url = f"{self._base}/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def ask(self, expression: str) -> list[Any]:
        """What an expression gives now."""
        return list(self.get("query", query=expression)["result"])

    def until(self, expression: str, least: int = 1) -> list[Any]:
        """What it gives as soon as it gives something."""
        give_up = time.monotonic() + 40
        while True:
            try:
                found = self.ask(expression)
            except OSError:  # it is not up yet
                found = []
            if len(found) >= least or time.monotonic() > give_up:
                return found
            time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def prometheus(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Prometheus]:
    """Prometheus, scraping a program with one full session among a hundred idle ones."""
    folder = tmp_path_factory.mktemp("prometheus")
    app = subprocess.Popen(
        [sys.executable, "-c", _APP, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert app.stdout is not None
    exposed = int(app.stdout.readline())
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [
            str(root / "ops" / "prometheus" / f"{n}.yml") for n in ("recording", "alerts")
        ],
        "scrape_configs": [
            {"job_name": "app", "static_configs": [{"targets": [f"127.0.0.1:{exposed}"]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings))  # JSON is YAML
    port = _free_port()
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        live = _Prometheus(port)
        # Two scrapes, so that rates have something to go by.
        assert live.until("count_over_time(memtrace_session_active[1m]) > 2"), (
            folder / "log"
        ).read_text()
        yield live
    finally:
        for process in (server, app):
            process.kill()
            process.communicate()


def test_the_dashboard_is_what_its_code_makes(dashboard: ModuleType) -> None:
    """
    The file that is imported into Grafana is what `ops/dashboard.py` writes.
    """
    assert dashboard.OUTPUT.read_text("utf-8") == dashboard.text()


def test_every_expression_is_promql(dashboard: ModuleType, root: Path) -> None:
    """
    Each expression of a panel or a rule parses.
    """
    for _, expression in dashboard.queries():
        promql_parser.parse(_runnable(expression))
    written = json.loads(dashboard.OUTPUT.read_text("utf-8"))
    targets = [t for panel in written["panels"] for t in panel.get("targets", ())]
    assert [t["expr"] for t in targets] == [expression for _, expression in dashboard.queries()]


@needs_prometheus
def test_every_panel_shows_something(dashboard: ModuleType, prometheus: _Prometheus) -> None:
    """
    Each panel's expression, asked of a live Prometheus, gives at least one series.
    """
    empty = [
        (title, expression)
        for title, expression in dashboard.queries()
        if not prometheus.ask(_runnable(expression))
    ]
    assert empty == []


@needs_prometheus
def test_metrics_have_their_names_on_the_prometheus_route(
    prometheus: _Prometheus, dashboard: ModuleType, root: Path
) -> None:
    """
    Whatever metric of memtrace's a panel or a rule reads is one that the exporter exposes.
    """
    exposed = set(prometheus.get("label/__name__/values"))
    rules = (root / "ops" / "prometheus" / "recording.yml").read_text("utf-8")
    read = " ".join([rules, *(expression for _, expression in dashboard.queries())])
    metrics = set(re.findall(r"\b(?:memtrace|gen_ai)_\w+?(?=[{\[ )\n])", read))
    labels = {name.replace(".", "_") for name in vars(names).values() if isinstance(name, str)}
    assert {m for m in metrics if m not in exposed and m not in labels} == set()


@needs_prometheus
def test_one_full_session_among_many_idle_ones_fires(prometheus: _Prometheus) -> None:
    """
    The first run that ends above a threshold fires its alert, while the sums are far below it.
    """
    firing = 'ALERTS{alertstate="firing"}'
    assert prometheus.until(f'{firing[:-1]}, alertname="MemtraceWorkingMemoryHigh"}}')
    assert prometheus.until(f'{firing[:-1]}, alertname="MemtraceTokenBudgetHigh"}}')
    share = prometheus.ask("sum(memtrace_memory_usage) / sum(memtrace_memory_limit)")
    assert float(share[0]["value"][1]) < 0.01


@needs_prometheus
@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", "recording.yml", "alerts.yml"), ("test", "rules", "tests.yml")],
    ids=["check", "test"],
)
def test_the_rules_hold(arguments: tuple[str, ...], root: Path) -> None:
    """
    `promtool check rules` finds nothing, and every case of tests.yml comes out as it says.
    """
    done = subprocess.run(
        ["promtool", *arguments],
        cwd=root / "ops" / "prometheus",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_section_in_the_runbook(root: Path) -> None:
    """
    An alert's annotation leads to a section of its own, with a table of causes and remedies.
    """
    alerts = (root / "ops" / "prometheus" / "alerts.yml").read_text("utf-8")
    led = re.findall(r"alert: (\w+)(?:.|\n)*?runbook: ops/runbook.md#(\w+)", alerts)
    assert led
    sections = (root / "ops" / "runbook.md").read_text("utf-8").split("\n## ")[1:]
    by_name = {text.splitlines()[0]: text for text in sections}
    for alert, anchor in led:
        assert anchor == alert.lower()
        assert by_name[alert].count("\n| ") >= 4, f"{alert} has too few causes"
    assert set(by_name) == {alert for alert, _ in led}
