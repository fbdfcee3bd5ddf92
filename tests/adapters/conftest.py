"""Each adapter's tests run where its framework is installed: `make adapters`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `contract` and `stub`

NEEDS = {
    "test_anthropic.py": "anthropic",
    "test_langchain.py": "langchain",
    "test_openai.py": "openai",
    "test_openai_agents.py": "agents",
    "test_pydantic_ai.py": "pydantic_ai",
}

collect_ignore = [name for name, module in NEEDS.items() if find_spec(module) is None]
