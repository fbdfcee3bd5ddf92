"""What the documents show runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import memtrace
from memtrace.telemetry import metrics, names

_DOCS = Path(__file__).parents[2] / "docs"

WHOLE = (
    "archive.md",
    "diagnose.md",
    "index.md",
    "prompt-cache.md",
    "report.md",
    "retention.md",
    "run-log.md",
    "tutorial.md",
    "zero-code.md",
)
"""Documents whose blocks, one after the other, are one program."""

ELSEWHERE = {
    "frameworks.md",  # its programs are examples/adapters, run where each framework is
    "scaling.md",  # its program is examples/scaling
    "testing.md",  # below
    "workers.md",
}


def _blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (_DOCS / name).read_text("utf-8"), re.DOTALL)


def _run(program: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", WHOLE)
def test_what_a_document_shows_runs(name: str, tmp_path: Path) -> None:
    """
    The blocks of a document, one after the other in an empty folder, run without an error.
    """
    _run("\n".join(_blocks(name)), tmp_path)


def test_no_document_shows_what_is_not_run() -> None:
    """
    Every document with a block of Python is run here, or has its programs run elsewhere.
    """
    shown = {str(page.relative_to(_DOCS)) for page in _DOCS.rglob("*.md") if _blocks(str(page))}
    assert shown == {*WHOLE, *ELSEWHERE}


def test_every_public_name_is_in_the_reference() -> None:
    """
    The reference has a section for each public name.
    """
    pages = "\n".join(page.read_text("utf-8") for page in (_DOCS / "reference").glob("*.md"))
    told = set(re.findall(r"^::: memtrace\.(\w+)$", pages, re.M))
    assert {name for name in memtrace.__all__ if name != "__version__"} == told


def test_each_test_of_the_document_about_tests_passes(tmp_path: Path) -> None:
    """
    Each block of docs/testing.md, in a file of its own, is a test that passes under pytest.
    """
    blocks = _blocks("testing.md")
    for number, block in enumerate(blocks):
        (tmp_path / f"test_block_{number}.py").write_text(block)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            "-W",
            "error",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    tests = sum(block.count("\ndef test_") for block in blocks)
    assert f"{tests} passed" in done.stdout, done.stdout


# --- every name that is sent ----------------------------------------------------------------------


def _sent() -> set[str]:
    """The names of spans, metrics, events, attributes and baggage."""
    found: set[str] = set()
    for constant, value in vars(names).items():
        if constant.isupper() and constant not in ("SCOPE", "SCHEMA_URL", "LAYER_NAMES"):
            held = value.values() if isinstance(value, dict) else value
            found.update([value] if isinstance(value, str) else map(str, held))
    return {name for name in found if not name.replace(".", "").isdigit()}


def _telemetry() -> str:
    return (_DOCS / "telemetry.md").read_text("utf-8")


def test_every_name_that_is_sent_is_in_the_document() -> None:
    """
    The document of telemetry has each span, metric, event and attribute, whole.
    """
    assert len(_sent()) > 130
    assert _sent() - set(re.findall(r"\w+(?:\.\w+)*", _telemetry())) == set()


def test_the_document_has_no_name_that_is_not_sent() -> None:
    """
    Each name of memtrace's or the conventions' in the document is one that the code knows.
    """
    told = re.findall(r"\b(?:memtrace|gen_ai)(?:\.\w+)+(?![\w.*])", _telemetry())
    assert set(told) - _sent() == set()


def _instruments() -> dict[str, list[tuple[Any, ...]]]:
    """Name and unit of each instrument by its kind, a histogram's buckets last."""
    return {
        "ObservableCounter": [*metrics._SUMS, *metrics._COUNTERS],
        "ObservableUpDownCounter": [*metrics._LEVELS],
        "Histogram": [
            *metrics._OTHER_HISTOGRAMS,
            (names.METRIC_DURATION, "s", "", names.BUCKETS_DURATION),
            (names.METRIC_UTILIZATION, "1", "", names.BUCKETS_UTILIZATION),
        ],
    }


def _rows() -> list[list[str]]:
    """The cells of the tables of metrics."""
    text = _telemetry().partition("\n## Metrics\n")[2].partition("\n## ")[0]
    return [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if "`" in line]


def test_the_document_has_each_instrument_as_it_is() -> None:
    """
    Kind and unit of each instrument stand in the document as they are in the code.
    """
    made = {
        (f"`{row[0]}`", kind, row[1]) for kind, found in _instruments().items() for row in found
    }
    assert {tuple(row[:3]) for row in _rows() if len(row) == 5} == made


def test_the_document_has_each_histograms_buckets() -> None:
    """
    The boundaries of each histogram's buckets stand in the document as they are in the code.
    """
    told = {name: row[1] for row in _rows() if len(row) == 2 for name in row[0].split(", ")}
    made = {f"`{row[0]}`": row[-1] for row in _instruments()["Histogram"]}
    assert told == {name: " ".join(f"{n:g}" for n in bounds) for name, bounds in made.items()}


@pytest.mark.parametrize("block", _blocks("workers.md"), ids=("server", "threads", "remote"))
def test_each_block_about_workers_runs(block: str, tmp_path: Path) -> None:
    """
    Each block of docs/workers.md, copied into a file of its own, runs without an error.
    """
    _run(block, tmp_path)
