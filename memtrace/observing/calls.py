"""One observed model call, from its request to its answer.

Every function here may fail without harm: `relay` calls them, and goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from opentelemetry import context as contexts

from .. import config
from ..counters import Counter, default_counter
from ..messages.blocks import field
from ..telemetry import metrics, names, spans
from . import telling
from .census import Census, Tally, prints_of
from .conversations import Conversations
from .facts import Observation, Request, Usage

LOOP_CHARACTERS = 50_000
"""Characters not counted before that are counted on the event loop (some 10 ms); more of them are
counted by a thread, while the model answers."""

Listener = Callable[[Observation], None]
_listeners: tuple[Listener, ...] = ()


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Tell a callable of each observed call that ends within the block, on whichever thread."""
    global _listeners
    _listeners = (*_listeners, listener)
    try:
        yield
    finally:
        _listeners = tuple(other for other in _listeners if other is not listener)


class State:
    """What all calls of the process share: what messages count, and which lists were sent.

    Attributes:
        ready: The counter's vocabulary is loaded.
    """

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.census = Census(counter)
        self.conversations = Conversations()
        self.ready = False

    def load(self) -> None:
        """Load the vocabulary (0.3 s, once a process)."""
        getattr(self.counter, "load", lambda: None)()
        self.ready = True


_state: State | None = None


def state() -> State:
    """The state of the present configuration; a new one where the encoding was changed."""
    global _state
    counter = default_counter()
    if _state is None or _state.counter is not counter:
        telling.is_exact.cache_clear()
        _state = State(counter)
    return _state


def prepare() -> None:
    """Load the vocabulary aside, so that the first call does not wait for it."""
    threading.Thread(target=_load, name="memtrace-load", daemon=True).start()


def _load() -> None:
    try:
        state().load()
    except Exception as error:
        spans.failure("observing", error)


Read = Callable[[tuple[Any, ...], dict[str, Any]], "Request | None"]


def begin(read: Read, args: Any, kwargs: Any, asynchronous: bool) -> Call | None:
    """See what a call is about to send.

    Args:
        read: What reads the arguments of the method that is called.
        asynchronous: It is called on an event loop, which is not to be held up.

    Returns:
        None: it is no model call, or memtrace is switched off.
    """
    if not config.current.enabled:
        return None
    request = read(args, kwargs)
    if request is None:
        return None
    call = Call(request, state())
    call.look(asynchronous)
    return call


class Call:
    """A call that was seen and is not told yet: it is, once it is both counted and answered."""

    def __init__(self, request: Request, shared: State) -> None:
        self._start_ns = self._last_ns = time.time_ns()
        self._request: Request | None = request
        self._billed, self._readable = request.billed, request.readable
        self._shared = shared
        self._context = contexts.get_current()
        self._span = telling.inference_span(self._context)
        self._usage = Usage()
        self._error: str | None = None
        self._seen: Observation | None = None
        self._answered = False
        self._lock = threading.Lock()

    # --- what it carries ----------------------------------------------------------------------

    def look(self, asynchronous: bool) -> None:
        """Count it: now, or where that would hold up an event loop by a thread."""
        request = self._request
        assert request is not None
        began = time.perf_counter()
        prints = prints_of(request)
        if asynchronous and self._is_long(request, prints):
            # Not a daemon: at exit it is waited for, before spans are sent for the last time.
            thread = threading.Thread(target=self._aside, args=(prints,), name="memtrace-count")
            thread.start()
        else:
            self._count(request, prints)
        spent = time.perf_counter() - began
        metrics.record(names.METRIC_OPERATION_DURATION, spent, {names.OPERATION: "observe"}, None)

    def _is_long(self, request: Request, prints: list[int]) -> bool:
        shared = self._shared
        return not shared.ready or shared.census.unknown(request, prints) > LOOP_CHARACTERS

    def _aside(self, prints: list[int]) -> None:
        try:
            assert self._request is not None
            self._count(self._request, prints)
        except Exception as error:
            spans.failure("observing", error)

    def _count(self, request: Request, prints: list[int]) -> None:
        shared = self._shared
        place = shared.conversations.place(prints, _start(request))
        before, tally = place.before, Tally()
        if before is not None and place.continues and before.tally is not None:
            # Nobody finds that one any more, so its sums can go on as this one's.
            tally, before.tally = before.tally, None
            shared.census.add(tally, request, prints, place.common)
            repeated = before.tokens or 0
        else:
            shared.census.add(tally, request, prints[: place.common])
            repeated = tally.tokens
            shared.census.add(tally, request, prints, place.common)
        shared.ready = True
        growth = None if before is None or before.tokens is None else tally.tokens - before.tokens
        seen = Observation(
            model=request.model,
            conversation=place.conversation,
            turn=place.turn,
            messages=len(request.messages),
            kinds=dict(tally.kinds),
            duplicate_tokens=tally.duplicate_tokens,
            repeated_tokens=repeated,
            growth_tokens=growth,
            partial=request.partial,
            exact=telling.is_exact(request.model),
        )
        place.sent.tokens, place.sent.tally = tally.tokens, tally
        self._told(seen)

    def _told(self, seen: Observation) -> None:
        """It is counted: say so on the model call's span, which may end before this call does."""
        self._request = None  # no message is kept while a stream is read
        if self._span is not None:
            self._span.set_attributes(telling.carried(seen))
        with self._lock:
            self._seen = seen
            both = self._answered
        if both:
            self._tell()

    # --- what comes back ----------------------------------------------------------------------

    def stream_of(self, result: Any) -> Any:
        """The stream that an answer is; None: it is none, and has been read."""
        if not self._readable:
            self.finish()
            return None
        if hasattr(result, "http_response"):  # a raw one, which keeps what it parsed
            result = result.parse()
        if hasattr(result, "__stream__") and hasattr(result, "_iterator"):
            return result
        if hasattr(result, "__next__") or hasattr(result, "__anext__"):
            return result
        self.saw(result)
        self.finish()
        return None

    def saw(self, value: Any) -> None:
        """Read what an answer, or an event of a stream, says was billed."""
        self._last_ns = time.time_ns()
        usage = self._billed(value)
        if usage is not None:
            self._usage = self._usage.merged(usage)

    def fail(self, error: BaseException) -> None:
        """It ended with an exception."""
        self._error = spans.error_type(error)
        self._last_ns = time.time_ns()
        self.finish()

    def finish(self) -> None:
        """It ended: with its answer, with its stream's last event, or with the stream itself."""
        with self._lock:
            both = self._seen is not None and not self._answered
            self._answered = True
        if both:
            self._tell()

    def _tell(self) -> None:
        assert self._seen is not None
        seen = replace(self._seen, usage=self._usage, error=self._error)
        if self._span is None:
            telling.make_span(seen, self._context, self._start_ns, self._last_ns)
        elif self._span.is_recording():
            self._span.set_attributes(telling.billed(seen))
        for listener in _listeners:
            listener(seen)


def _start(request: Request) -> int:
    """How many parts stand before the second message that is no system prompt."""
    for place, message in enumerate(request.messages):
        if field(message, "role") not in ("system", "developer"):
            return place + 3
    return len(request.messages) + 2


def _after_fork() -> None:
    global _state
    _state = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
