"""LlamaIndex: agents and chat engines whose memory stays under its budget.

    from memtrace import Session
    from memtrace.adapters.llama_index import managed

    memory = managed(Session("support-42", token_budget=128_000))
    agent = FunctionAgent(tools=[read], llm=memory.llm(OpenAI("gpt-5")))
    result = await agent.run("question", memory=memory)

``memory`` is the framework's memory: agents, workflows of agents (hand-offs share it) and chat
engines put their messages in it, and a workflow's ``Context`` stores it, every message whole.
What an agent does within a run it keeps to itself until the end, so it is the model that is
managed too: each call is sent what fits, and what was billed is recorded. Each run of an agent or
a chat engine is one ``invoke_agent`` span. An agent that is called by another's tool, or runs
beside it, with the same session keeps a conversation of its own, within what the session leaves
free. A chat engine's run ends where it returns, before a streamed answer is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import Token
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet, WeakValueDictionary

from opentelemetry.context import attach, detach

from .. import config
from ..engine import Run
from ..session import Session, current_session
from ..telemetry import spans
from ._fitting import open_run
from ._talking import talk
from ._versions import require

require("llama-index-core", "llama-index", "0.14", "0.15")

from llama_index.core.base.llms.types import ChatMessage  # noqa: E402 (after the one clear error)
from llama_index.core.bridge.pydantic import Field, PrivateAttr  # noqa: E402
from llama_index.core.chat_engine.types import BaseChatEngine  # noqa: E402
from llama_index.core.instrumentation import get_dispatcher  # noqa: E402
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler  # noqa: E402
from llama_index.core.memory import BaseMemory  # noqa: E402
from llama_index.core.workflow import Workflow  # noqa: E402

from ._llama_index_calls import (  # noqa: E402
    HERE,
    Call,
    Invocation,
    conversation,
    managed_by,
    managed_llm,
    plain,
    typed,
)

__all__ = ["MemtraceMemory", "managed"]

L = TypeVar("L")

_sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()
_managing: WeakSet[Session] = WeakSet()
"""Sessions with a managed model: what it is sent is fitted there, so a memory gives all."""


def managed(session: Session) -> MemtraceMemory:
    """The memory that keeps a conversation in a session. See the module's example."""
    return MemtraceMemory(session)


class MemtraceMemory(BaseMemory):
    """The framework's memory over a session.

    It is stored with all its messages and the session's id: a stored one goes on in the session
    of that id if there is one in this process, else in a new one with the same budget. With a
    durable session that is opened again it has the messages from before.

    Attributes:
        session_id: The session's.
        token_budget: The session's, in all.
        messages: Every message, oldest first, as it was put.
    """

    session_id: str
    token_budget: int
    messages: list[ChatMessage] = Field(default_factory=list)
    _session: Session = PrivateAttr()

    def __init__(self, session: Session | None = None, **data: Any) -> None:
        if session is None:
            session = _sessions.get(data.get("session_id", "")) or Session(
                data.get("session_id"), token_budget=data.get("token_budget", 200_000)
            )
        data.setdefault("messages", [typed(item) for item in session.history.received])
        data = {**data, "session_id": session.id, "token_budget": session.token_budget}
        super().__init__(**data)
        self._session = _sessions[session.id] = session

    @classmethod
    def class_name(cls) -> str:
        """The framework's name of the class."""
        return "MemtraceMemory"

    @classmethod
    def from_defaults(cls, **kwargs: Any) -> MemtraceMemory:
        """A memory of ``session`` with ``chat_history``, if given."""
        if (messages := kwargs.pop("chat_history", None)) is not None:
            kwargs["messages"] = messages
        return cls(**kwargs)

    @property
    def session(self) -> Session:
        """Holds the memory."""
        return self._session

    def llm(self, llm: L) -> L:
        """A model of the same class whose calls are fitted; the one given stays as it is."""
        _managing.add(self._session)
        made: L = managed_llm(llm, self._session)
        return made

    # --- the framework's memory ----------------------------------------------------------------

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """What goes before the next message: all of them, or where no model is managed a view."""
        messages = self._used()
        if self._session in _managing:
            return messages
        return list(Call(self._session).fit(messages, {}))

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:  # noqa: A002
        """The same."""
        messages = self._used()
        if self._session in _managing:
            return messages
        return list(await Call(self._session).afit(messages, {}))

    def get_all(self) -> list[ChatMessage]:
        """Every message as it was put."""
        return list(self.messages)

    def put(self, message: ChatMessage) -> None:
        """Take in a message."""
        self.put_messages([message])

    def put_messages(self, messages: Sequence[ChatMessage]) -> None:
        """Take in messages."""
        self.messages.extend(messages)
        if not config.current.enabled:
            return
        try:
            self._adopt([plain(message) for message in conversation(self._used())[1]])
        except Exception as error:
            spans.failure("llama-index", error)

    def set(self, messages: list[ChatMessage]) -> None:
        """Put other messages in the place of all."""
        self.messages = list(messages)

    def reset(self) -> None:
        """Forget every message."""
        self.messages = []
        self._session.history.clear()

    def _used(self) -> list[ChatMessage]:
        """Every message; the run that asks has this memory."""
        here, messages = HERE.get(), list(self.messages)
        if here is not None and here.of(self._session):
            here.begun = next((plain(m) for m in conversation(messages)[1]), None)
        return messages

    def _adopt(self, messages: list[ChatMessage]) -> None:
        """Hold messages in the session too, where they go on from what it holds."""
        here = HERE.get()
        memory = self._session
        if here is not None and here.talk.session is memory:
            if here.talk.ended and here.talk.apart:
                return
            memory = here.talk.memory
        history = memory.history
        received = len(history.received)
        if len(messages) > received and history.common_prefix(messages) == received:
            history.sync(messages)


# --- runs -----------------------------------------------------------------------------------------


class _Open(NamedTuple):
    invocation: Invocation
    asynchronous: bool
    context: Any
    here: Token[Any]


_open: dict[str, _Open] = {}
_ending: set[asyncio.Task[None]] = set()
_ENGINES = {"chat": False, "stream_chat": False, "achat": True, "astream_chat": True}


class _Runs(BaseSpanHandler[Any]):
    """Opens and ends runs as the framework's instrumentation tells of them.

    It is told in the run's own context, before that starts its steps: they inherit what is put
    in the context here.
    """

    def span_enter(
        self, id_: str, bound_args: Any, instance: Any = None, *_args: Any, **_told: Any
    ) -> None:
        method = id_.partition("-")[0].rpartition(".")[2]
        if isinstance(instance, Workflow) and method == "run":
            memory = getattr(bound_args.arguments.get("start_event"), "memory", None)
            asynchronous = True
        elif isinstance(instance, BaseChatEngine) and method in _ENGINES:
            memory, asynchronous = getattr(instance, "_memory", None), _ENGINES[method]
        else:
            return
        if not config.current.enabled:
            return
        try:
            _enter(id_, _session(instance, memory), _name(instance), asynchronous)
        except Exception as error:
            spans.failure("llama-index", error)

    def span_exit(self, id_: str, *_args: Any, **_told: Any) -> None:
        _leave(id_, None)

    def span_drop(self, id_: str, *_args: Any, err: Any = None, **_told: Any) -> None:
        _leave(id_, err)

    def new_span(self, *_args: Any, **_told: Any) -> None:
        """Nothing is kept here of a span."""

    prepare_to_exit_span = prepare_to_drop_span = new_span


def _enter(id_: str, session: Session | None, name: str, asynchronous: bool) -> None:
    # A caller who wrapped the run in one of memtrace's own has its span already.
    if session is None or (HERE.get() is None and current_session() is session):
        return
    run = open_run(session, name, asynchronous=asynchronous)
    invocation = Invocation(talk(run, name, session))
    _open[id_] = _Open(invocation, asynchronous, attach(run.context), HERE.set(invocation))


def _leave(id_: str, error: BaseException | None) -> None:
    held = _open.pop(id_, None)
    if held is None:
        return
    HERE.reset(held.here)
    detach(held.context)
    run = held.invocation.talk.run
    try:
        held.invocation.talk.over()
        if not held.asynchronous:
            run.end(error)
        elif run.leave(error):
            if not run.work_waits:
                run.conclude(error)
            if run.work_waits or run.pending:
                task = asyncio.get_running_loop().create_task(_ended(run, error))
                _ending.add(task)
                task.add_done_callback(_ending.discard)
    except Exception as failed:
        spans.failure("llama-index", failed)


async def _ended(run: Run, error: BaseException | None) -> None:
    """What is left to do at a run's end, off the event loop."""
    if run.work_waits:
        try:
            await asyncio.to_thread(run.tidy)
        finally:
            run.conclude(error)
    while run.pending:
        await run.pending.pop(0)


def _session(instance: Any, memory: Any) -> Session | None:
    """The session of a run: that of its memory, else that of its model."""
    if isinstance(memory, MemtraceMemory):
        return memory.session
    agents = getattr(instance, "agents", None) or {}
    for holder in (instance, *(agents.values() if isinstance(agents, dict) else ())):
        for name in ("llm", "_llm"):
            if (session := managed_by(getattr(holder, name, None))) is not None:
                return session
    return None


def _name(instance: Any) -> str:
    name = getattr(instance, "name", None) or getattr(instance, "root_agent", None)
    return str(name or type(instance).__name__)


get_dispatcher().add_span_handler(_Runs())
