"""The adapter for LangChain's agents and LangGraph, run over the real ChatOpenAI client."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract import Contract, read
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from stub import Script, Server, task

from memtrace import Session, current_session
from memtrace.adapters.langchain import MemtraceMiddleware, pre_model_hook
from memtrace.testing import Captured, capture


@tool("read")
def read_tool(part: int) -> str:
    """Read a part."""
    return read(part)


def model(url: str, **options: Any) -> ChatOpenAI:
    settings = {"model": "stub", "api_key": "none", "max_retries": 0, "stream_usage": True}
    return ChatOpenAI(base_url=url + "/v1", **{**settings, **options})


def agent(url: str, session: Any, tools: Any = (read_tool,), **options: Any) -> Any:
    middleware = [] if session is None else [MemtraceMiddleware(session)]
    return create_agent(model(url), list(tools), middleware=middleware, **options)


def ask(question: str = "") -> dict[str, Any]:
    return {"messages": [HumanMessage(question or task())]}


def said(result: dict[str, Any]) -> str:
    return str(result["messages"][-1].content)


class TestMiddleware(Contract):
    def run(self, url: str, question: str, session: Session | None) -> str:
        return said(agent(url, session).invoke(ask(question)))


class TestAsync(Contract):
    further = True

    def run(self, url: str, question: str, session: Session | None) -> str:
        return said(asyncio.run(agent(url, session).ainvoke(ask(question))))


class TestStreamed(Contract):
    further = True

    def run(self, url: str, question: str, session: Session | None) -> str:
        steps = agent(url, session).stream(ask(question), stream_mode=["values", "messages"])
        return said([chunk for mode, chunk in steps if mode == "values"][-1])


class TestPreModelHook(Contract):
    def run(self, url: str, question: str, session: Session | None) -> str:
        return said(react(url, session).invoke(ask(question), {"recursion_limit": 2000}))


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
class TestAsyncPreModelHook(Contract):
    further = True

    def run(self, url: str, question: str, session: Session | None) -> str:
        run = react(url, session).ainvoke(ask(question), {"recursion_limit": 2000})
        return said(asyncio.run(run))


def react(url: str, session: Session | None) -> Any:
    # LangGraph says at each use that it moved to LangChain; it is still what many have.
    import warnings

    from langgraph.prebuilt import create_react_agent

    hook = None if session is None else pre_model_hook(session, tools=[read_tool])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return create_react_agent(model(url), [read_tool], pre_model_hook=hook)


# --- what is LangChain's own ----------------------------------------------------------------------


class Watching(MemtraceMiddleware):
    """The adapter, and what the model is given after it."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.views: list[list[Any]] = []
        self.states: list[list[Any]] = []

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        def seeing(fitted: Any) -> Any:
            self.views.append(fitted.messages)
            self.states.append(request.messages)
            return handler(fitted)

        return super().wrap_model_call(request, seeing)


def watched(url: str, session: Session, **options: Any) -> tuple[Any, Watching]:
    watching = Watching(session)
    return create_agent(model(url), [read_tool], middleware=[watching], **options), watching


def long_run(session: Session, calls: int = 60) -> Watching:
    with Server(Script(calls)) as server:
        reader, watching = watched(server.url, session)
        reader.invoke(ask())
    assert server.rejected == []
    return watching


def test_what_is_sent_is_made_of_langchain_messages() -> None:
    """
    A message that was made shorter keeps its class and its id, and a digest is a HumanMessage.
    """
    watching = long_run(Session(token_budget=8_000))
    view, given = watching.views[-1], {message.id: message for message in watching.states[-1]}

    shorter = [m for m in view if m.id is not None and m is not given[m.id]]
    digests = [m for m in view if m.id is None]
    assert shorter
    assert digests
    assert all(type(m) is type(given[m.id]) for m in shorter)
    assert {type(m) for m in digests} <= {HumanMessage, AIMessage}


def test_what_is_not_compressed_is_the_same_object() -> None:
    """
    Messages that are sent as they were are the graph's own objects.
    """
    watching = long_run(Session(token_budget=12_000))
    view, given = watching.views[-1], watching.states[-1]

    assert view[0] is given[0]
    assert view[-1] is given[-1]
    assert all(m is n for m, n in zip(watching.views[0], watching.states[0], strict=True))


def test_the_graphs_state_is_never_rewritten() -> None:
    """
    After a run that was compressed the state holds every tool result whole.
    """
    with Server(Script(60)) as server:
        result = agent(server.url, Session(token_budget=12_000)).invoke(ask())

    found = [m.content for m in result["messages"] if isinstance(m, ToolMessage)]
    assert found == [read(n) for n in range(60)]


def test_system_prompt_and_tools_are_counted() -> None:
    """
    They are pinned contexts, added once, and the prompt is sent as it is.
    """
    session = Session(token_budget=32_000)
    with Server(Script(3)) as server:
        agent(server.url, session, system_prompt="Be brief.").invoke(ask())

    assert [item.kind for item in session.active_contexts.items] == ["system", "tools"]
    assert all(item.pinned and item.tokens for item in session.active_contexts.items)
    assert server.sent[-1][0] == {"role": "system", "content": "Be brief."}


def test_usage_calibrates_an_estimate() -> None:
    """
    What was billed is set against what was counted for the same prompt, prompt and tools included.
    """
    session = Session(token_budget=32_000, counter=Half())
    with Server(Script(5)) as server:
        agent(server.url, session, system_prompt="Be brief.").invoke(ask())

    assert session._calibration.factor > 1.3


class Half:
    """Counts half of what there is, and says that it is an estimate."""

    name = "half"
    exact = False

    def count_text(self, text: str) -> int:
        from memtrace import measure_tokens

        return measure_tokens(text) // 2


# --- the span -------------------------------------------------------------------------------------


def invocations(captured: Captured) -> list[Any]:
    return [span for span in captured.spans if span.name.startswith("invoke_agent")]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_one_span_a_run(asynchronous: bool) -> None:
    """
    One invoke_agent span under the agent's name; tools are within it, and find its session.
    """
    found = []

    @tool("read")
    def looking(part: int) -> str:
        """Read a part."""
        found.append(current_session())
        return read(part)

    session = Session(token_budget=32_000)
    with capture() as captured, Server(Script(3)) as server:
        reader = agent(server.url, session, [looking], name="reader")
        said(asyncio.run(reader.ainvoke(ask())) if asynchronous else reader.invoke(ask()))

    assert captured.tree() == ["invoke_agent reader"]
    assert captured.open_spans == []
    assert found == [session] * 3
    after = captured.spans[0].attributes["memtrace.profile.after.tokens"]
    assert after == session.profile().total_tokens > 3000


def test_the_last_answer_is_in_memory() -> None:
    """
    The answer that ends a run is measured after it.
    """
    session = Session(token_budget=32_000)
    with Server(Script(2)) as server:
        result = agent(server.url, session).invoke(ask())

    assert session.history[-1] is result["messages"][-1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_model_that_fails_ends_the_span_with_its_error(asynchronous: bool) -> None:
    """
    The provider's error passes unchanged, and the one span says so.
    """
    from openai import APIError

    with capture() as captured, Server(Script(3), fail=[500]) as server:
        reader = agent(server.url, Session())
        with pytest.raises(APIError) as raised:
            asyncio.run(reader.ainvoke(ask())) if asynchronous else reader.invoke(ask())

    (span,) = invocations(captured)
    kind = raised.type
    assert span.attributes["error.type"] == f"{kind.__module__}.{kind.__qualname__}"


def test_a_retry_of_the_clients_is_one_call() -> None:
    """
    A 500 that the model's own max_retries gets over is seen by nobody.
    """
    session = Session(token_budget=32_000)
    with capture() as captured, Server(Script(3), fail=[500]) as server:
        middleware = [MemtraceMiddleware(session)]
        retrying = create_agent(
            model(server.url, max_retries=2), [read_tool], middleware=middleware
        )
        assert "heron-4711" in said(retrying.invoke(ask()))

    assert len(invocations(captured)) == 1
    assert len(session.history) == len(server.sent[-1]) + 1


def test_a_stream_left_early_ends_the_span() -> None:
    """
    A consumer that stops in the middle ends the run, without an error.
    """
    with capture() as captured, Server(Script(10)) as server:
        steps = agent(server.url, Session(token_budget=32_000)).stream(ask())
        next(steps)
        steps.close()

    (span,) = invocations(captured)
    assert "error.type" not in span.attributes
    assert captured.open_spans == []


async def test_cancellation_ends_the_span() -> None:
    """
    A run that is cancelled within a tool ends its span with CancelledError, and the next goes on.
    """
    begun = asyncio.Event()

    @tool("read")
    async def waiting(part: int) -> str:
        """Read a part."""
        begun.set()
        await asyncio.Event().wait()
        return ""

    session = Session(token_budget=32_000)
    with capture() as captured, Server(Script(3)) as server:
        running = asyncio.ensure_future(agent(server.url, session, [waiting]).ainvoke(ask()))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        server.script.done = 3
        again = said(await agent(server.url, session).ainvoke(ask()))

    assert "heron-4711" in again
    first, second = invocations(captured)
    assert first.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert "error.type" not in second.attributes


# --- persistence ----------------------------------------------------------------------------------


def test_a_thread_goes_on_with_another_agent() -> None:
    """
    A second agent over the same checkpointer and session continues; nothing is counted twice.
    """
    from langgraph.checkpoint.memory import InMemorySaver

    saver, session = InMemorySaver(), Session(token_budget=16_000)
    here = {"configurable": {"thread_id": "one"}}
    with Server(Script(30)) as server:
        agent(server.url, session, checkpointer=saver).invoke(ask(), here)
        held = len(session.history._received)
        server.script.calls = 60
        result = agent(server.url, session, checkpointer=saver).invoke(ask("Go on."), here)

    assert server.rejected == []
    assert "heron-4711" in said(result)
    assert max(server.tokens) <= 16_000
    assert len(session.history._received) == len(result["messages"]) == held + 62


def test_memory_endures_with_the_thread(tmp_path: Path) -> None:
    """
    A durable session that was closed and opened again goes on with what it had compressed, and
    what is sent is made of LangChain's messages.
    """
    from langgraph.checkpoint.memory import InMemorySaver

    saver, store = InMemorySaver(), f"{tmp_path}/memory.db"
    here = {"configurable": {"thread_id": "one"}}
    with Server(Script(40)) as server:
        session = Session.open("one", store=store, token_budget=16_000)
        agent(server.url, session, checkpointer=saver).invoke(ask(), here)
        session.close()
        server.script.calls = 42
        again = Session.open("one", store=store)
        shown = [item.id for item in again.history.items]
        again.history.sync(
            agent(server.url, None, checkpointer=saver).get_state(here).values["messages"]
        )
        assert [item.id for item in again.history.items] == shown
        reader, watching = watched(server.url, again, checkpointer=saver)
        reader.invoke(ask("Go on."), here)
        again.close()

    assert server.rejected == []
    assert max(server.tokens) <= 16_000
    assert all(isinstance(m, BaseMessage) for view in watching.views for m in view)


def test_each_thread_has_a_session_of_its_own() -> None:
    """
    A callable is given the runtime, once a run.
    """
    from langgraph.checkpoint.memory import InMemorySaver

    sessions: dict[str, Session] = {}
    asked = []

    def of_thread(runtime: Any) -> Session:
        asked.append(runtime)
        return sessions.setdefault(runtime.context["user"], Session(token_budget=32_000))

    with Server(Script(2)) as server:
        reader = agent(server.url, of_thread, checkpointer=InMemorySaver(), context_schema=dict)
        for name in ("one", "two", "one"):
            server.script.done = 0
            here = {"configurable": {"thread_id": name}}
            reader.invoke(ask(), here, context={"user": name})

    assert len(asked) == 3
    assert len(sessions["one"].history) == 2 * len(sessions["two"].history) == 12


def test_an_interrupted_run_ends_and_is_resumed() -> None:
    """
    A human in the loop parts a run into two spans, neither an error; one session holds both.
    """
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command, interrupt

    @tool("read")
    def asking(part: int) -> str:
        """Read a part."""
        return read(part) if interrupt("may I?") else "no"

    session = Session(token_budget=32_000)
    here = {"configurable": {"thread_id": "one"}}
    with capture() as captured, Server(Script(1)) as server:
        reader = agent(server.url, session, [asking], checkpointer=InMemorySaver())
        reader.invoke(ask(), here)
        assert len(invocations(captured)) == 1
        assert "heron-4711" in said(reader.invoke(Command(resume=True), here))

    assert len(invocations(captured)) == 2
    assert all("error.type" not in span.attributes for span in invocations(captured))
    assert captured.open_spans == []


# --- agents within agents -------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("parallel", [1, 3])
def test_an_agent_in_a_tool_shares_the_session(asynchronous: bool, parallel: int) -> None:
    """
    Its messages stand after its caller's while it works, together within the budget, and only its
    own are sent; when it is done they are gone, and its span is within its caller's.
    """
    session = Session("shared", token_budget=16_000)
    together = []
    with capture() as captured, Server(Script(6, parallel)) as outer:
        inner = []

        @tool("read")
        async def delegate(part: int) -> str:
            """Ask another agent."""
            with Server(Script(20)) as server:
                inner.append(server)
                helper = agent(server.url, session, name="helper")
                answer = said(await helper.ainvoke(ask(task(part))))
                together.append(session.profile().total_tokens)
            return answer + read(part)

        @tool("read")
        def delegate_now(part: int) -> str:
            """Ask another agent."""
            return str(asyncio.run(delegate.coroutine(part)))

        chosen = delegate if asynchronous else delegate_now
        lead = agent(outer.url, session, [chosen], name="lead")
        answer = said(asyncio.run(lead.ainvoke(ask())) if asynchronous else lead.invoke(ask()))

    assert "heron-4711" in answer
    assert [server.rejected for server in (outer, *inner)] == [[]] * 7
    assert max(tokens for server in (outer, *inner) for tokens in server.tokens) <= 16_000
    assert max(together) <= 16_000
    for number, server in enumerate(sorted(inner, key=lambda s: s.sent[0][0]["content"])):
        assert all(sent[0]["content"] == task(number) for sent in server.sent)
    assert len(session.history._received) == 2 + 6 + 6 // parallel  # its own, and no helper's
    lead_span = captured.span("invoke_agent lead")
    helpers = captured.spans_named("invoke_agent helper")
    assert len(helpers) == 6
    assert {span.parent_id for span in helpers} == {lead_span.span_id}
    assert {item.key for item in session.active_contexts.items} == {"lead:tools"}


# --- where memtrace fails -------------------------------------------------------------------------


class Broken:
    """A counter that cannot count."""

    name = "broken"
    exact = True

    def count_text(self, text: str) -> int:
        raise RuntimeError("no counting today")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_failure_of_memtraces_changes_nothing_that_is_sent(asynchronous: bool) -> None:
    """
    A counter that raises is logged; the agent runs as it would without memtrace.
    """
    with Server(Script(3)) as bare:
        agent(bare.url, None).invoke(ask())
    with Server(Script(3)) as server:
        reader = agent(server.url, Session(counter=Broken()))
        said(asyncio.run(reader.ainvoke(ask())) if asynchronous else reader.invoke(ask()))

    assert server.sent == bare.sent


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_message_that_no_store_takes_changes_nothing(tmp_path: Path, asynchronous: bool) -> None:
    """
    A tool's artifact that is no data keeps a durable session from taking it in, and no more.
    """

    @tool("read", response_format="content_and_artifact")
    def locked(part: int) -> tuple[str, Any]:
        """Read a part."""
        return read(part), threading.Lock()

    with Server(Script(3)) as bare:
        agent(bare.url, None).invoke(ask())
    session = Session.open("one", store=f"{tmp_path}/memory.db")
    with capture() as captured, Server(Script(3)) as server:
        reader = agent(server.url, session, [locked])
        said(asyncio.run(reader.ainvoke(ask())) if asynchronous else reader.invoke(ask()))
    session.close()

    assert server.sent == bare.sent
    assert len(invocations(captured)) == 1


def test_a_session_that_cannot_be_had_changes_nothing() -> None:
    """
    A callable that raises is logged, and the framework's own messages are sent.
    """

    def failing(_runtime: Any) -> Session:
        raise LookupError("no such thread")

    with Server(Script(2)) as server:
        assert "heron-4711" in said(agent(server.url, failing).invoke(ask()))


def test_what_is_no_session_is_refused_at_once() -> None:
    """
    The mistake shows where it is made.
    """
    from memtrace.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="a Session, or a callable"):
        MemtraceMiddleware("support-42")  # type: ignore[arg-type]


def test_a_missing_framework_is_named() -> None:
    """
    Without LangChain the import says what to install.
    """
    code = (
        "import importlib.metadata as m\n"
        "def version(name): raise m.PackageNotFoundError(name)\n"
        "m.version = version\n"
        "import memtrace.adapters.langchain"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "langchain >= 1.4.7, < 2" in done.stderr
    assert "pip install 'memtrace-otel[langchain]'" in done.stderr
