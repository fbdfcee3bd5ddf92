"""A Pydantic AI agent under a budget: `python examples/adapters/pydantic_ai_agent.py`.

Runs against the framework's own function model, which asks for sixty pages one after another;
lines that end in `# memtrace` are what a user adds.
"""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits

from memtrace import Session, measure_tokens  # memtrace
from memtrace.adapters.pydantic_ai import managed  # memtrace

sent: list[int] = []


def played(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    """Asks for page after page, and notes how much it was sent."""
    sent.append(measure_tokens(messages))
    if len(sent) > 60:
        return ModelResponse([TextPart("All was read.")])
    return ModelResponse([ToolCallPart("read", {"page": len(sent)})])


def read(page: int) -> str:
    """Read a page."""
    return "\n".join(f"page {page}, line {n}: entry {page * n}" for n in range(60))


memory = managed(Session("example", token_budget=16_000))  # memtrace
agent = Agent(FunctionModel(played), name="reader", tools=[read], capabilities=[memory])  # memtrace
result = agent.run_sync("Read sixty pages.", usage_limits=UsageLimits(request_limit=None))
print(result.output, f"{len(sent)} calls, at most {max(sent)} tokens each")
print(memory.session)
