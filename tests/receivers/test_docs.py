"""docs/backends.md: what it says to paste can be pasted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.sdk import environment_variables

from memtrace.endpoints import SIGNALS, endpoint, exporter, is_left_out

KNOWN = {name for name in vars(environment_variables) if name.startswith("OTEL_")} | {
    "OTEL_TRACES_EXPORTER",
    "OTEL_METRICS_EXPORTER",
}


def sections() -> dict[str, str]:
    """The document's sections by their headings."""
    text = (Path(__file__).parents[2] / "docs" / "backends.md").read_text("utf-8")
    parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def variables(section: str) -> dict[str, str]:
    """Variables that a section exports."""
    found = re.findall(r'^export (\w+)="?(.*?)"?$', section, re.M)
    return {name: re.sub(r"\$\(.*\)", "secret", value) for name, value in found}


WITH_BLOCKS = [name for name, text in sections().items() if "export OTEL_" in text]


def test_every_backend_has_a_block() -> None:
    """
    Each backend that is promised has a block of its own.
    """
    promised = {
        *("OpenTelemetry Collector", "Jaeger", "Tempo with Prometheus and Grafana", "Datadog"),
        *("Honeycomb", "Langfuse", "Arize Phoenix", "MLflow", "Logfire"),
    }

    assert promised <= set(WITH_BLOCKS)


@pytest.mark.parametrize("backend", WITH_BLOCKS)
def test_a_block_can_be_pasted(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every variable of a block exists, and memtrace's exporters take it as it stands.
    """
    settings = variables(sections()[backend])
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    assert set(settings) <= KNOWN
    for signal in SIGNALS:
        if not is_left_out(signal):
            made: Any = exporter(endpoint("otlp", signal), signal, None)
            made.shutdown()


def test_settings_in_yaml_are_yaml() -> None:
    """
    Each block of YAML is a mapping.
    """
    blocks = re.findall(r"```yaml\n(.*?)```", "".join(sections().values()), re.S)

    assert len(blocks) >= 3
    assert all(isinstance(yaml.safe_load(block), dict) for block in blocks)
