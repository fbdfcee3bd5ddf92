"""The demo in Arize Phoenix and in an MLflow server, and pictures of it: `make backends`.

Not collected with the other tests: the two programs take 2 GB, in environments of their own.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from otlp import until
from programs import answers, free_port, missing, program, python, ready, running

SEND = """
import memtrace
from memtrace.demo import run_demo
with memtrace.export_to("otlp", metrics=False, timeout_s=60):
    run_demo()
"""
MEMORY = {
    "gen_ai.agent.name",
    "gen_ai.conversation.id",
    "memtrace.budget.tokens",
    "memtrace.profile.before.tokens",
    "memtrace.profile.after.tokens",
    "memtrace.profile.after.utilization",
    "memtrace.layer.working_memory.after.tokens",
    "memtrace.layer.conversation_history.after.tokens",
    "memtrace.session.cleanups",
}
"""What a person looks for on an agent's span."""


def of(environment: str, name: str) -> str:
    """A program of an environment beside this one."""
    found = Path(sys.prefix) / environment / "bin" / name
    return str(found) if found.exists() else missing(name, "make backends does")


@contextmanager
def serving(folder: Path, command: list[str], port: int, **settings: str) -> Iterator[str]:
    """A server's address, for the length of a block."""
    url = f"http://127.0.0.1:{port}"
    with running(command, folder / "server.log", **settings) as process:
        ready(process, f"{url}/")
        yield url


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Arize Phoenix with the demo's trace in it."""
    folder, port = tmp_path_factory.mktemp("phoenix"), free_port()
    with serving(
        folder,
        [of("phoenix", "phoenix"), "serve"],
        port,
        PHOENIX_HOST="127.0.0.1",
        PHOENIX_PORT=str(port),
        PHOENIX_GRPC_PORT=str(free_port()),
        PHOENIX_WORKING_DIR=str(folder),
        PHOENIX_TELEMETRY_ENABLED="false",
    ) as url:
        python("-c", SEND, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="60")
        yield url


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server with the same."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [of("mlflow", "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    with serving(folder, [*command, "--default-artifact-root", str(folder)], port) as url:
        python(
            "-c",
            SEND,
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-id=0",
            OTEL_EXPORTER_OTLP_TIMEOUT="60",  # it takes some seconds for its first batch
        )
        yield url


def asked(url: str, body: Any = None) -> Any:
    """What an API gives, as values."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def picture(url: str, path: Path, folder: Path) -> None:
    """What a browser shows at an address."""
    browser = program("chromium", "chromium")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--window-size=1600,1000", "--virtual-time-budget=60000"]
    command += ["--force-prefers-reduced-motion"]  # nothing is caught half way in
    command += [f"--user-data-dir={folder}", f"--screenshot={path}", url]
    path.unlink(missing_ok=True)
    with running(command, folder / "browser.log") as process:
        assert process.wait(120) == 0
    assert path.stat().st_size > 50_000


def demo_spans(url: str) -> list[dict[str, Any]]:
    """All spans that Phoenix has, once it has the run that was sent last: the outermost."""
    spans = f"{url}/v1/projects/default/spans?limit=1000"

    def all_there() -> Any:
        found = asked(spans)["data"]
        return found if any(s["name"] == "invoke_agent planner" for s in found) else None

    found: list[dict[str, Any]] = until(all_there)
    return found


def test_phoenix_shows_agents_with_their_memory(phoenix: str) -> None:
    """
    Phoenix knows an agent's run as AGENT, and gives back each attribute of memory.
    """
    agents = [s for s in demo_spans(phoenix) if s["name"].startswith("invoke_agent")]

    assert {span["span_kind"] for span in agents} == {"AGENT"}
    assert {span["attributes"]["gen_ai.agent.name"] for span in agents} == {
        "planner",
        "researcher",
        "writer",
    }
    for span in agents:
        assert set(span["attributes"]) >= MEMORY
        assert span["attributes"]["memtrace.budget.tokens"] == 40_000


def test_phoenix_shows_the_session(phoenix: str) -> None:
    """
    The conversation is Phoenix's session, with the whole trace in it.
    """
    demo_spans(phoenix)
    (session,) = asked(f"{phoenix}/v1/projects/default/sessions")["data"]

    assert session["session_id"] == "demo"
    assert len(session["traces"]) == 1


def test_phoenix_shows_what_was_done(phoenix: str) -> None:
    """
    Actions and checkpoints are below the runs they belong to, the failed one as an error.
    """
    spans = demo_spans(phoenix)
    names = {span["context"]["span_id"]: span["name"] for span in spans}

    cleanups = [span for span in spans if span["name"] == "memtrace.cleanup"]
    assert cleanups
    assert all(span["parent_id"] in names for span in cleanups)
    (failed,) = [span for span in spans if span["status_code"] == "ERROR"]
    assert failed["name"] == "memtrace.checkpoint run it as a script"
    assert [event["name"] for event in failed["events"]] == ["exception"]


def mlflow_trace(url: str) -> Any:
    """The one trace that MLflow has."""
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}
    query = {"locations": [place], "max_results": 5}
    search = f"{url}/api/3.0/mlflow/traces/search"
    (found,) = until(lambda: asked(search, query).get("traces"))
    return asked(f"{url}/api/3.0/mlflow/traces/get?trace_id={found['trace_id']}")["trace"]


def test_mlflow_gives_the_trace_back(mlflow: str) -> None:
    """
    MLflow gives back agents, their session and each attribute of memory.
    """
    trace = mlflow_trace(mlflow)
    agents = [span for span in trace["spans"] if span["name"].startswith("invoke_agent")]

    assert trace["trace_info"]["trace_metadata"]["mlflow.trace.session"] == "demo"
    assert len(agents) > 3
    for span in agents:
        attributes = {a["key"]: a["value"] for a in span["attributes"]}
        assert set(attributes) >= MEMORY
        assert attributes["memtrace.budget.tokens"] == {"int_value": 40_000}


def test_pictures(phoenix: str, mlflow: str, root: Path, tmp_path: Path) -> None:
    """
    What a person sees stands in docs/images.
    """
    images = root / "docs" / "images"
    images.mkdir(exist_ok=True)
    project = asked(f"{phoenix}/v1/projects")["data"][0]["id"]
    trace = demo_spans(phoenix)[0]["context"]["trace_id"]
    picture(f"{phoenix}/projects/{project}/traces/{trace}", images / "phoenix.png", tmp_path)

    shown = mlflow_trace(mlflow)["trace_info"]["trace_id"]
    where = f"{mlflow}/#/experiments/0/traces?selectedEvaluationId={shown}"
    picture(where, images / "mlflow.png", tmp_path)
    assert answers(mlflow)
