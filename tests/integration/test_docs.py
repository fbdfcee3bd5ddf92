"""What the documents show runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_DOCS = Path(__file__).parents[2] / "docs"


def _blocks(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (_DOCS / name).read_text("utf-8"), re.DOTALL)


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
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
