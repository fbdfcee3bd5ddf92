"""What the README shows runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

_README = Path(__file__).parents[2] / "README.md"
_BLOCKS = re.findall(r"```python\n(.*?)```", _README.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(_BLOCKS)))
def test_each_python_block_of_the_readme_runs(number: int) -> None:
    """
    A block copied out of the README into a file of its own runs without an error.
    """
    done = subprocess.run(
        [sys.executable, "-c", _BLOCKS[number]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_readme_has_blocks_to_run() -> None:
    """
    There are at least watching, holding, acting and counting to run.
    """
    assert len(_BLOCKS) >= 4
