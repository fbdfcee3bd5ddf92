"""Hooks: told what happens, in order, and never able to hurt the run they watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import memtrace
from memtrace import ConfigurationError, Event, Policy, Session, checkpoint, managed_agent

BROKEN = LookupError("broken")


def ended(spans: InMemorySpanExporter, name: str) -> Any:
    """The one ended span of a name."""
    (span,) = (span for span in spans.get_finished_spans() if span.name == name)
    return span


# --- what they are told -------------------------------------------------------------------------


def test_events_of_a_run() -> None:
    """
    Before and after a run each hook is given one event: stage, session, agent, memory then.
    """
    session, told = Session(), []
    session.on("before_run")(told.append)
    session.on("after_run")(told.append)

    @managed_agent(name="clerk", session=session)
    def agent() -> None:
        session.history.append({"role": "user", "content": "hello"})

    agent()
    before, after = told
    assert (before.stage, before.agent, before.session) == ("before_run", "clerk", session)
    assert (after.stage, after.agent, after.error) == ("after_run", "clerk", None)
    assert (before.profile.total_tokens, after.profile) == (0, session.profile())


def test_event_of_an_error() -> None:
    """
    Where the body raises, the `error` hooks are told of the very exception, and nobody else.
    """
    session, told = Session(), []
    session.on("error")(told.append)
    session.on("after_run")(lambda event: pytest.fail("told"))

    @managed_agent(session=session)
    def agent() -> None:
        raise BROKEN

    with pytest.raises(LookupError):
        agent()
    assert [(event.stage, event.error) for event in told] == [("error", BROKEN)]


def test_event_of_a_checkpoint() -> None:
    """
    Entering a checkpoint is told to the `checkpoint` hooks, by its name.
    """
    session, told = Session(), []
    session.on("checkpoint")(told.append)

    with checkpoint(session, "index"):
        assert [(event.stage, event.agent) for event in told] == [("checkpoint", "index")]


def test_hooks_run_in_order() -> None:
    """
    A stage's hooks run in the order of their registration, the session's own before the shared.
    """
    session, told = Session(), []
    memtrace.configure(hooks=[("after_run", lambda event: told.append("shared"))])
    for name in ("first", "second"):
        session.on("after_run")(lambda event, name=name: told.append(name))
    managed_agent(session=session)(lambda: None)()

    assert told == ["first", "second", "shared"]


def test_shared_hooks_hear_of_observed_lists() -> None:
    """
    A hook for every session hears of lists that their caller owns, too: without a session.
    """
    told: list[Event] = []
    memtrace.configure(hooks=[("after_run", told.append)])
    managed_agent(messages="messages")(lambda messages: None)([{"role": "user", "content": "hi"}])

    assert [event.session for event in told] == [None]
    assert told[0].profile is not None
    assert told[0].profile.conversation_history == 4


def test_decorator_gives_the_hook_back() -> None:
    """
    `session.on` is a decorator that leaves the function what it was.
    """

    def hook(event: Event) -> None: ...

    assert Session().on("after_run")(hook) is hook


# --- hooks that fail ----------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["before_run", "after_run"])
def test_hook_that_raises_is_passed_over(
    stage: str, spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A hook that raises is logged and shown on a span; the run and the other hooks go on.
    """
    session, told = Session(), []

    def hook(event: Event) -> None:
        raise BROKEN

    session.on(stage)(hook)
    session.on(stage)(told.append)
    assert managed_agent(name="clerk", session=session)(lambda: 42)() == 42

    assert len(told) == 1
    assert "was passed over" in caplog.text
    shown = ended(spans, f"memtrace.hook {hook.__qualname__}")
    assert shown.status.status_code is StatusCode.ERROR
    assert shown.attributes["error.type"] == "LookupError"
    assert shown.attributes["memtrace.hook.stage"] == stage
    assert ended(spans, "invoke_agent clerk").status.status_code is StatusCode.UNSET


def test_hook_that_raises_leaves_the_bodys_error() -> None:
    """
    Where both the body and a hook raise, the caller gets the body's exception.
    """
    session = Session()
    session.on("error")(lambda event: 1 / 0)

    @managed_agent(session=session)
    def agent() -> None:
        raise BROKEN

    with pytest.raises(LookupError) as error:
        agent()
    assert error.value is BROKEN
    assert error.value.__context__ is None


@pytest.mark.parametrize("stage", ["before_run", "after_run"])
def test_interrupt_in_a_hook_ends_the_span(stage: str, spans: InMemorySpanExporter) -> None:
    """
    An interrupt that arrives in a hook is the caller's, and the span ends all the same.
    """
    session, ran = Session(), []

    def hook(event: Event) -> None:
        raise KeyboardInterrupt

    session.on(stage)(hook)
    with pytest.raises(KeyboardInterrupt):
        managed_agent(name="clerk", session=session)(lambda: ran.append(1))()

    assert ended(spans, "invoke_agent clerk").end_time is not None
    assert ran == [1] * (stage == "after_run")


def test_slow_hook_is_measured(
    spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A hook slower than the policy allows is named in a warning and a span, and was not cut short.
    """
    session, told = Session(policy=Policy(hook_slow_s=1e-9)), []
    session.on("after_run")(told.append)
    managed_agent(session=session)(lambda: None)()

    (record,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert "append took" in record.getMessage()
    shown = ended(spans, "memtrace.hook list.append")
    assert shown.status.status_code is StatusCode.UNSET
    assert shown.attributes["memtrace.hook.name"] == "list.append"
    assert len(told) == 1


def test_quick_hook_makes_no_span(spans: InMemorySpanExporter) -> None:
    """
    A hook that neither raises nor is slow makes no span.
    """
    session = Session(policy=Policy(hook_slow_s=3_600))
    session.on("after_run")(lambda event: None)
    managed_agent(name="clerk", session=session)(lambda: None)()

    assert [span.name for span in spans.get_finished_spans()] == ["invoke_agent clerk"]


def test_hook_that_causes_its_own_stage() -> None:
    """
    A hook that runs the agent again is not called again from within itself.
    """
    session, told = Session(), []
    agent = managed_agent(session=session)(lambda: 42)

    @session.on("after_run")
    def hook(event: Event) -> None:
        told.append(agent())

    assert agent() == 42
    assert told == [42]
    assert agent() == 42
    assert told == [42, 42]


def test_hooks_result_is_ignored() -> None:
    """
    What a hook returns changes nothing.
    """
    session = Session()
    session.on("after_run")(lambda event: "instead")

    assert managed_agent(session=session)(lambda: 42)() == 42


# --- async hooks --------------------------------------------------------------------------------


class Callable_:
    """An object that is called like a coroutine function."""

    async def __call__(self, event: Event) -> None: ...


async def nothing(event: Event) -> None: ...


@pytest.mark.parametrize("hook", [nothing, partial(nothing), Callable_()])
def test_async_hook_on_a_synchronous_run(hook: Callable[[Event], Any]) -> None:
    """
    An async hook that could only be skipped is one clear error, before the body has run.
    """
    session = Session()
    session.on("after_run")(hook)
    agent = managed_agent(name="clerk")(lambda session: pytest.fail("ran"))

    with pytest.raises(ConfigurationError, match="cannot run in a synchronous run: make the hook"):
        agent(session)


def test_async_hook_shows_at_decoration() -> None:
    """
    Where session and hook are known at decoration, the error is raised there.
    """
    session = Session()
    session.on("after_run")(nothing)

    with pytest.raises(ConfigurationError, match="async hook nothing"):
        managed_agent(session=session)(lambda: None)


def test_async_hook_registered_within_a_synchronous_run() -> None:
    """
    Within a synchronous run, registering an async hook is refused at once.
    """
    session = Session()

    @managed_agent(session=session)
    def agent() -> None:
        with pytest.raises(ConfigurationError, match="within a synchronous run"):
            session.on("after_run")(nothing)

    agent()


async def test_async_hooks_are_awaited() -> None:
    """
    In async use, async hooks have run before the body begins and before its result is given.
    """
    session, told = Session(), []

    async def hook(event: Event) -> None:
        await asyncio.sleep(0)
        told.append(event.stage)

    session.on("before_run")(hook)
    session.on("after_run")(hook)

    @managed_agent(session=session)
    async def agent() -> list[str]:
        return list(told)

    assert await agent() == ["before_run"]
    assert told == ["before_run", "after_run"]


async def test_async_hooks_of_an_async_generator() -> None:
    """
    An async generator's hooks have run before its first step, and after its last.
    """
    session, told = Session(), []

    async def hook(event: Event) -> None:
        await asyncio.sleep(0)
        told.append(event.stage)

    session.on("before_run")(hook)
    session.on("after_run")(hook)

    @managed_agent(session=session)
    async def agent() -> Any:
        yield list(told)

    assert [step async for step in agent()] == [["before_run"]]
    assert told == ["before_run", "after_run"]


async def test_async_hook_of_a_synchronous_run_within_a_loop() -> None:
    """
    A synchronous run within a running loop leaves its async hooks to the loop.
    """
    session, told = Session(), asyncio.Event()

    @session.on("after_run")
    async def hook(event: Event) -> None:
        told.set()

    managed_agent(session=session)(lambda: None)()
    await asyncio.wait_for(told.wait(), 10)


async def test_async_hook_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """
    An async hook that raises is passed over like any other.
    """
    session = Session()

    @session.on("after_run")
    async def hook(event: Event) -> None:
        raise BROKEN

    @managed_agent(session=session)
    async def agent() -> int:
        return 42

    assert await agent() == 42
    assert "was passed over" in caplog.text


# --- bad registrations --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "hook", "says"),
    [
        ("after_lunch", print, "no stage named 'after_lunch'; the stages are before_run, "),
        ("after_run", "print", "a hook must be callable with one Event, got 'print'"),
    ],
)
def test_registration_that_cannot_work(stage: str, hook: Any, says: str) -> None:
    """
    A stage that does not exist and a hook that cannot be called are refused.
    """
    with pytest.raises(ConfigurationError, match=says):
        Session().on(stage)(hook)
