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

import threading
from asyncio import to_thread
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakKeyDictionary

from opentelemetry.context import attach, detach, get_current

from .. import config as settings
from ..actions.draft import DIGEST
from ..engine import Run, Spec, begin
from ..errors import ConfigurationError
from ..messages import facts
from ..messages.blocks import field as held
from ..session import Session
from ..steps import finish, prepare
from ..telemetry import names, spans
from ..values import Item
from ._versions import require

require("langchain", "langchain", "1.4.7", "2")

from langchain.agents.middleware import AgentMiddleware  # noqa: E402 (after the one clear error)
from langchain_core.callbacks import BaseCallbackHandler  # noqa: E402
from langchain_core.messages import AIMessage, HumanMessage  # noqa: E402
from langchain_core.runnables import RunnableConfig, RunnableLambda  # noqa: E402
from langchain_core.tracers.context import register_configure_hook  # noqa: E402
from langchain_core.utils.function_calling import convert_to_openai_tool  # noqa: E402
from langgraph.errors import GraphBubbleUp  # noqa: E402

__all__ = ["MemtraceMiddleware", "pre_model_hook"]

Given = Session | Callable[[Any], Session]
_REWRITTEN = ("content", "tool_calls", "additional_kwargs")  # all that a shorter form differs in


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
        self._begun = _beginning(session, agent)

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Send what fits, and take in what was billed."""
        call = _opened(self._begun, request.runtime)
        with _within(call):
            if call is None:
                return handler(request)
            fitted = call.fit(request.messages, _system(request), request.tools)
            return call.heard(handler(_sending(request, fitted)))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same, with memtrace's work off the event loop."""
        call = await _aopened(self._begun, request.runtime)
        with _within(call):
            if call is None:
                return await handler(request)
            fitted = await call.afit(request.messages, _system(request), request.tools)
            return call.heard(await handler(_sending(request, fitted)))

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Run a tool within the agent's span, where its session is the current one."""
        with _within(_opened(self._begun, request.runtime)):
            return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """The same."""
        with _within(await _aopened(self._begun, request.runtime)):
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
    begun = _beginning(session, agent)

    def fit(state: Any, config: RunnableConfig) -> dict[str, Any]:
        messages = _messages(state)
        if (call := _opened(begun, config)) is not None:
            with _within(call):
                messages = call.follow(messages).fit(messages, system, tools)
        return {"llm_input_messages": messages}

    async def afit(state: Any, config: RunnableConfig) -> dict[str, Any]:
        messages = _messages(state)
        if (call := await _aopened(begun, config)) is not None:
            with _within(call):
                messages = await call.follow(messages).afit(messages, system, tools)
        return {"llm_input_messages": messages}

    return RunnableLambda(fit, afunc=afit, name="memtrace")


def _messages(state: Any) -> list[Any]:
    return list(state if isinstance(state, list) else held(state, "messages") or ())


def _system(request: Any) -> Any:
    return held(request, "system_message") or held(request, "system_prompt")  # before 1.1: text


def _sending(request: Any, fitted: list[Any]) -> Any:
    given = request.messages
    if len(given) == len(fitted) and all(a is b for a, b in zip(given, fitted, strict=True)):
        return request
    return request.override(messages=fitted)


# --- one run of an agent --------------------------------------------------------------------------


@dataclass(eq=False)
class _Invocation:
    """A graph's run. ``key``: of its pinned contexts. ``outer``: its caller's, same session.

    ``sent``: what the history took in, its callers' messages first. ``counted``: tokens of the
    last prompt. ``given``: messages there were then.
    """

    session: Session
    run: Run
    asynchronous: bool
    key: str
    outer: _Invocation | None
    sent: list[Any] = field(default_factory=list)
    counted: int = 0
    given: int = 0
    tools: Sequence[Any] = ()
    pinned: dict[str, Any] = field(default_factory=dict)

    def fit(self, messages: list[Any], system: Any, tools: Sequence[Any]) -> list[Any]:
        """The messages to send. Where memtrace fails, those that were given."""
        try:
            self.counted, self.given = 0, len(messages)
            pins = self._pin("system", held(system, "content") or system or None)
            if len(tools) != len(self.tools) or any(
                a is not b for a, b in zip(tools, self.tools, strict=True)
            ):
                self.tools = list(tools)
                self.pinned["tools"] = [_schema(tool) for tool in tools]
            pins += self._pin("tools", self.pinned.get("tools"))
            with _turn(self.session):
                items = self._view(messages)
            self.counted = pins + sum(item.tokens for item in items)
            own = {message.id: message for message in messages if message.id is not None}
            return [_own_form(item, own) for item in items]
        except Exception as error:
            spans.failure("langchain", error)
            return messages

    async def afit(self, messages: list[Any], system: Any, tools: Sequence[Any]) -> list[Any]:
        fitted = await to_thread(self.fit, messages, system, tools)
        while self.run.pending:
            await self.run.pending.pop(0)
        return fitted

    def _view(self, messages: list[Any]) -> list[Item]:
        session = self.session
        before = self.outer.sent if self.outer is not None else []
        if before[:1] == messages[:1]:  # it was handed its caller's own conversation
            before = []
        self.sent = [*before, *messages]
        session.history.sync(self.sent)
        session.messages()  # makes room
        if not before:
            return list(session.history.items)
        ids = {message.id for message in messages}

        def mine(item: Item) -> bool:
            content = session.original(item.id) if item.derived_from else item.content
            sources = content if isinstance(content, list) else [content]
            return any(held(source, "id") in ids for source in sources)

        return [item for item in session.history.items if mine(item)]

    def _pin(self, kind: str, content: Any) -> int:
        """Have the system prompt or the tools counted; gives their tokens."""
        contexts, key = self.session.active_contexts, f"{self.key}/{kind}"
        item = contexts.get(key)
        if not content:
            if item is not None:
                contexts.remove(key)
            return 0
        # What is held may be without secrets: compare with what was given, if it was.
        if item is None or content not in (item.content, self.pinned.get(kind + " given")):
            item = contexts.add(content, key=key, kind=kind)
        self.pinned[kind + " given"] = content
        return item.tokens

    def heard(self, response: Any) -> Any:
        """Take in what the provider billed for the last prompt; gives the response."""
        self._bill(getattr(response, "result", None) or [response])
        return response

    def _bill(self, answers: list[Any]) -> None:
        try:
            for message in answers:
                usage = getattr(message, "usage_metadata", None)
                if usage and self.counted:
                    self.session.record_usage(usage["input_tokens"], counted_tokens=self.counted)
        except Exception as error:
            spans.failure("langchain", error)

    def follow(self, messages: list[Any]) -> _Invocation:
        """Take in the usage that a state's new messages tell of, where no response is seen."""
        self._bill(messages[self.given :])
        return self

    def close(self, outputs: Any = None) -> None:
        """The graph's run is over: take in its last messages, or make room for the caller's."""
        try:
            if self.outer is not None:
                for kind in ("system", "tools"):
                    self._pin(kind, None)
                final = self.outer.sent
            else:
                final = held(outputs, "messages")
                if not self.sent or not final or final[: len(self.sent)] != self.sent:
                    return
            with _turn(self.session):
                self.session.history.sync(final)
        except Exception as error:
            spans.failure("langchain", error)


_turns: WeakKeyDictionary[Session, threading.RLock] = WeakKeyDictionary()
_turns_lock = threading.Lock()


def _turn(session: Session) -> Any:
    """One agent at a time brings its messages in and reads its view: they share one history."""
    with _turns_lock:
        return _turns.setdefault(session, threading.RLock())


def _own_form(item: Item, own: Mapping[str, Any]) -> Any:
    """A view's message as LangChain's: the caller's own object unless it was made shorter."""
    content = item.content
    if item.kind == DIGEST:
        kind = AIMessage if facts(content).role == "assistant" else HumanMessage
        return kind(content=held(content, "content"))
    mine = own.get(held(content, "id"))
    if mine is None or mine is content:
        return content
    new = {key: held(content, key) for key in _REWRITTEN}
    new = {key: value for key, value in new.items() if value != held(mine, key)}
    return mine.model_copy(update=new) if new else mine


def _schema(tool: Any) -> Any:
    if isinstance(tool, dict):
        return tool
    try:
        return convert_to_openai_tool(tool)
    except Exception:  # a tool that only its provider can describe
        return str(held(tool, "description") or held(tool, "name") or "")


# --- when a run begins and ends -------------------------------------------------------------------


class _Node(NamedTuple):
    run_id: UUID
    graph_id: UUID
    agent: str | None
    outer: _Node | None


_node: ContextVar[_Node | None] = ContextVar("memtrace_langgraph_node", default=None)
_nodes: set[UUID] = set()  # those that run
_open: dict[UUID, _Invocation] = {}  # by the graph's run
_beginnings: dict[UUID, threading.Lock] = {}  # tools that are resumed together begin one run
_ending: dict[UUID, tuple[_Invocation, Any, BaseException | None]] = {}


class _Watch(BaseCallbackHandler):
    """Tells which graph's run a node belongs to, and when that ends.

    LangChain has no hook for an agent that fails, is cancelled or is stepped no further; its
    callbacks are told of each.
    """

    run_inline = True
    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = True
    ignore_custom_event = ignore_retry = True

    def on_chain_start(self, *_args: Any, run_id: UUID, **told: Any) -> None:
        graph = told.get("parent_run_id")
        if graph and any(tag.startswith("graph:step:") for tag in told.get("tags") or ()):
            agent = (told.get("metadata") or {}).get("lc_agent_name")
            _nodes.add(run_id)
            _node.set(_Node(run_id, graph, agent, _here()))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **_told: Any) -> None:
        self._over(run_id, outputs, None)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **_told: Any) -> None:
        self._over(run_id, None, None if isinstance(error, GraphBubbleUp) else error)

    def _over(self, run_id: UUID, outputs: Any, error: BaseException | None) -> None:
        _nodes.discard(run_id)
        _beginnings.pop(run_id, None)
        call = _open.pop(run_id, None)
        if call is None:
            return
        if isinstance(error, GeneratorExit):  # perhaps collected as garbage, anywhere
            call.run.abandon()
        elif call.asynchronous:
            _ending[run_id] = call, outputs, error
        else:
            call.close(outputs)
            call.run.end(error)


class _AsyncEnd(BaseCallbackHandler):
    """Ends what ran on an event loop, and is awaited there; asked after :class:`_Watch`."""

    ignore_llm = ignore_chat_model = ignore_agent = ignore_retriever = True
    ignore_custom_event = ignore_retry = True

    @property
    def ignore_chain(self) -> bool:
        return not _ending

    async def on_chain_end(self, _outputs: Any, *, run_id: UUID, **_told: Any) -> None:
        call, outputs, error = _ending.pop(run_id, (None, None, None))
        if call is not None:
            await to_thread(call.close, outputs)
            await finish(call.run, error)

    on_chain_error = on_chain_end


@cache
def _watch() -> None:
    for handler in (_Watch(), _AsyncEnd()):
        register_configure_hook(ContextVar("memtrace", default=handler), inheritable=True)


def _here() -> _Node | None:
    """The node that runs here. One may be left behind where a graph ran in its caller's task."""
    node = _node.get()
    while node is not None and node.run_id not in _nodes:
        node = node.outer
    return node


Begun = Callable[[_Node, Any, bool], _Invocation | None]


def _beginning(given: Given, agent: str | None) -> Begun:
    if not (isinstance(given, Session) or callable(given)):
        raise ConfigurationError(
            f"session must be a Session, or a callable that gives one, got {given!r}"
        )
    _watch()

    def begun(node: _Node, told: Any, asynchronous: bool) -> _Invocation | None:
        session = given if isinstance(given, Session) else given(told)
        if not isinstance(session, Session):
            raise ConfigurationError(f"session= gave {session!r}, which is no Session")
        name = agent or node.agent or "agent"
        start = {names.OPERATION_NAME: names.INVOKE_AGENT, names.AGENT_NAME: name}
        with _beginnings.setdefault(node.graph_id, threading.Lock()):
            if node.graph_id in _open:
                return _open[node.graph_id]
            run = begin(Spec("agent", name, attributes=start), session, asynchronous=asynchronous)
            outer = next(
                (o for o in _open.values() if o.run is run.parent and o.session is session), None
            )
            key = name if outer is None else f"{outer.key}/{name}"
            call = _open[node.graph_id] = _Invocation(session, run, asynchronous, key, outer)
        if node.run_id not in _nodes:  # cancelled meanwhile
            _open.pop(node.graph_id, None)
            run.abandon()
        return call

    return begun


def _opened(begun: Begun, told: Any, asynchronous: bool = False) -> _Invocation | None:
    """The run whose node this is, begun if need be; None: memtrace is off, or failed."""
    node = _here()
    if node is None or not settings.current.enabled:
        return None
    try:
        return _open.get(node.graph_id) or begun(node, told, asynchronous)
    except Exception as error:
        spans.failure("langchain", error)
        return None


async def _aopened(begun: Begun, told: Any) -> _Invocation | None:
    node = _here()
    call = _open.get(node.graph_id) if node is not None else None
    if call is None:
        call = await to_thread(_opened, begun, told, True)
    if call is not None and (call.run.work_waits or call.run.pending):
        await prepare(call.run)
    return call


@contextmanager
def _within(call: _Invocation | None) -> Iterator[None]:
    """In the run's context: spans are its children, and its session is the current one."""
    token = attach((call.run.context if call is not None else None) or get_current())
    try:
        yield
    finally:
        detach(token)
