"""Each adapter's tests run where its framework is installed: `make adapters`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

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


# A framework that stops reading a streamed response before its end leaves the HTTP client's own
# generators to whoever comes first, the loop's end or the garbage collector; where both come,
# CPython tells of it. Of these generators only: those of memtrace must be closed.
HTTP_STREAMS = (
    r"(AsyncResponseStream|AsyncStream|HTTP11ConnectionByteStream|PoolByteStream|Response)\b"
)
LEFT_OPEN = (
    rf"ignore:Exception ignored in. <async_generator object {HTTP_STREAMS}"
    ":pytest.PytestUnraisableExceptionWarning"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what a framework's HTTP client says of its own streams not fail a test."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(LEFT_OPEN))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what the contract measured."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figures":
                terminalreporter.write_line(f"{report.nodeid.split('::')[-2]}: {value}")
