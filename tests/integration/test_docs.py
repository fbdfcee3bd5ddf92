"""What the documents show runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import memtrace

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


@pytest.mark.parametrize("block", _blocks("workers.md"), ids=("server", "threads", "remote"))
def test_each_block_about_workers_runs(block: str, tmp_path: Path) -> None:
    """
    Each block of docs/workers.md, copied into a file of its own, runs without an error.
    """
    _run(block, tmp_path)
