"""Where calls are observed: which methods of which clients, and putting them back."""

from __future__ import annotations

import inspect
import sys
import threading
from dataclasses import dataclass
from typing import Any, NamedTuple

import wrapt

from . import calls
from .forms import read_google, read_posted
from .relay import guarded, relay


class Seat(NamedTuple):
    """A method through which model calls go.

    Args:
        module: Where the class is found.
        owner: A class that has the method, or inherits it.
        methods: The method's names, the best first: it is wrapped in the class that defines it.
        read: What reads its arguments.
    """

    module: str
    owner: str
    methods: tuple[str, ...]
    read: calls.Read


# In `openai` and `anthropic` every resource, `create`, `parse`, `stream` and raw ones alike, ends
# in `request`; it is looked up at each call, so that clients made before are observed too, and
# other instrumentations, which wrap the resources, have their span open by then. In `google.genai`
# the inner method is called once for each model call of a loop over tools.
SEATS = (
    Seat("openai", "OpenAI", ("request",), read_posted),
    Seat("openai", "AsyncOpenAI", ("request",), read_posted),
    Seat("anthropic", "Anthropic", ("request",), read_posted),
    Seat("anthropic", "AsyncAnthropic", ("request",), read_posted),
    *(
        Seat("google.genai.models", owner, (f"_{method}", method), read_google)
        for owner in ("Models", "AsyncModels")
        for method in ("generate_content", "generate_content_stream")
    ),
)


@dataclass(slots=True)
class Switch:
    """Whether the wrappers of one installation do anything."""

    on: bool = True


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A method that is observed: where it stands, what stood there, and what stands there now."""

    owner: type
    method: str
    original: Any
    ours: Any
    switch: Switch


_lock = threading.RLock()
_switch: Switch | None = None
_hooked: set[str] = set()
_wrapped: list[Wrapped] = []


def install() -> None:
    """Observe the clients that are installed: those imported by now, and those imported later.

    Called twice it does nothing more. A client in which the methods are not found is left alone.
    """
    global _switch
    with _lock:
        if _switch is not None:
            return
        _switch = Switch()
        for name in dict.fromkeys(seat.module for seat in SEATS):
            if name not in _hooked:
                _hooked.add(name)
                wrapt.register_post_import_hook(guarded(_imported), name)  # at once, if it is there
            elif (module := sys.modules.get(name)) is not None:
                _imported(module)


def uninstall() -> None:
    """Put everything back as it was: the same functions in the same places."""
    global _switch
    with _lock:
        _switch = None
        while _wrapped:
            held = _wrapped.pop()
            held.switch.on = False
            # One that somebody else wrapped meanwhile is theirs to unwrap: ours does nothing now.
            if vars(held.owner).get(held.method) is held.ours:
                setattr(held.owner, held.method, held.original)


def observed() -> list[str]:
    """The methods that are observed now, such as ``openai: SyncAPIClient.request``."""
    return [
        f"{held.owner.__module__.partition('.')[0]}: {held.owner.__qualname__}.{held.method}"
        for held in _wrapped
    ]


def _imported(module: Any) -> None:
    """A client was imported."""
    with _lock:
        if _switch is None:
            return
        for seat in SEATS:
            if seat.module == module.__name__:
                _wrap(module, seat, _switch)
    calls.prepare()


def _wrap(module: Any, seat: Seat, switch: Switch) -> None:
    lineage: tuple[type, ...] = getattr(getattr(module, seat.owner, None), "__mro__", ())
    places = ((owner, name) for name in seat.methods for owner in lineage if name in vars(owner))
    owner, method = next(places, (None, ""))
    if owner is None or any((held.owner, held.method) == (owner, method) for held in _wrapped):
        return
    original = vars(owner)[method]
    wrapper = relay(seat.read, inspect.iscoroutinefunction(original), switch)
    ours = wrapt.wrap_function_wrapper(owner, method, wrapper)
    _wrapped.append(Wrapped(owner, method, original, ours, switch))
