"""Prometheus and Alertmanager at work on an application, and what they tell."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote

from otlp import serving
from programs import HERE, answers, free_port, program, ready, running

RULES = HERE.parent.parent / "ops" / "prometheus"
RULE_FILES = [RULES / "recording.yml", RULES / "alerts.yml"]
INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))

PROMETHEUS = """
global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}
rule_files: {rules}
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
scrape_configs: [{{job_name: agents, static_configs: [{{targets: ["{application}"]}}]}}]
"""
ALERTMANAGER = """
route: {{receiver: test, group_wait: 0s, group_interval: 1s, group_by: ["..."]}}
receivers: [{{name: test, webhook_configs: [{{url: "{webhook}"}}]}}]
"""


@dataclass
class Monitoring:
    """Prometheus' address, and the alerts that Alertmanager sent on."""

    url: str = ""
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def api(self, path: str) -> Any:
        """What Prometheus' API gives."""
        found = answers(f"{self.url}/api/v1/{path}")
        assert found is not None, path
        return json.loads(found)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Series that an expression gives now."""
        found: list[dict[str, Any]] = self.api(f"query?query={quote(expression)}")["result"]
        return found

    def firing(self, name: str) -> list[dict[str, Any]]:
        """Alerts of that name that came, with their labels and annotations."""
        return [
            alert
            for alert in self.alerts
            if alert["labels"]["alertname"] == name and alert["status"] == "firing"
        ]


@contextmanager
def monitoring(folder: Path) -> Iterator[Monitoring]:
    """An application, Prometheus that scrapes it, Alertmanager, and a receiver of alerts."""
    seen = Monitoring()

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.alerts += json.loads(body)["alerts"]
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ExitStack() as stack:
        webhook = f"http://127.0.0.1:{stack.enter_context(serving(Webhook))}/"
        application = _application(stack, folder)
        alertmanager = _alertmanager(stack, folder, webhook)
        seen.url = _prometheus(stack, folder, application, alertmanager)
        yield seen


def _application(stack: ExitStack, folder: Path) -> str:
    port = free_port()
    command = [INSTRUMENT, sys.executable, str(HERE / "busy.py")]
    process = stack.enter_context(
        running(
            command,
            folder / "application.log",
            OTEL_METRICS_EXPORTER="prometheus",
            OTEL_EXPORTER_PROMETHEUS_HOST="127.0.0.1",
            OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
            OTEL_TRACES_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
        )
    )
    ready(process, f"http://127.0.0.1:{port}/metrics")
    return f"127.0.0.1:{port}"


def _alertmanager(stack: ExitStack, folder: Path, webhook: str) -> str:
    where, settings = f"127.0.0.1:{free_port()}", folder / "alertmanager.yml"
    settings.write_text(ALERTMANAGER.format(webhook=webhook), "utf-8")
    command = [
        program("prometheus-alertmanager", "prometheus-alertmanager"),
        f"--config.file={settings}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={where}",
        "--cluster.listen-address=",
    ]
    process = stack.enter_context(running(command, folder / "alertmanager.log"))
    ready(process, f"http://{where}/-/ready")
    return where


def _prometheus(stack: ExitStack, folder: Path, application: str, alertmanager: str) -> str:
    where, settings = f"127.0.0.1:{free_port()}", folder / "prometheus.yml"
    text = PROMETHEUS.format(
        rules=json.dumps([str(file) for file in RULE_FILES]),
        alertmanager=alertmanager,
        application=application,
    )
    settings.write_text(text, "utf-8")
    command = [
        program("prometheus", "prometheus"),
        f"--config.file={settings}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={where}",
    ]
    process = stack.enter_context(running(command, folder / "prometheus.log"))
    ready(process, f"http://{where}/-/ready")
    return f"http://{where}"
