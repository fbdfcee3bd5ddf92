"""Hostile input: whatever it is given, the function runs once and its own value comes back."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import Policy, Session, checkpoint, managed_agent

BIG = "all work and no play makes jack a dull boy\n" * 230_000  # 10 MB


class Hostile:
    """An object that raises whatever it is asked."""

    def _refuse(self, *args: Any) -> Any:
        raise RuntimeError("do not look at me")

    __repr__ = __str__ = __eq__ = __hash__ = __bool__ = __len__ = _refuse  # type: ignore[assignment]
    __iter__ = __getitem__ = __contains__ = __lt__ = __format__ = _refuse
    __getattr__ = _refuse


class Impostor(Hostile):
    """One that raises even when asked for its class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("do not look at me")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


class HostileList(list):  # type: ignore[type-arg]
    """A list that cannot be read."""

    __iter__ = __len__ = __getitem__ = Hostile._refuse  # type: ignore[assignment]


class HostileDict(dict):  # type: ignore[type-arg]
    """A mapping that cannot be read."""

    __iter__ = __len__ = __getitem__ = keys = items = get = Hostile._refuse  # type: ignore[assignment]
    __contains__ = __eq__ = Hostile._refuse  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


def endless() -> Any:
    """A value that contains itself."""
    value: dict[str, Any] = {"name": "loop"}
    value["self"] = [value]
    return value


def deep() -> Any:
    """A value nested deeper than Python can recurse."""
    value: Any = "bottom"
    for _ in range(5_000):
        value = [value]
    return value


VALUES = {
    "hostile": Hostile,
    "impostor": Impostor,
    "list that cannot be read": lambda: HostileList([1]),
    "mapping that cannot be read": lambda: HostileDict(role="user", content="hi"),
    "contains itself": endless,
    "deep": deep,
    "NaN": lambda: {"value": math.nan, "more": [math.inf, -math.inf]},
    "bytes": lambda: {"image": b"\x89PNG" * 1_000},
    "lone surrogate": lambda: "\ud800 and \udfff",
    "special token": lambda: "<|endoftext|><|im_start|>",
    "huge integer": lambda: {"n": 2**200, "negative": -(2**64)},
    "odd keys": lambda: {1: "a", None: "b", (1, 2): "c"},
    "set": lambda: {"a", "b", frozenset([1])},
    "generator": lambda: (n for n in range(3)),
    "class": lambda: Hostile,
    "lock": threading.Lock,
    "None": lambda: None,
}

each_value = pytest.mark.parametrize("make", VALUES.values(), ids=VALUES.keys())


@each_value
def test_argument(make: Any, spans: InMemorySpanExporter) -> None:
    """
    No argument keeps the function from running once, or from being given it as it is.
    """
    given, calls = make(), []
    session = Session()

    @managed_agent
    def agent(session: Session, value: Any, *, named: Any) -> Any:
        calls.append(1)
        return value if value is named else None

    assert agent(session, given, named=given) is given
    assert (len(calls), len(spans.get_finished_spans())) == (1, 1)


@each_value
def test_result(make: Any, spans: InMemorySpanExporter) -> None:
    """
    Nothing that a function returns is looked at.
    """
    given = make()

    assert managed_agent(session=Session())(lambda: given)() is given
    assert len(spans.get_finished_spans()) == 1


@each_value
def test_observed_list(make: Any, spans: InMemorySpanExporter) -> None:
    """
    A list of anything is observed without a word to the caller, and left as it is.
    """
    given = make()
    messages = [{"role": "user", "content": "hi"}, given, {"role": "user", "content": given}]

    assert managed_agent(messages="messages")(lambda messages: messages)(messages) is messages
    assert messages[1] is messages[2]["content"] is given
    assert len(spans.get_finished_spans()) == 1


@each_value
def test_what_is_observed_is_no_list(make: Any, spans: InMemorySpanExporter) -> None:
    """
    Where the parameter holds anything else, the function runs all the same.
    """
    given = make()

    assert managed_agent(messages="messages")(lambda messages: messages)(given) is given
    assert len(spans.get_finished_spans()) == 1


@each_value
def test_agent_state(make: Any) -> None:
    """
    An agent's state may be anything: it is measured, again and again, and never changed.
    """
    session, given = Session(), make()
    session.agent("planner").state = given
    agent = managed_agent(session=session)(lambda: 42)

    assert (agent(), agent()) == (42, 42)
    assert session.agents["planner"].state is given
    tokens = session.profile().agent_states
    assert tokens >= 0
    assert session.recount().agent_states == tokens


@each_value
def test_content(make: Any) -> None:
    """
    Anything may be held in a context and in the cache, and comes out as the same object.
    """
    session, given = Session(), make()
    session.active_contexts.add(given, key="it")
    session.cache.put("it", given)
    item = session.active_contexts.get("it")

    assert item is not None
    assert item.content is session.cache.get("it") is given
    assert session.profile().total_tokens == session.recount().total_tokens


@pytest.mark.parametrize("make", [m for n, m in VALUES.items() if n != "None"])
def test_message(make: Any) -> None:
    """
    A message may be anything but None, and so may its content.
    """
    session, given = Session(), make()
    session.history.append(given)
    session.history.append({"role": "user", "content": given})
    session.history.sync([given])

    assert session.messages()[0] is given
    assert len(session.history) == 1
    assert session.profile().total_tokens == session.recount().total_tokens


def test_ten_megabytes() -> None:
    """
    A huge argument costs nothing that it is not asked for, and a huge text is counted whole.
    """
    session = Session(token_budget=100_000_000)

    @managed_agent
    def agent(session: Session, text: str) -> str:
        session.active_contexts.add(text)
        return text

    assert agent(session, BIG) is BIG
    assert session.active_contexts.items[0].content is BIG
    assert session.profile().working_memory > 2_000_000


def test_callable_object() -> None:
    """
    A callable object that can neither be printed, compared, hashed nor tested can be decorated.
    """

    class Agent:
        __repr__ = __eq__ = __hash__ = __bool__ = __len__ = Hostile._refuse  # type: ignore[assignment]

        def __call__(self) -> int:
            return 42

    assert managed_agent(session=Session())(Agent())() == 42


@pytest.mark.parametrize("make", list(VALUES.values())[:3])
def test_hooks_result(make: Any) -> None:
    """
    Nothing that a hook returns is looked at beyond whether it is to be awaited.
    """
    session = Session()
    session.on("after_run")(lambda event: make())

    assert managed_agent(session=session)(lambda: 42)() == 42


def test_hook_that_blocks_is_waited_for() -> None:
    """
    A hook that blocks is not killed: it is waited for, measured, and named as slow.
    """
    session = Session(policy=Policy(hook_slow_s=1e-9))
    gate, passed = threading.Event(), []
    threading.Timer(0, gate.set).start()
    session.on("before_run")(lambda event: passed.append(gate.wait(60)))

    assert managed_agent(session=session)(lambda: list(passed))() == [True]


def test_hook_that_recurses_without_end() -> None:
    """
    A hook that recurses until Python gives up is passed over.
    """
    session = Session()

    def hook(event: Any) -> None:
        hook(event)

    session.on("after_run")(hook)
    assert managed_agent(session=session)(lambda: 42)() == 42


def test_hooks_that_run_each_others_stages() -> None:
    """
    Hooks that cause each other's stages come to an end.
    """
    session, told = Session(), []

    @session.on("after_run")
    def first(event: Any) -> None:
        told.append("run")
        with checkpoint(session):
            pass

    @session.on("checkpoint")
    def second(event: Any) -> None:
        told.append("checkpoint")
        agent()

    agent = managed_agent(session=session)(lambda: 42)
    assert agent() == 42
    assert told == ["run", "checkpoint"]


def test_hook_that_empties_the_session() -> None:
    """
    A hook may change the memory that it is told about.
    """
    session = Session()
    session.history.append({"role": "user", "content": "hi"})
    session.on("before_run")(lambda event: session.history.clear())

    assert managed_agent(session=session)(lambda: session.messages())() == []
    assert session.profile().total_tokens == 0


def test_state_that_changes_while_it_is_measured() -> None:
    """
    A state that grows as it is read is measured without harm.
    """
    session = Session()

    class Growing(dict):  # type: ignore[type-arg]
        def items(self) -> Iterator[Any]:  # type: ignore[override]
            session.agent("helper")
            return iter([("a", 1)])

    session.agent("planner").state = {"nested": Growing(a=1), "odd": Hostile()}
    assert managed_agent(session=session)(lambda: 42)() == 42
    assert session.profile().agent_states > 0


class Counter:
    """A counter of one's own that raises, lies, or is no counter at all."""

    name = "mine"
    exact = True

    def __init__(self, gives: Any) -> None:
        self.gives = gives

    def count_text(self, text: str) -> Any:
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


@pytest.mark.parametrize("gives", [LookupError("broken"), -1, "many", None, 1.5])
def test_counter_that_fails(gives: Any) -> None:
    """
    Where a counter fails, texts count by estimate and everything goes on.
    """
    session = Session(counter=Counter(gives))
    session.active_contexts.add("some words to count")

    assert managed_agent(session=session)(lambda: 42)() == 42
    assert session.profile().working_memory > 0
    assert session.profile() == session.recount()
