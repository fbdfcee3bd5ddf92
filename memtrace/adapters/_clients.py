"""What the adapters of providers' own clients share: one client that fits what it sends.

The list that a hand-written loop sends whole each turn is adopted, what goes out is the history's
view of it, and what the provider billed is recorded. Everything else of the client is untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import wrapt

from .. import config
from ..errors import ConfigurationError
from ..session import Session, current_session
from ._calls import Call, Form

C = TypeVar("C")
logger = logging.getLogger("memtrace")

_CALLS = frozenset({"create", "parse", "stream"})
_RAW, _STREAMED = "with_raw_response", "with_streaming_response"


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
        if session is None and not self.warned:
            self.warned = True
            logger.warning(
                "memtrace's %s client found no session, so a call was sent as it was: "
                "use managed(client, session)",
                self.name,
            )
        return session

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
