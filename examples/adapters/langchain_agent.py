"""A LangChain agent of a hundred tool calls that stays under 16,000 tokens.

    python examples/adapters/langchain_agent.py

The model is a scripted one, so this runs without a network or a key.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool

from memtrace import Session, measure_tokens  # memtrace
from memtrace.adapters.langchain import MemtraceMiddleware  # memtrace

CALLS = 100
sent: list[int] = []


class Scripted(GenericFakeChatModel):
    """Asks for one part after another, and notes how many tokens it is sent."""

    def bind_tools(self, tools: Any, **_options: Any) -> Scripted:
        return self

    def _generate(self, messages: Any, *args: Any, **options: Any) -> Any:
        sent.append(sum(measure_tokens(message) for message in messages))
        return super()._generate(messages, *args, **options)


@tool
def read(part: int) -> str:
    """Read a part of the log."""
    return "\n".join(f"part {part}, line {n}: register {part * n} is {n}" for n in range(60))


def turn(n: int) -> AIMessage:
    call = {"name": "read", "args": {"part": n}, "id": f"call_{n}"}
    return AIMessage("All parts are read.") if n == CALLS else AIMessage("", tool_calls=[call])


def main() -> None:
    model = Scripted(messages=iter([turn(n) for n in range(CALLS + 1)]))
    session = Session("logs", token_budget=16_000)  # memtrace
    agent = create_agent(
        model,
        [read],
        middleware=[MemtraceMiddleware(session)],  # memtrace
    )
    result = agent.invoke({"messages": [("user", "Read every part of the log.")]})
    print(result["messages"][-1].content)
    print(f"{len(sent)} model calls, at most {max(sent):,} tokens each; {session!r}")


if __name__ == "__main__":
    main()
