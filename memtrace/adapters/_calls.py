"""One model call of a provider's own client: what it sends is fitted, what it cost is read."""

from __future__ import annotations

import inspect
from asyncio import to_thread
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..session import Session
from ..telemetry import spans
from ..values import Item
from ._bills import Bill, record
from ._fitting import ATTEMPTS, crossed, pin, same


@dataclass(frozen=True, slots=True)
class Form:
    """How the calls of one resource name what is read of them.

    Args:
        messages: The parameter that holds the conversation: a list, or one user's text.
        billed: What a response, or an event of a stream, says was billed.
        system: The parameter of a system prompt that stands beside the conversation; empty: none.
        elsewhere: Parameters that say that the server holds what came before.
    """

    messages: str
    billed: Callable[[Any], Bill]
    system: str = ""
    elsewhere: tuple[str, ...] = ()


class Caller(Protocol):
    """What a call asks of the client that makes it."""

    name: str

    def found(self) -> Session | None: ...


class Call:
    """One model call.

    Attributes:
        kwargs: What is sent.
    """

    def __init__(self, adapter: Caller, form: Form, kwargs: dict[str, Any]) -> None:
        # What can be read once only is read here.
        self.kwargs = {k: list(v) if isinstance(v, Iterator) else v for k, v in kwargs.items()}
        self._adapter, self._form = adapter, form
        # Without messages there is nothing to adopt; whether that is right the client will say.
        self._session = adapter.found() if self.kwargs.get(form.messages) else None
        self._counted = 0  # tokens of what is sent; 0 where that is not known
        self._given: list[Any] = []  # the messages, as the session takes them
        self._before: list[Any] | None = None  # what a caller put before the session's own view
        self._received: Sequence[Item] = ()  # what that view was of
        self._pinned = 0  # tokens of what is sent besides the messages

    # --- before it --------------------------------------------------------------------------

    def fit(self) -> None:
        """Adopt the messages, make room, and send the view."""
        if (session := self._session) is None:
            return
        with self._guarded():
            for _ in range(ATTEMPTS):
                if not self._adopt(session):
                    return
                session.messages()
                if self._look(session):
                    return
            crossed(session)

    async def afit(self) -> None:
        """The same as :meth:`fit`, with the work off the event loop."""
        if (session := self._session) is None:
            return
        with self._guarded():
            for _ in range(ATTEMPTS):
                if not await to_thread(self._adopt, session):
                    return
                await session.amessages()
                if self._look(session):
                    return
            crossed(session)

    def _adopt(self, session: Session) -> bool:
        """Take in what is sent; tells whether it may be fitted."""
        given, system = self.kwargs[self._form.messages], self.kwargs.get(self._form.system)
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        # A store takes data alone: of a client's own object what the client would send of it.
        self._given = [plain(message) for message in messages] if session.durable else messages
        with session.lock:
            shown, self._received = session.history.messages(), session.history.received
        elsewhere = any(self.kwargs.get(name) for name in self._form.elsewhere)
        if elsewhere:
            if shown[-len(messages) :] != self._given:  # a retry is measured once
                session.history.extend(self._given)
        elif shown and same(messages[-len(shown) :], shown):
            # The session's own view: the caller appends to the session by hand, or calls again.
            self._before = messages[: -len(shown)]
            if self._before:
                system = [*([system] if system else []), *self._before]
        else:
            self._before = None
            session.history.sync(self._given)
        tools = self.kwargs.get("tools")
        self._pinned = pin(session, "client", system=plain(system), tools=plain(tools))
        return not elsewhere

    def _look(self, session: Session) -> bool:
        """Put the view into the request, unless another call's list is in the session by now."""
        given, history = self.kwargs[self._form.messages], session.history
        if self._before is not None:
            with session.lock:
                if not same(history.received, self._received):
                    return False
                view, tokens = [*self._before, *history.messages()], history.tokens
        else:
            held = history.view_of(self._given)
            if held is None:
                return False
            # What is shown as it was received goes out as the caller's own object.
            own = {id(ours): mine for ours, mine in zip(self._given, given, strict=False)}
            view, tokens = [own.get(id(m), m) for m in held.messages], held.tokens
        self._counted = tokens + self._pinned
        # One text is one user's turn, which stays as it is.
        if not isinstance(given, str) and not same(view, given):
            self.kwargs = {**self.kwargs, self._form.messages: view}
        return True

    # --- after it ---------------------------------------------------------------------------

    def done(self, result: Any) -> Any:
        """Read from an answer, or have a stream read, what was billed. Gives the answer."""
        with self._guarded():
            self._read(result.parse() if hasattr(result, "http_response") else result)
        return result

    async def adone(self, result: Any) -> Any:
        """The same as :meth:`done`, where a raw response may have to be awaited."""
        with self._guarded():
            parsed = result.parse() if hasattr(result, "http_response") else result
            self._read(await parsed if inspect.isawaitable(parsed) else parsed)
        return result

    def _read(self, answer: Any) -> None:
        stream = getattr(answer, "_raw_stream", answer)
        if hasattr(stream, "__stream__"):
            stream._iterator = Events(stream._iterator, self._saw)
        else:
            self._saw(answer)

    def _saw(self, value: Any) -> None:
        """Record what an answer or an event says was billed, once a call."""
        if self._counted and self._session is not None:
            with self._guarded():
                bill = self._form.billed(value)
                # A deployment may be asked for by a name of its own: the answer's tells more.
                bill = bill._replace(model=bill.model or self.kwargs.get("model"))
                if record(self._session, bill, self._counted):
                    self._counted = 0

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            spans.failure(f"{self._adapter.name} client", error)


class Events:
    """A stream's events, each shown to `saw` as it passes.

    No generator, and without a reference to the stream: one that is dropped is closed at once.
    """

    def __init__(self, events: Any, saw: Callable[[Any], None]) -> None:
        self._events, self._saw = events, saw

    def __iter__(self) -> Events:
        return self

    def __next__(self) -> Any:
        event = next(self._events)
        self._saw(event)
        return event

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Any:
        event = await self._events.__anext__()
        self._saw(event)
        return event


def plain(value: Any) -> Any:
    """A value as data, with what the clients send of their own objects; a copy."""
    if isinstance(value, Mapping):
        return {key: plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(held) for held in value]
    if hasattr(value, "model_dump") and not isinstance(value, type):
        unsent = getattr(value, "__api_exclude__", None)
        return value.model_dump(mode="json", exclude_unset=True, exclude=unsent)
    return value
