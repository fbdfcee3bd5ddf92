"""What the adapters of providers' own clients share: one client that fits what it sends.

The list that a hand-written loop sends whole each turn is adopted, what goes out is the history's
view of it, and what the provider billed is recorded. Everything else of the client is untouched.
"""

from __future__ import annotations

import inspect
import logging
import operator
from asyncio import to_thread
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import wrapt

from .. import config
from ..errors import ConfigurationError
from ..session import Session, current_session
from ..telemetry import spans

C = TypeVar("C")
logger = logging.getLogger("memtrace")

_CALLS = frozenset({"create", "parse", "stream"})
_RAW, _STREAMED = "with_raw_response", "with_streaming_response"
_ATTEMPTS = 3
"""Times a list is adopted before it goes out as it is: another call may have put in its own."""

_CROSSED = (
    "was used for several conversations of one session at once, so a call was sent as it was: "
    "give each a session of its own"
)
_KEYS = {"system": "client:system", "tools": "client:tools"}


@dataclass(frozen=True, slots=True)
class Form:
    """How the calls of one resource name what is read of them.

    Args:
        messages: The parameter that holds the conversation: a list, or one user's text.
        billed: Prompt tokens that a response, or an event of a stream, says were billed; None:
            it does not say.
        system: The parameter of a system prompt that stands beside the conversation; empty: none.
        elsewhere: Parameters that say that the server holds what came before.
    """

    messages: str
    billed: Callable[[Any], int | None]
    system: str = ""
    elsewhere: tuple[str, ...] = ()


@dataclass(slots=True)
class Adapter:
    """What one managed client knows: whose memory it is, and which calls it fits.

    Args:
        name: The provider's, for what is logged.
        session: Whose memory the conversation is; None: the current one's at each call.
        forms: Forms by the path that leads to a resource, such as ``("chat", "completions")``.
        asynchronous: Whether the client's calls are awaited.
    """

    name: str
    session: Session | None
    forms: Mapping[tuple[str, ...], Form]
    asynchronous: bool
    warned: bool = False

    def found(self) -> Session | None:
        """The session of a call that is made now; None, with one warning, where there is none."""
        if not config.current.enabled:
            return None
        session = self.session or current_session()
        if session is None:
            self.warn(
                "found no session, so a call was sent as it was: use managed(client, session)"
            )
        return session

    def warn(self, text: str) -> None:
        """Say something once."""
        if not self.warned:
            logger.warning("memtrace's %s client %s", self.name, text)
        self.warned = True

    def reach(self, path: tuple[str, ...], name: str, value: Any) -> Any:
        """What the client gives under a name: the same, unless it leads to a managed call."""
        if not path and name in ("copy", "with_options"):
            return wraps(value)(lambda *args, **kwargs: Client(value(*args, **kwargs), self))
        place = tuple(word for word in path if word not in (_RAW, _STREAMED))
        form = self.forms.get(place)
        if form is not None and name in _CALLS:
            return self.managed(form, value, name == "stream" or _STREAMED in path)
        further = place if name in (_RAW, _STREAMED) else (*place, name)
        if any(known[: len(further)] == further for known in self.forms):
            return Client(value, self, (*path, name))
        return value

    def managed(self, form: Form, method: Callable[..., Any], opens: bool) -> Any:
        """A method whose requests are fitted. `opens`: it gives a manager of a stream."""

        def opened(**kwargs: Any) -> Opening:
            return Opening(Call(self, form, kwargs), method, reads=method.__name__ == "stream")

        def called(**kwargs: Any) -> Any:
            call = Call(self, form, kwargs)
            call.fit()
            return call.done(method(**call.kwargs))

        async def acalled(**kwargs: Any) -> Any:
            call = Call(self, form, kwargs)
            await call.afit()
            return await call.adone(await method(**call.kwargs))

        return wraps(method)(opened if opens else acalled if self.asynchronous else called)


class Call:
    """One model call.

    Attributes:
        kwargs: What is sent.
    """

    def __init__(self, adapter: Adapter, form: Form, kwargs: dict[str, Any]) -> None:
        # What can be read once only is read here.
        self.kwargs = {k: list(v) if isinstance(v, Iterator) else v for k, v in kwargs.items()}
        self._adapter, self._form = adapter, form
        # Without messages there is nothing to adopt; whether that is right the client will say.
        self._session = adapter.found() if self.kwargs.get(form.messages) else None
        self._counted = 0  # tokens of what is sent; 0 where that is not known
        self._given: list[Any] = []  # the messages, as the session takes them
        self._before: list[Any] | None = None  # what a caller put before the session's own view
        self._own: list[str] = []  # what that view was of

    # --- before it --------------------------------------------------------------------------

    def fit(self) -> None:
        """Adopt the messages, make room, and send the view."""
        session = self._session
        with self._guarded():
            for _ in range(_ATTEMPTS):
                if session is None or not self._adopt(session):
                    return
                session.messages()
                if self._look(session):
                    return
            self._adapter.warn(_CROSSED)

    async def afit(self) -> None:
        """The same as :meth:`fit`, with the work off the event loop."""
        session = self._session
        with self._guarded():
            for _ in range(_ATTEMPTS):
                if session is None or not await to_thread(self._adopt, session):
                    return
                await session.amessages()
                if self._look(session):
                    return
            self._adapter.warn(_CROSSED)

    def _adopt(self, session: Session) -> bool:
        """Take in what is sent; tells whether it may be fitted."""
        given, system = self.kwargs[self._form.messages], self.kwargs.get(self._form.system)
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
        # A store takes data alone: of a client's own object what the client would send of it.
        self._given = [plain(message) for message in messages] if session.durable else messages
        with session.lock:
            shown, self._own = session.history.messages(), ids(session)
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
        pin(session, "system", system)
        pin(session, "tools", self.kwargs.get("tools"))
        return not elsewhere

    def _look(self, session: Session) -> bool:
        """Put the view into the request, unless another call's list is in the session by now."""
        given, history = self.kwargs[self._form.messages], session.history
        with session.lock:
            if self._before is not None:
                if ids(session) != self._own:
                    return False
                view = [*self._before, *history.messages()]
            elif len(history._received) != len(self._given) or (
                history._common_prefix(self._given) != len(self._given)
            ):
                return False
            else:
                # What is shown as it was received goes out as the caller's own object.
                places = zip(given, history._received, history._shown, strict=False)
                view = [
                    mine if now is was else now.content
                    for mine, was, now in places
                    if now is not None
                ]
            pinned = (session.active_contexts.get(key) for key in _KEYS.values())
            self._counted = history.tokens + sum(item.tokens for item in pinned if item)
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
                if billed := self._form.billed(value):
                    counted, self._counted = self._counted, 0
                    self._session.record_usage(billed, counted_tokens=counted)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            spans.failure(f"{self._adapter.name} client", error)


if TYPE_CHECKING:
    _Proxy = wrapt.ObjectProxy[Any]
else:
    _Proxy = wrapt.ObjectProxy


class Client(_Proxy):
    """A client, or one of its resources: the wrapped one, but for what leads to managed calls."""

    def __init__(self, wrapped: Any, adapter: Adapter, path: tuple[str, ...] = ()) -> None:
        super().__init__(wrapped)
        self._self_adapter, self._self_path = adapter, path

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__wrapped__, name)
        return self._self_adapter.reach(self._self_path, name, value)

    def __copy__(self) -> Client:
        return Client(copy(self.__wrapped__), self._self_adapter, self._self_path)

    def __enter__(self) -> Client:
        self.__wrapped__.__enter__()
        return self

    async def __aenter__(self) -> Client:
        await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self.__wrapped__.__aexit__(*error)


class Opening:
    """What gives a stream when it is entered: the client's own manager, made then.

    Args:
        call: The model call.
        method: What makes the manager.
        reads: Whether what was billed can be read without reading what is the caller's to read.
    """

    def __init__(self, call: Call, method: Callable[..., Any], reads: bool) -> None:
        self._call, self._method, self._reads = call, method, reads

    def __enter__(self) -> Any:
        self._call.fit()
        self._manager = self._method(**self._call.kwargs)
        stream = self._manager.__enter__()
        return self._call.done(stream) if self._reads else stream

    def __exit__(self, *error: Any) -> Any:
        return self._manager.__exit__(*error)

    async def __aenter__(self) -> Any:
        await self._call.afit()
        self._manager = self._method(**self._call.kwargs)
        stream = await self._manager.__aenter__()
        return await self._call.adone(stream) if self._reads else stream

    async def __aexit__(self, *error: Any) -> Any:
        return await self._manager.__aexit__(*error)


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


def pin(session: Session, kind: str, content: Any) -> None:
    """Count a system prompt or tool schemas among the session's contexts, once."""
    contexts, key, content = session.active_contexts, _KEYS[kind], plain(content)
    held = contexts.get(key)
    if not content:
        if held is not None:
            contexts.remove(key)
    elif held is None or not (held.content == content or held.content == session._stored(content)):
        contexts.add(content, key=key, kind=kind)


def ids(session: Session) -> list[str]:
    """Ids of the messages that a session's history received."""
    return [item.id for item in session.history._received]


def same(ours: Sequence[Any], theirs: Sequence[Any]) -> bool:
    """Whether two lists hold the same objects."""
    return len(ours) == len(theirs) and all(map(operator.is_, ours, theirs))


def manage(client: C, adapter: str, session: Any, forms: Mapping[tuple[str, ...], Form]) -> C:
    """A client whose calls are measured and fitted; the one given stays as it is.

    Raises:
        ConfigurationError: `client` is no such client, or `session` no session.
    """
    if session is not None and not isinstance(session, Session):
        raise ConfigurationError(f"managed(client, session) takes a Session, got {session!r}")
    if isinstance(client, Client):
        client = client.__wrapped__
    if not all(hasattr(client, path[0]) for path in forms):
        raise ConfigurationError(
            f"managed takes a client of the package {adapter}, got {client!r}; "
            "for example managed(client, session)"
        )
    asynchronous = hasattr(type(client), "__aenter__")
    return cast(C, Client(client, Adapter(adapter, session, forms, asynchronous)))
