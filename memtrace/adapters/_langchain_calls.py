"""What a graph's run knows of its model calls: what goes in, what fits, what was billed."""

from __future__ import annotations

import threading
from asyncio import to_thread
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from ..actions.view import DIGEST
from ..engine import Run
from ..messages import facts
from ..messages.blocks import field as held
from ..session import Session
from ..telemetry import spans
from ..values import Item
from ._bills import Bill, record
from ._fitting import pin, same

_REWRITTEN = ("content", "tool_calls", "additional_kwargs")  # all that a shorter form differs in


@dataclass(eq=False)
class Invocation:
    """A graph's run. ``key``: of its pinned contexts. ``outer``: its caller's, same session.

    ``sent``: what the history took in, its callers' messages first. ``counted``: tokens of the
    last prompt. ``given``: messages there were then.
    """

    session: Session
    run: Run
    asynchronous: bool
    key: str
    outer: Invocation | None
    sent: list[Any] = field(default_factory=list)
    counted: int = 0
    given: int = 0
    tools: Sequence[Any] = ()
    schemas: list[Any] = field(default_factory=list)

    def fit(self, messages: list[Any], system: Any, tools: Sequence[Any]) -> list[Any]:
        """The messages to send. Where memtrace fails, those that were given."""
        try:
            self.counted, self.given = 0, len(messages)
            if not same(tools, self.tools):
                self.tools = list(tools)
                self.schemas = [_schema(tool) for tool in tools]
            prompt = held(system, "content") or system
            pins = pin(self.session, self.key, system=prompt, tools=self.schemas)
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

    def heard(self, response: Any) -> Any:
        """Take in what the provider billed for the last prompt; gives the response."""
        self._bill(getattr(response, "result", None) or [response])
        return response

    def _bill(self, answers: list[Any]) -> None:
        try:
            for message in answers:
                if self.counted and held(message, "usage_metadata"):
                    record(self.session, _billed(message), self.counted)
        except Exception as error:
            spans.failure("langchain", error)

    def follow(self, messages: list[Any]) -> Invocation:
        """Take in the usage that a state's new messages tell of, where no response is seen."""
        self._bill(messages[self.given :])
        return self

    def close(self, outputs: Any = None) -> None:
        """The graph's run is over: take in its last messages, or make room for the caller's."""
        try:
            if self.outer is not None:
                pin(self.session, self.key)
                final = self.outer.sent
            else:
                final = held(outputs, "messages")
                if not self.sent or not final or final[: len(self.sent)] != self.sent:
                    return
            with _turn(self.session):
                self.session.history.sync(final)
        except Exception as error:
            spans.failure("langchain", error)


def _billed(message: Any) -> Bill:
    usage, about = held(message, "usage_metadata"), held(message, "response_metadata")
    details = held(usage, "input_token_details") or {}
    # OpenAI's service tiers stand before the name.
    cached = next((details[name] for name in details if name.endswith("cache_read")), None)
    model = held(about, "model_name") or held(about, "model")
    return Bill(held(usage, "input_tokens"), cached, model)


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
