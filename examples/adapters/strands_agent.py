"""A Strands agent under a budget: `python examples/adapters/strands_agent.py`.

Runs against a model of its own that asks for sixty pages one after another; lines that end in
`# memtrace` are what a user adds.
"""

from __future__ import annotations

import json
from typing import Any

from strands import Agent, tool
from strands.models import Model

from memtrace import Session, measure_tokens  # memtrace
from memtrace.adapters.strands import managed  # memtrace

sent: list[int] = []


@tool
def read(page: int) -> str:
    """Read a page."""
    return "\n".join(f"page {page}, line {n}: entry {page * n}" for n in range(60))


class Played(Model):
    """Asks for page after page, and notes how much it was sent."""

    async def stream(self, messages: Any, *_told: Any, **_options: Any) -> Any:
        sent.append(measure_tokens(messages))
        page = len(sent)
        start: Any = {"toolUse": {"toolUseId": f"c{page}", "name": "read"}} if page <= 60 else {}
        said: Any = {"toolUse": {"input": json.dumps({"page": page})}}
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": start}}
        yield {"contentBlockDelta": {"delta": said if start else {"text": "All was read."}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "tool_use" if start else "end_turn"}}

    def structured_output(self, *_told: Any, **_options: Any) -> Any:
        raise NotImplementedError

    def get_config(self) -> Any:
        return {}

    def update_config(self, **_config: Any) -> None:
        """There is nothing to set."""


memory = managed(Session("example", token_budget=16_000))  # memtrace
options: Any = {"tools": [read], "callback_handler": None}
agent = Agent(Played(), **options, conversation_manager=memory)  # memtrace
result = agent("Read sixty pages.")
print(str(result).strip(), f"{len(sent)} calls, at most {max(sent)} tokens each")
print(memory.session)
