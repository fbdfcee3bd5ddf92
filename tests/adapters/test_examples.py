"""The programs of examples/adapters, each where its framework is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import there

ADAPTERS = Path(__file__).parents[2] / "examples" / "adapters"
PROGRAMS = {
    "anthropic_client.py": "anthropic",
    "google_adk_agent.py": "google.adk",
    "langchain_agent.py": "langchain",
    "llama_index_agent.py": "llama_index",
    "openai_agents_run.py": "agents",
    "openai_client.py": "openai",
    "pydantic_ai_agent.py": "pydantic_ai",
    "strands_agent.py": "strands",
}
MOST_LINES = 10
"""What a user adds to a program that has none of memtrace."""


def test_every_program_is_here() -> None:
    """
    No example is left out.
    """
    assert {path.name for path in ADAPTERS.glob("*.py")} == set(PROGRAMS)


@pytest.mark.parametrize("name", [name for name, module in PROGRAMS.items() if there(module)])
def test_a_program_runs_as_it_stands(name: str) -> None:
    """
    An example ends well, without a network, and marks no more than ten lines as memtrace's.
    """
    done = subprocess.run(
        [sys.executable, ADAPTERS / name], capture_output=True, text=True, timeout=300, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout
    lines = (ADAPTERS / name).read_text("utf-8").splitlines()
    assert 0 < sum(line.endswith("# memtrace") for line in lines) <= MOST_LINES
