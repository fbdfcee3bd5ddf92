"""An OpenAI Agents SDK agent under a budget: `python examples/adapters/openai_agents_run.py`.

Runs against a model of its own that asks for sixty pages one after another; lines that end in
`# memtrace` are what a user adds.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from agents import Agent, Model, ModelResponse, Usage, function_tool, set_tracing_disabled
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage

from memtrace import Session, measure_tokens  # memtrace
from memtrace.adapters.openai_agents import managed  # memtrace

set_tracing_disabled(True)  # nothing of this example goes to the network
sent: list[int] = []


@function_tool
def read(page: int) -> str:
    """Read a page."""
    return "\n".join(f"page {page}, line {n}: entry {page * n}" for n in range(60))


class Played(Model):
    """Asks for page after page, and notes how much it was sent."""

    async def get_response(self, *_told: Any, **options: Any) -> ModelResponse:
        sent.append(measure_tokens(options["input"]))
        page = len(sent)
        if page > 60:
            said = {"type": "output_text", "text": "All was read.", "annotations": []}
            about = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
            output: Any = ResponseOutputMessage(**about, content=[said])
        else:
            call = {"call_id": f"c{page}", "name": "read", "arguments": json.dumps({"page": page})}
            output = ResponseFunctionToolCall(**call, type="function_call")
        return ModelResponse([output], Usage(requests=1, input_tokens=sent[-1]), None)

    def stream_response(self, *_told: Any, **_options: Any) -> Any:
        raise NotImplementedError


async def main() -> None:
    session = Session("example", token_budget=16_000)  # memtrace
    agent = Agent("reader", instructions="Read all.", model=Played(), tools=[read])
    result = await managed(session).run(agent, "Read sixty pages.", max_turns=99)  # memtrace
    print(result.final_output, f"{len(sent)} calls, at most {max(sent)} tokens each")
    print(session)


asyncio.run(main())
