"""A LlamaIndex agent under a budget: `python examples/adapters/llama_index_agent.py`.

Runs against a model of its own that asks for sixty pages one after another; lines that end in
`# memtrace` are what a user adds.
"""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.agent.workflow import ReActAgent
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM

from memtrace import Session, measure_tokens  # memtrace
from memtrace.adapters.llama_index import managed  # memtrace

sent: list[int] = []


def read(page: int) -> str:
    """Read a page."""
    return "\n".join(f"page {page}, line {n}: entry {page * n}" for n in range(60))


class Played(MockLLM):
    """Asks for page after page, and notes how much it was sent."""

    async def achat(self, messages: Any, **_options: Any) -> ChatResponse:
        sent.append(measure_tokens(list(messages)))
        said = f'Thought: more.\nAction: read\nAction Input: {{"page": {len(sent)}}}'
        if len(sent) > 60:
            said = "Thought: I can answer without using any more tools.\nAnswer: All was read."
        return ChatResponse(message=ChatMessage(role="assistant", content=said))


async def main() -> None:
    memory = managed(Session("example", token_budget=16_000))  # memtrace
    agent = ReActAgent(tools=[read], llm=memory.llm(Played()), streaming=False)  # memtrace
    handler = agent.run("Read sixty pages.", memory=memory, max_iterations=99)  # memtrace
    print(await handler, f"{len(sent)} calls, at most {max(sent)} tokens each")
    print(memory.session)


asyncio.run(main())
