"""Which graph's run a LangGraph node belongs to, when that begins, and when it ends."""

from __future__ import annotations

import threading
from asyncio import to_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook
from langgraph.errors import GraphBubbleUp
from opentelemetry.context import attach, detach, get_current

from .. import config
from ..errors import ConfigurationError
from ..session import Session
from ..steps import finish, prepare
from ..telemetry import spans
from ._fitting import open_run
from ._langchain_calls import Invocation

Given = Session | Callable[[Any], Session]


class _Node(NamedTuple):
    run_id: UUID
    graph_id: UUID
    agent: str | None
    outer: _Node | None


_node: ContextVar[_Node | None] = ContextVar("memtrace_langgraph_node", default=None)
_nodes: set[UUID] = set()  # those that run
_open: dict[UUID, Invocation] = {}  # by the graph's run
_beginnings: dict[UUID, threading.Lock] = {}  # tools that are resumed together begin one run
_ending: dict[UUID, tuple[Invocation, Any, BaseException | None]] = {}


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


Begun = Callable[[_Node, Any, bool], Invocation | None]


def beginning(given: Given, agent: str | None) -> Begun:
    if not (isinstance(given, Session) or callable(given)):
        raise ConfigurationError(
            f"session must be a Session, or a callable that gives one, got {given!r}"
        )
    _watch()

    def begun(node: _Node, told: Any, asynchronous: bool) -> Invocation | None:
        session = given if isinstance(given, Session) else given(told)
        if not isinstance(session, Session):
            raise ConfigurationError(f"session= gave {session!r}, which is no Session")
        name = agent or node.agent or "agent"
        with _beginnings.setdefault(node.graph_id, threading.Lock()):
            if node.graph_id in _open:
                return _open[node.graph_id]
            run = open_run(session, name, asynchronous=asynchronous)
            outer = next(
                (o for o in _open.values() if o.run is run.parent and o.session is session), None
            )
            key = name if outer is None else f"{outer.key}/{name}"
            call = _open[node.graph_id] = Invocation(session, run, asynchronous, key, outer)
        if node.run_id not in _nodes:  # cancelled meanwhile
            _open.pop(node.graph_id, None)
            run.abandon()
        return call

    return begun


def opened(begun: Begun, told: Any, asynchronous: bool = False) -> Invocation | None:
    """The run whose node this is, begun if need be; None: memtrace is off, or failed."""
    node = _here()
    if node is None or not config.current.enabled:
        return None
    try:
        return _open.get(node.graph_id) or begun(node, told, asynchronous)
    except Exception as error:
        spans.failure("langchain", error)
        return None


async def aopened(begun: Begun, told: Any) -> Invocation | None:
    node = _here()
    call = _open.get(node.graph_id) if node is not None else None
    if call is None:
        call = await to_thread(opened, begun, told, True)
    if call is not None and (call.run.work_waits or call.run.pending):
        await prepare(call.run)
    return call


@contextmanager
def within(call: Invocation | None) -> Iterator[None]:
    """In the run's context: spans are its children, and its session is the current one."""
    token = attach((call.run.context if call is not None else None) or get_current())
    try:
        yield
    finally:
        detach(token)
