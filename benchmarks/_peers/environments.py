"""One environment a peer, under `benchmarks/results/.peers`: made once, and used again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "benchmarks" / "results" / ".peers"
INSTALL_S = 1_800.0
_PIP = "-m pip --disable-pip-version-check install --quiet".split()


class Package(NamedTuple):
    """What a peer is called, and what its users import.

    Args:
        requirement: Its package.
        imported: The statement that imports its decorator.
        environment: The folder of its environment.
        typed: Lines of code that make its decorator, and the decorator, for a type checker.
        beside: What is installed with it.
    """

    requirement: str
    imported: str
    environment: str
    typed: tuple[str, str]
    beside: tuple[str, ...] = ("opentelemetry-sdk",)


PACKAGES = {
    "memtrace": Package(
        str(ROOT),
        "from memtrace import managed_agent",
        "memtrace",
        ("from memtrace import managed_agent", "managed_agent"),
    ),
    "opentelemetry": Package(
        "opentelemetry-sdk",
        "from opentelemetry import trace; import opentelemetry.sdk.trace",
        "opentelemetry",
        (
            "from opentelemetry import trace\ntracer = trace.get_tracer('x')",
            "tracer.start_as_current_span('x')",
        ),
    ),
    "traceloop": Package(
        "traceloop-sdk",
        "from traceloop.sdk.decorators import agent",
        "traceloop",
        ("from traceloop.sdk.decorators import agent", "agent(name='x')"),
        # Its forty requirements pin their own OpenTelemetry, and pip finds no end without a hint;
        # httpx it imports without requiring it.
        ("opentelemetry-sdk<=1.45.1", "httpx"),
    ),
    "agentops": Package(
        "agentops",
        "from agentops.sdk.decorators import operation",
        "agentops",
        ("from agentops.sdk.decorators import operation", "operation"),
    ),
    "logfire": Package(
        "logfire", "import logfire", "logfire", ("import logfire", "logfire.instrument()")
    ),
    "openinference": Package(
        "openinference-instrumentation",
        "from openinference.instrumentation import OITracer",
        "openinference",
        (
            "from openinference.instrumentation import OITracer, TraceConfig\n"
            "from opentelemetry.trace import get_tracer\n"
            "tracer = OITracer(get_tracer('x'), TraceConfig())",
            "tracer.agent",
        ),
    ),
    "langfuse": Package(
        "langfuse",
        "from langfuse import observe",
        "langfuse",
        ("from langfuse import observe", "observe()"),
    ),
    "opik": Package("opik", "from opik import track", "opik", ("import opik", "opik.track")),
    "ddtrace": Package(
        "ddtrace",
        "from ddtrace.llmobs.decorators import agent",
        "ddtrace",
        ("from ddtrace.llmobs.decorators import agent", "agent"),
    ),
    "ddtrace (plain)": Package(
        "ddtrace",
        "from ddtrace.trace import tracer",
        "ddtrace",
        ("from ddtrace.trace import tracer", "tracer.wrap()"),
    ),
    "langsmith": Package(
        "langsmith",
        "from langsmith import traceable",
        "langsmith",
        ("from langsmith import traceable", "traceable"),
    ),
    "mlflow": Package(
        "mlflow-tracing", "from mlflow import trace", "mlflow", ("import mlflow", "mlflow.trace")
    ),
    "weave": Package("weave", "from weave import op", "weave", ("import weave", "weave.op")),
}


def interpreter(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    folder = ENVIRONMENTS / PACKAGES[peer].environment
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


def make(peer: str) -> bool:
    """Make a peer's environment where it is not there yet; whether it works.

    memtrace itself is installed anew each time, as its users would have it.
    """
    python = interpreter(peer)
    package = PACKAGES[peer]
    found = [str(python), "-c", f"{package.imported}; import opentelemetry.sdk.trace"]
    there = python.exists() and _runs(found)
    if peer != "memtrace" and there:
        return True
    if not there:
        print(f"Installing {package.requirement} into {python.parents[1]}", flush=True)
        shutil.rmtree(python.parents[1], ignore_errors=True)
        if not _runs([sys.executable, "-m", "venv", str(python.parents[1])]):
            return False
        if not _runs([str(python), *_PIP, package.requirement, *package.beside]):
            return False
    if peer == "memtrace":
        again = ["--force-reinstall", "--no-deps", package.requirement]
        return _runs([str(python), *_PIP, *again]) and _runs(found)
    return _runs(found)


def _runs(command: list[str]) -> bool:
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=INSTALL_S, check=False, cwd="/", env=clean
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


_VERSION = "import importlib.metadata as m; print(m.version({!r}))"


def version(peer: str) -> str:
    """Its version, as installed."""
    name = PACKAGES[peer].requirement
    name = "memtrace-otel" if peer == "memtrace" else name
    command = [str(interpreter(peer)), "-c", _VERSION.format(name)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


_APART = ("pip", "setuptools", "_distutils_hack", "pkg_resources", "distutils-precedence")


def size_mb(peer: str) -> float:
    """Megabytes of what its installation brought, its requirements included, compiled or not."""
    folders = interpreter(peer).parents[1].glob("**/site-packages/*")
    kept = [path for path in folders if not path.name.startswith(_APART)]
    files = (file for path in kept for file in (path, *path.rglob("*")) if file.is_file())
    return sum(file.stat().st_size for file in files if file.suffix != ".pyc") / 1e6
