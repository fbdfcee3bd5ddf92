"""Every example runs as it stands, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


def run(example: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """An example in a process of its own, in an empty folder, with nothing set up."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("MEMTRACE_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        capture_output=True,
        check=False,
        cwd=folder,
        encoding="utf-8",
        env={**environ, "PYTHONIOENCODING": "utf-8"},
        timeout=60,
    )


def test_examples_are_the_documented_ones() -> None:
    """
    Whoever looks for a first example finds these.
    """
    assert {"watch", "quickstart", "streaming"} <= {example.stem for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path) -> None:
    """
    It ends without an error or a warning, says something, and leaves nothing behind.
    """
    done = run(example, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["watch", "quickstart", "streaming"])
def test_example_shows_its_memory(name: str, tmp_path: Path) -> None:
    """
    Its spans are printed with their tokens, beside what the program itself prints.
    """
    (example,) = (path for path in EXAMPLES if path.stem == name)
    done = run(example, tmp_path)

    assert "invoke_agent" in done.stderr
    assert "tokens" in done.stderr
    assert "invoke_agent" not in done.stdout


def test_watching_takes_ten_lines() -> None:
    """
    The first example stays as short as the README says that watching is.
    """
    (example,) = (path for path in EXAMPLES if path.stem == "watch")
    body = example.read_text("utf-8").split('"""', 2)[2]

    assert sum(bool(line.strip()) for line in body.splitlines()) <= 12
