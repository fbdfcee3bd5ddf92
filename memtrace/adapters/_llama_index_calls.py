"""LlamaIndex's model calls: what is sent is fitted, what was billed is read."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.instrumentation.dispatcher import DISPATCHER_SPAN_DECORATED_ATTR

from .. import config
from ..actions.view import DIGEST
from ..layers.history import View
from ..messages import texts
from ..messages.blocks import field as held
from ..session import Session
from ..steps import prepare
from ..telemetry import spans
from ..values import Item
from ._bills import Bill, read, record
from ._fitting import afit, aside, fit, pin
from ._talking import Talk, within

M = TypeVar("M")


@dataclass(eq=False)
class Invocation:
    """A run of an agent or a chat engine.

    Attributes:
        talk: Its conversation.
        begun: The first message of the memory that it uses; None: it uses none, or an empty one.
        called: Whether a model was called in it.
    """

    talk: Talk
    begun: Any = None
    called: bool = False

    def of(self, session: Session) -> bool:
        """Whether it is a session's, and open: a thread of the framework's may outlive it."""
        return self.talk.session is session and not self.talk.ended


HERE: ContextVar[Invocation | None] = ContextVar("memtrace_llama_index", default=None)
"""The run that is open here."""


class Sent(list[Any]):
    """Messages that were fitted: a model whose one method calls another has them once."""


@dataclass(eq=False)
class Call:
    """One model call. ``counted``: tokens of what is sent; 0 where usage is not to be recorded."""

    session: Session
    counted: int = 0
    here: Invocation | None = field(default_factory=HERE.get)
    _own: dict[int, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.here is not None and not self.here.of(self.session):
            self.here = None

    @property
    def _talk(self) -> Talk | None:
        return self.here.talk if self.here is not None else None

    def fit(self, messages: Sequence[Any], options: dict[str, Any]) -> Sequence[Any]:
        """What to send; on a failure of memtrace's own the messages as they are."""
        if isinstance(messages, Sent) or not config.current.enabled:
            return messages
        try:
            with within(self._talk):
                rest, memory, pinned = self._adopted(messages, options)
                return self._sent(messages, rest, memory, pinned, fit(memory, rest))
        except Exception as error:
            spans.failure("llama-index", error)
            return messages

    async def afit(self, messages: Sequence[Any], options: dict[str, Any]) -> Sequence[Any]:
        """The same as :meth:`fit`, with the work off the event loop."""
        if isinstance(messages, Sent) or not config.current.enabled:
            return messages
        try:
            held = self._talk
            if held is not None and (held.run.work_waits or held.run.pending):
                await prepare(held.run)
            with within(self._talk):
                rest, memory, pinned = await to_thread(self._adopted, messages, options)
                return self._sent(messages, rest, memory, pinned, await afit(memory, rest))
        except Exception as error:
            spans.failure("llama-index", error)
            return messages

    def _adopted(
        self, messages: Sequence[Any], options: dict[str, Any]
    ) -> tuple[list[Any], Session, int]:
        """The conversation, where it is held, and the tokens of what is sent besides."""
        system, given = conversation(messages)
        rest = [plain(message) for message in given]
        self._own = {id(ours): mine for ours, mine in zip(rest, given, strict=True)}
        memory = self.here.talk.memory if self.here is not None else self.session
        if not self._goes_on(memory, rest):
            memory = aside(memory)
        if self.here is not None:
            self.here.called = True
        told = "\n\n".join(text for m in system for text in texts(m) if isinstance(text, str))
        return rest, memory, pin(memory, "llama-index", system=told, tools=options.get("tools"))

    def _goes_on(self, memory: Session, rest: list[Any]) -> bool:
        """Whether this is the run's conversation, not a question beside it (a condensed one)."""
        if self.here is None or not rest:
            return True
        if self.here.begun is not None:
            return bool(rest[0] == self.here.begun)
        return not self.here.called or memory.history.common_prefix(rest[:1]) == 1

    def _sent(
        self,
        messages: Sequence[Any],
        rest: list[Any],
        memory: Session,
        pinned: int,
        view: View | None,
    ) -> Sequence[Any]:
        if view is None:
            return messages
        shown = zip(view.messages, view.items, strict=True)
        own = [self._own.get(id(message)) or typed(item) for message, item in shown]
        sent = Sent([*messages[: len(messages) - len(rest)], *own])
        if memory is self.session:
            self.counted = view.tokens + pinned
        elif self.here is not None and memory is self.here.talk.memory:
            self.here.talk.said([text for m in sent for text in texts(m) if isinstance(text, str)])
        else:
            memory.close()
        return sent

    def heard(self, response: M) -> M:
        """Record what was billed. Gives the response."""
        try:
            if self.counted and record(self.session, _billed(response), self.counted):
                self.counted = 0
        except Exception as error:
            spans.failure("llama-index", error)
        return response

    def stream(self, responses: Iterator[M]) -> Iterator[M]:
        """A stream, whose events pass as they come."""
        for response in responses:
            yield self.heard(response)

    async def astream(self, responses: AsyncIterator[M]) -> AsyncIterator[M]:
        """The same for an asynchronous one."""
        async for response in responses:
            yield self.heard(response)


def managed_llm(llm: Any, session: Session) -> Any:
    """A model of the same class, whose calls are fitted; the one given stays as it is."""
    base: Any = type(llm)
    if managed_by(llm) is not None:
        base = base.__bases__[0]

    def chat(self: Any, messages: Any, **options: Any) -> Any:
        call = Call(session)
        return call.heard(base.chat(self, call.fit(messages, options), **options))

    def stream_chat(self: Any, messages: Any, **options: Any) -> Any:
        call = Call(session)
        return call.stream(base.stream_chat(self, call.fit(messages, options), **options))

    async def achat(self: Any, messages: Any, **options: Any) -> Any:
        call = Call(session)
        sent = await call.afit(messages, options)
        return call.heard(await base.achat(self, sent, **options))

    async def astream_chat(self: Any, messages: Any, **options: Any) -> Any:
        call = Call(session)
        sent = await call.afit(messages, options)
        return call.astream(await base.astream_chat(self, sent, **options))

    methods: dict[str, Any] = {}
    for method in (chat, stream_chat, achat, astream_chat):
        # The framework's own span is made by the base's method.
        setattr(method, DISPATCHER_SPAN_DECORATED_ATTR, True)
        methods[method.__name__] = method
    about = {"__module__": base.__module__, "__qualname__": base.__qualname__}
    made = type(base)(base.__name__, (base,), {**about, **methods, "__memtrace__": session})
    copied = llm.model_copy()
    object.__setattr__(copied, "__class__", made)
    return copied


def managed_by(llm: Any) -> Session | None:
    """The session of a managed model; None: it is none."""
    return getattr(type(llm), "__memtrace__", None)


def conversation(messages: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """The system messages that come first, and the rest.

    The first are an agent's or an engine's own, made anew for each call.
    """
    told = 0
    while told < len(messages) and messages[told].role == MessageRole.SYSTEM:
        told += 1
    return list(messages[:told]), list(messages[told:])


def plain(message: Any) -> Any:
    """A message as it is when the framework stored it: a provider's own objects are data.

    The same object, where it has none.
    """
    data = _data(message.additional_kwargs)
    same = data is message.additional_kwargs
    return message if same else message.model_copy(update={"additional_kwargs": data})


def _data(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        held = {key: _data(inner) for key, inner in value.items()}
        return held if any(held[key] is not value[key] for key in value) else value
    if isinstance(value, list):
        items = [_data(inner) for inner in value]
        return (
            items if any(one is not two for one, two in zip(items, value, strict=True)) else value
        )
    return value


def typed(item: Item) -> Any:
    """What stands for a message, as a message of the framework's own."""
    content = item.content
    if item.kind == DIGEST:
        said = "\n".join(text for text in texts(content) if isinstance(text, str))
        return ChatMessage(role=held(content, "role"), content=said)
    return content if isinstance(content, ChatMessage) else ChatMessage.model_validate(content)


def _billed(response: Any) -> Bill:
    """What the provider says of a call, in the answer of its own that the framework passes on."""
    raw = held(response, "raw")
    usage = held(raw, "usage") or held(raw, "usage_metadata")
    bill = read(usage, held(raw, "model") or held(raw, "model_version"))
    return bill if bill.tokens else read(held(response, "additional_kwargs"), bill.model)
