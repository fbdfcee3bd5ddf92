"""LangChain agents and LangGraph: what a model is sent stays under the session's budget.

    from memtrace import Session
    from memtrace.adapters.langchain import MemtraceMiddleware

    session = Session("support-42", token_budget=128_000)
    agent = create_agent(model, tools, middleware=[MemtraceMiddleware(session)])

Each run of the agent is one ``invoke_agent`` span, from its first model call to the graph's end,
and each model call is sent what fits. The graph and its state stay as they are: no node is added,
no message is rewritten, only a view is sent. An agent called by a tool, with the same session,
shares its budget: its messages stand after its caller's, and go when it is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..messages.blocks import field as held
from ._fitting import same
from ._versions import require

require("langchain", "langchain", "1.4.7", "2")

from langchain.agents.middleware import AgentMiddleware  # noqa: E402 (after the one clear error)
from langchain_core.runnables import RunnableConfig, RunnableLambda  # noqa: E402

from ._langchain_runs import Given, aopened, beginning, opened, within  # noqa: E402

__all__ = ["MemtraceMiddleware", "pre_model_hook"]


class MemtraceMiddleware(AgentMiddleware):
    """Sends an agent's model what fits a session's budget. See the module's example.

    Of threads of their own, each with a session of its own:

        @functools.cache
        def of_thread(thread_id: str) -> Session:
            return Session.open(thread_id, store="memory.db")

        MemtraceMiddleware(lambda runtime: of_thread(runtime.execution_info.thread_id))

    Args:
        session: A session, or a callable that gives one from LangGraph's runtime, called once a
            run. Within tools it is ``current_session()``.
        agent: The agent's name on its span; None: the one ``create_agent`` has, else ``agent``.

    Raises:
        ConfigurationError: ``session`` is neither.
    """

    def __init__(self, session: Given, *, agent: str | None = None) -> None:
        super().__init__()
        self._begun = beginning(session, agent)

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Send what fits, and take in what was billed."""
        call = opened(self._begun, request.runtime)
        with within(call):
            if call is None:
                return handler(request)
            fitted = call.fit(request.messages, _system(request), request.tools)
            return call.heard(handler(_sending(request, fitted)))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same, with memtrace's work off the event loop."""
        call = await aopened(self._begun, request.runtime)
        with within(call):
            if call is None:
                return await handler(request)
            fitted = await call.afit(request.messages, _system(request), request.tools)
            return call.heard(await handler(_sending(request, fitted)))

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Run a tool within the agent's span, where its session is the current one."""
        with within(opened(self._begun, request.runtime)):
            return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same."""
        with within(await aopened(self._begun, request.runtime)):
            return await handler(request)


def pre_model_hook(
    session: Given, *, agent: str | None = None, system: Any = None, tools: Sequence[Any] = ()
) -> Any:
    """For LangGraph's ``create_react_agent(model, tools, pre_model_hook=pre_model_hook(session))``.

    Args:
        session: A session, or a callable that gives one from the ``RunnableConfig``.
        agent: The agent's name on its span; None: ``agent``.
        system: The agent's prompt, to be counted; LangGraph tells a hook nothing of it.
        tools: Its tools, likewise.

    Raises:
        ConfigurationError: ``session`` is neither.
    """
    begun = beginning(session, agent)

    def fit(state: Any, config: RunnableConfig) -> dict[str, Any]:
        messages = _messages(state)
        if (call := opened(begun, config)) is not None:
            with within(call):
                messages = call.follow(messages).fit(messages, system, tools)
        return {"llm_input_messages": messages}

    async def afit(state: Any, config: RunnableConfig) -> dict[str, Any]:
        messages = _messages(state)
        if (call := await aopened(begun, config)) is not None:
            with within(call):
                messages = await call.follow(messages).afit(messages, system, tools)
        return {"llm_input_messages": messages}

    return RunnableLambda(fit, afunc=afit, name="memtrace")


def _messages(state: Any) -> list[Any]:
    return list(state if isinstance(state, list) else held(state, "messages") or ())


def _system(request: Any) -> Any:
    return held(request, "system_message") or held(request, "system_prompt")  # before 1.1: text


def _sending(request: Any, fitted: list[Any]) -> Any:
    return request if same(request.messages, fitted) else request.override(messages=fitted)
