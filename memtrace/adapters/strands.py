"""Strands Agents: an agent whose memory stays under its budget.

    from memtrace import Session
    from memtrace.adapters.strands import managed

    session = Session("support-42", token_budget=128_000)
    agent = Agent(model, tools=[read], conversation_manager=managed(session))
    result = agent("question")              # invoke_async and stream_async too

Memory is told on the framework's own ``invoke_agent`` span, or on one of memtrace's where the
framework records none. Each model call is sent what fits, and ``agent.messages`` stays whole: the
framework asks a middleware for what it sends, so nothing is put in and taken back, and a session
manager stores every message. An agent used as a tool, or running beside another, with the same
session keeps a conversation of its own, within what the session leaves free.
``context_manager=`` makes the framework ignore a conversation manager, and its deprecated
``Agent.structured_output`` sends the messages whole.
"""

from __future__ import annotations

import sys
from asyncio import to_thread
from collections.abc import AsyncGenerator
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry.context import get_current, set_value
from opentelemetry.trace import get_current_span

from .. import config
from ..layers.history import View
from ..memory import RUN
from ..messages import texts
from ..messages.blocks import field
from ..session import Session
from ..steps import finish, prepare
from ..telemetry import spans
from ._bills import Bill, number, record
from ._fitting import afit, open_run, pin
from ._talking import Talk, inside, talk, within
from ._versions import require

require("strands-agents", "strands", "1.62", "2")

from strands.agent.conversation_manager import (  # noqa: E402 (after the one clear error)
    ConversationManager,
)
from strands.hooks import (  # noqa: E402
    AfterInvocationEvent,
    AgentInitializedEvent,
    BeforeInvocationEvent,
    HookOrder,
)
from strands.middleware import (  # noqa: E402
    ExecuteToolStage,
    InvokeModelStage,
    ModelStopReason,
)

__all__ = ["MemtraceConversationManager", "managed"]


def managed(session: Session) -> MemtraceConversationManager:
    """The conversation manager that keeps an agent's memory in a session. See the module."""
    return MemtraceConversationManager(session)


class MemtraceConversationManager(ConversationManager):
    """Memory under its budget: around each invocation, and before each model call.

    It removes nothing from ``agent.messages``. Several agents may have the same one.

    Attributes:
        session: Holds the memory.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._open: WeakKeyDictionary[Any, _Open] = WeakKeyDictionary()

    # --- what the framework asks of a conversation manager -----------------------------------

    def register_hooks(self, registry: Any, **kwargs: Any) -> None:
        """Ask to be told of invocations: last as they begin, first as they end."""
        super().register_hooks(registry, **kwargs)
        # Where another hook raises, the framework calls no further one.
        registry.add_callback(BeforeInvocationEvent, self._begin, order=HookOrder.SDK_LAST + 1)
        registry.add_callback(AfterInvocationEvent, self._end, order=HookOrder.SDK_FIRST - 1)
        registry.add_callback(AgentInitializedEvent, self._join, order=HookOrder.SDK_LAST + 1)

    def apply_management(self, agent: Any, **kwargs: Any) -> None:
        """Leave the messages as they are: what is sent of them is seen to at each model call."""

    def reduce_context(self, agent: Any, e: Exception | None = None, **kwargs: Any) -> None:
        """Send less, where a model said that it was too long: its window is below the budget.

        Raises:
            Exception: ``e``, where nothing can be made shorter.
        """
        if e is None:
            return
        held = self._talk(agent)
        try:
            narrowed = held is not None and held.narrow()
        except Exception as error:
            spans.failure("strands", error)
            narrowed = False
        if not narrowed:
            raise e

    def restore_from_session(self, state: dict[str, Any]) -> None:
        """Take the messages as they were stored, all of them, whichever manager was there then."""

    # --- invocations ---------------------------------------------------------------------------

    def _join(self, event: Any) -> None:
        event.agent.add_middleware(InvokeModelStage, self._call)
        event.agent.add_middleware(ExecuteToolStage, self._tool)

    async def _begin(self, event: Any) -> None:
        if not config.current.enabled:
            return
        try:
            # One that was cancelled as it began, so that its end was never told.
            if (left := self._open.pop(event.agent, None)) is not None:
                left.talk.over()
                left.talk.run.abandon()
            opened = self._open[event.agent] = self._opened(event.agent)
            await prepare(opened.talk.run)
        except Exception as error:
            spans.failure("strands", error)

    def _opened(self, agent: Any) -> _Open:
        span, name = get_current_span(), _name(agent)
        made = span is agent.trace_span and span.is_recording()
        own: Literal["own", "current"] = "current" if made else "own"
        run = open_run(self.session, name, asynchronous=True, span=own)
        return _Open(talk(run, name, self.session), sys.exc_info()[1])

    async def _end(self, event: Any) -> None:
        opened = self._open.pop(event.agent, None)
        if opened is None:
            return
        error = _error(event, opened)
        try:
            await to_thread(self._settle, opened.talk, event.agent)
        finally:
            await finish(opened.talk.run, error)

    def _settle(self, held: Talk, agent: Any) -> None:
        """Take in what the last call answered; what was fitted aside goes."""
        try:
            held.over()
            history = self.session.history
            if (
                not held.apart
                and len(agent.messages) >= (received := len(history.received))
                and history.common_prefix(agent.messages) == received
            ):
                history.sync(agent.messages)
        except Exception as error:
            spans.failure("strands", error)

    def _talk(self, agent: Any) -> Talk | None:
        opened = self._open.get(agent)
        return opened.talk if opened is not None else None

    # --- model calls and tools -----------------------------------------------------------------

    async def _call(self, context: Any, following: Any) -> AsyncGenerator[Any, None]:
        """Around a model call: what is sent is fitted, what was billed is read."""
        counted, held = 0, self._talk(context.agent)
        if config.current.enabled:
            try:
                with within(held):
                    context, counted = await self._fitted(context, held)
            except Exception as error:
                spans.failure("strands", error)
        async for event in following(context):
            if counted and isinstance(event, ModelStopReason):
                self._billed(event["stop"][2], context.model, counted)
            yield event

    async def _fitted(self, context: Any, held: Talk | None) -> tuple[Any, int]:
        """What is sent, and its tokens; 0 where they are not those of the session's messages."""
        memory = held.memory if held is not None else self.session
        system, tools, given = context.system_prompt, context.tool_specs, list(context.messages)
        pinned = pin(memory, "strands", system=system, tools=tools)
        view = await afit(memory, given)
        if view is None:
            return context, 0
        sent = _sendable(given, view)
        if held is not None:
            held.sent = view.tokens + pinned
            held.said(sent)
        apart = held is not None and held.apart
        return context.replace(messages=sent), 0 if apart else view.tokens + pinned

    def _billed(self, usage: Any, model: Any, counted: int) -> None:
        try:
            told = [number(field(usage, name)) or 0 for name in _BILLED]
            # Some providers count what was read from their cache besides: the total tells.
            besides = sum(told) == field(usage, "totalTokens")
            tokens = sum(told[1:]) if besides else told[1]
            name = field(model.get_config(), "model_id")
            cached = field(usage, "cacheReadInputTokens")
            record(self.session, Bill(tokens, cached, name), counted)
        except Exception as error:
            spans.failure("strands", error)

    async def _tool(self, context: Any, following: Any) -> AsyncGenerator[Any, None]:
        """Around a tool: its session is the current one."""
        events, held = following(context), self._talk(context.agent)
        # The framework's own span of the tool stays the current one.
        here = [get_current() if held is None else set_value(RUN, held.run)]
        try:
            while True:
                with inside(here):
                    try:
                        event = await events.__anext__()
                    except StopAsyncIteration:
                        return
                yield event
        finally:
            with inside(here):
                await events.aclose()


_BILLED = ("outputTokens", "inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


class _Open(NamedTuple):
    """An invocation that is open, and the error that was being handled around it as it began."""

    talk: Talk
    caught: BaseException | None


def _error(event: Any, opened: _Open) -> BaseException | None:
    """What an invocation failed with. The framework does not say, but is handling it now."""
    error = sys.exc_info()[1] if event.result is None else None
    # A stream that its reader closed is no error.
    return None if error is opened.caught or isinstance(error, GeneratorExit) else error


def _sendable(given: list[Any], view: View) -> list[Any]:
    """A view as the framework's messages.

    Bedrock takes a user's and an assistant's messages in turn only, so neighbours that were none
    before become one message.
    """
    places: dict[int, int] = {id(message): place for place, message in enumerate(given)}
    sent: list[Any] = []
    before: int | None = None
    for shown in view.messages:
        place = places.get(id(shown))
        message = shown if place is not None else _in_blocks(shown)
        neighbours = place is not None and before == place - 1
        if sent and not neighbours and sent[-1]["role"] == message["role"]:
            sent[-1] = {**sent[-1], "content": [*sent[-1]["content"], *message["content"]]}
        else:
            sent.append(message)
        before = place
    return sent


def _in_blocks(message: Any) -> Any:
    if isinstance(message["content"], list):
        return message
    said = "\n".join(text for text in texts(message) if isinstance(text, str))
    return {"role": message["role"], "content": [{"text": said}]}


def _name(agent: Any) -> str:
    return str(getattr(agent, "name", "") or "agent")
