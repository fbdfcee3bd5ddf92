"""A Google ADK agent under a budget: `python examples/adapters/google_adk_agent.py`.

Runs against a model of its own that asks for sixty pages one after another; lines that end in
`# memtrace` are what a user adds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from google.adk.agents import Agent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types

from memtrace import Session, measure_tokens  # memtrace
from memtrace.adapters.google_adk import managed  # memtrace

sent: list[int] = []


def read(page: int) -> str:
    """Read a page."""
    return "\n".join(f"page {page}, line {n}: entry {page * n}" for n in range(60))


class Played(BaseLlm):
    """Asks for page after page, and notes how much it was sent."""

    async def generate_content_async(
        self, llm_request: Any, stream: bool = False
    ) -> AsyncIterator[LlmResponse]:
        sent.append(measure_tokens(llm_request.contents))
        page = len(sent)
        part = types.Part(text="All was read.")
        if page <= 60:
            part = types.Part.from_function_call(name="read", args={"page": page})
        usage = types.GenerateContentResponseUsageMetadata(prompt_token_count=sent[-1])
        said = types.Content(role="model", parts=[part])
        yield LlmResponse(content=said, usage_metadata=usage)


async def main() -> None:
    session = Session("example", token_budget=16_000)  # memtrace
    agent = Agent(name="reader", model=Played(model="played"), tools=[read])
    app = App(name="example", root_agent=agent, plugins=[managed(session)])  # memtrace
    events = await InMemoryRunner(app=app).run_debug("Read sixty pages.", quiet=True)
    print(events[-1].content.parts[0].text)
    print(f"{len(sent)} calls, at most {max(sent)} tokens each")
    print(session)


if __name__ == "__main__":
    asyncio.run(main())
