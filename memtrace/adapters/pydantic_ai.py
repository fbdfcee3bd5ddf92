"""Pydantic AI: an agent whose memory stays under its budget.

    from memtrace import Session
    from memtrace.adapters.pydantic_ai import managed

    memory = managed(Session("support-42", token_budget=128_000))
    agent = Agent("openai:gpt-5", capabilities=[memory])
    result = await agent.run("question")
    result = await agent.run("next", message_history=memory.message_history())

Works with ``run``, ``run_sync``, ``run_stream`` and ``iter``. A run is one ``invoke_agent`` span:
the framework's own where the agent is instrumented, else memtrace's. What a model is sent is
fitted; the run's message history is not changed. An agent that is called by another's tool and
has the same session keeps a conversation of its own, within what the session leaves free.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry.trace import get_current_span

from .. import config
from ..actions.view import DIGEST
from ..instrument import managed_agent
from ..messages import facts, texts
from ..session import Session
from ..telemetry import spans
from ..values import Item
from ._bills import Bill, record
from ._fitting import afit, aside, pin
from ._versions import require

require("pydantic-ai-slim", "pydantic-ai", "2.68", "3")

from pydantic_ai.capabilities import (  # noqa: E402 (after the one clear error)
    AbstractCapability,
    CapabilityOrdering,
)
from pydantic_ai.messages import (  # noqa: E402
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
)

__all__ = ["MemtraceCapability", "managed"]

_around: ContextVar[tuple[Session, ...]] = ContextVar("memtrace_pydantic_ai", default=())
"""Sessions of the runs that are open around this one."""


def managed(session: Session) -> MemtraceCapability:
    """The capability that keeps an agent's memory in a session. See the module's example."""
    return MemtraceCapability(session)


@dataclass
class MemtraceCapability(AbstractCapability[Any]):
    """Memory under its budget: around each run, and before each model request.

    Attributes:
        session: Holds the memory.
    """

    session: Session
    _memory: Session | None = field(default=None, repr=False, init=False)
    _sent_tokens: int | None = field(default=None, repr=False, init=False)

    def message_history(self) -> list[Any]:
        """The conversation as it was received, for a run that goes on from it.

        With a durable session that is opened again, what was said before the process began.
        """
        return [_typed(item.content) for item in self.session.history.received]

    def get_ordering(self) -> Any:
        """Within all others: what they make of a request is what has to fit."""
        return CapabilityOrdering(position="innermost")

    async def for_run(self, ctx: Any) -> MemtraceCapability:
        """A copy for one run."""
        return replace(self)

    async def wrap_run(self, ctx: Any, *, handler: Any) -> Any:
        """Measure memory before and after a run, in one span."""
        if not config.current.enabled:
            return await handler()
        name = (ctx.agent.name if ctx.agent else None) or "agent"
        outer = _around.get()
        nested = any(session is self.session for session in outer)
        if nested:
            self._memory = aside(self.session)

        async def whole() -> Any:
            return await handler()

        told = getattr(get_current_span(), "attributes", None) or {}
        made = told.get("gen_ai.agent.call.id") == ctx.run_id and bool(ctx.run_id)
        run = managed_agent(session=self.session, name=name, span="current" if made else "own")
        token = _around.set((*outer, self.session))
        try:
            return await run(whole)()
        finally:
            _around.reset(token)
            if self._memory is not None:
                self.session.agent(name).state = None
                self._memory.close()

    async def prepare_model_request(self, ctx: Any, request_context: Any) -> Any:
        """Fit what is sent; on a failure of memtrace's own it is sent as it is."""
        if config.current.enabled:
            try:
                messages = await self._fit(ctx, request_context)
            except Exception as error:
                spans.failure("pydantic-ai", error)
            else:
                request_context.messages = messages
        return request_context

    async def after_model_request(self, ctx: Any, *, request_context: Any, response: Any) -> Any:
        """A model request was billed."""
        try:
            if self._memory is None:
                usage, model = response.usage, response.model_name
                # The framework says 0 too where the provider does not say what was cached.
                bill = Bill(usage.input_tokens, usage.cache_read_tokens or None, model)
                record(self.session, bill, self._sent_tokens)
        except Exception as error:
            spans.failure("pydantic-ai", error)
        return response

    async def _fit(self, ctx: Any, request_context: Any) -> list[Any]:
        memory = self._memory or self.session
        messages = list(request_context.messages)
        parameters = request_context.model_request_parameters
        said = "\n\n".join(part.content for part in parameters.instruction_parts or ())
        pinned = pin(memory, "pydantic-ai", system=said, tools=_schemas(parameters))
        fitted = await afit(memory, messages)
        if fitted is None:
            return messages
        self._sent_tokens = fitted.tokens + pinned
        ours = {id(message) for message in messages}
        view = [
            message if id(message) in ours else _framework(item)
            for message, item in zip(fitted.messages, fitted.items, strict=True)
        ]
        if self._memory is not None and ctx.agent is not None:
            name = ctx.agent.name or "agent"
            self.session.agent(name).state = [text for m in view for text in _said(m)]
        return view


def _schemas(parameters: Any) -> list[dict[str, Any]]:
    """What a model is told of the tools."""
    return [
        {"name": tool.name, "description": tool.description, "parameters": schema}
        for tool in (*parameters.function_tools, *parameters.output_tools)
        for schema in (tool.parameters_json_schema,)
    ]


def _framework(item: Item) -> Any:
    """What stands for messages, as a message of the framework's own."""
    if item.kind != DIGEST:
        return _typed(item.content)
    text = "\n".join(_said(item.content))
    if facts(item.content).role == "assistant":
        return ModelResponse(parts=[TextPart(text)])
    return ModelRequest(parts=[UserPromptPart(text)])


def _said(message: Any) -> list[str]:
    return [text for text in texts(message) if isinstance(text, str) and text]


def _typed(message: Any) -> Any:
    """A message of the framework's own; what a store gave back is plain data."""
    if isinstance(message, (ModelRequest, ModelResponse)):
        return message
    return ModelMessagesTypeAdapter.validate_python([message])[0]
