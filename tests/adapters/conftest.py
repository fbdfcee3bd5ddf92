"""Each adapter's tests run where its framework is installed: `make adapters`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # for `contract` and `stub`

NEEDS = {
    "test_anthropic.py": "anthropic",
    "test_instrumentor.py": "anthropic",
    "test_google_adk.py": "google.adk",
    "test_langchain.py": "langchain",
    "test_llama_index.py": "llama_index",
    "test_openai.py": "openai",
    "test_openai_agents.py": "agents",
    "test_pydantic_ai.py": "pydantic_ai",
    "test_strands.py": "strands",
}


def there(module: str) -> bool:
    """Whether a module can be imported; `google` is a package of several distributions."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


collect_ignore = [name for name, module in NEEDS.items() if not there(module)]
if len(collect_ignore) == len(NEEDS):
    collect_ignore.append("test_examples.py")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the contract measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid.split('::')[-2]}: {value}")
