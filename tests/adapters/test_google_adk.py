"""Google ADK's adapter: the contract, and what is the framework's own."""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
from contract import Contract
from contract import read as read_part
from google.adk.agents import Agent, SequentialAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.apps import App
from google.adk.models import Gemini, LlmRequest, LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.runners import Runner
from google.adk.sessions import DatabaseSessionService, InMemorySessionService
from google.adk.tools import AgentTool
from google.adk.workflow import JoinNode, Workflow
from google.genai import types
from google.genai.errors import ServerError
from stub import Script, Server, task
from stub import part as part_text

from memtrace import ConfigurationError, Session, config, current_session, measure_tokens
from memtrace.adapters.google_adk import managed
from memtrace.messages import facts, texts
from memtrace.testing import assert_no_failures, capture

OLDER = pytest.mark.filterwarnings("ignore:SequentialAgent is deprecated")
"""An agent of agents, which the framework gives up for its workflows, and still has."""

OWN = pytest.mark.filterwarnings("ignore:The `plugins` argument is deprecated")
"""The framework's own runner of an agent that is called as a tool."""

PLAIN = RunConfig(max_llm_calls=1000)
STREAMED = RunConfig(max_llm_calls=1000, streaming_mode=StreamingMode.SSE)


def read(part: int) -> str:
    """Read a part."""
    return read_part(part)


def model(url: str, retries: int = 1) -> Gemini:
    again = types.HttpRetryOptions(attempts=retries, initial_delay=0.001, jitter=0.001)
    # The framework leaves its clients open: nothing of them is left where each request closes.
    http = types.HttpOptions(headers={"Connection": "close"}, retry_options=again)
    told = {"api_key": "none", "http_options": http}
    return Gemini(model="stub", base_url=url, client_kwargs=told)


def agent(url: str, retries: int = 1, **more: Any) -> Agent:
    options: dict[str, Any] = {"name": "reader", "instruction": "Be brief.", "tools": [read]}
    return Agent(**{**options, "model": model(url, retries), **more})


def runner(root: Any, session: Any, service: Any = None, *others: BasePlugin) -> Runner:
    plugins = [managed(session)] if session is not None else []
    app = App(name="app", root_agent=root, plugins=[*plugins, *others])
    service = service or InMemorySessionService()
    return Runner(app=app, session_service=service, auto_create_session=True)


def asked(text: str, where: str = "one") -> dict[str, Any]:
    said = types.Content(role="user", parts=[types.Part(text=text)])
    return {"user_id": "ann", "session_id": where, "new_message": said}


async def ask(made: Runner, text: str, run_config: RunConfig = PLAIN, where: str = "one") -> str:
    answer = ""
    async for event in made.run_async(**asked(text, where), run_config=run_config):
        if event.is_final_response() and event.content:
            answer = event.content.parts[0].text
    return answer


class TestGemini(Contract):
    def run(self, url: str, question: str, session: Session | None) -> str:
        return asyncio.run(ask(runner(agent(url), session), question))


def invocations(captured: Any) -> list[Any]:
    return [span for span in captured.spans if span.name.startswith("invoke_agent")]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Script(4)) as running:
        yield running


@pytest.fixture
def captured() -> Iterator[Any]:
    with capture() as captured:
        yield captured
    assert_no_failures(captured)


@pytest.fixture
def traced(captured: Any, monkeypatch: Any) -> Any:
    """What the framework records of itself is captured too."""
    tracer = captured.tracer_provider.get_tracer("google-adk")
    for module in ("tracing", "node_tracing"):
        monkeypatch.setattr(f"google.adk.telemetry.{module}.tracer", tracer)
    return captured


# --- runs -----------------------------------------------------------------------------------------


def test_a_run_without_an_event_loop(server: Server, captured: Any) -> None:
    """
    Runner.run runs as without memtrace, in one span, and each message is held once.
    """
    session = Session("sync")
    made = runner(agent(server.url), session)
    events = list(made.run(**asked(task())))

    assert "heron-4711" in events[-1].content.parts[0].text
    assert [span.name for span in invocations(captured)] == ["invoke_agent reader"]
    assert len(session.history) == 1 + 2 * 4


async def test_a_streamed_run_is_fitted_and_one_span(captured: Any) -> None:
    """
    Streamed, an agent is sent what fits too, and its answer comes piece by piece.
    """
    with Server(Script(40, parallel=2)) as server:
        made = runner(agent(server.url), Session("streamed", token_budget=16_000))
        events = [e async for e in made.run_async(**asked(task()), run_config=STREAMED)]

    assert "heron-4711" in events[-1].content.parts[0].text
    assert any(event.partial for event in events)
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    (span,) = invocations(captured)
    assert span.attributes["memtrace.profile.after.tokens"] > 0


@pytest.mark.parametrize("run_config", [PLAIN, STREAMED])
async def test_what_was_billed_is_recorded_once_a_call(
    run_config: RunConfig, server: Server, monkeypatch: Any
) -> None:
    """
    Whole or streamed, each model call's prompt tokens are told with what was counted for it.
    """
    told: list[tuple[int, int]] = []

    class Told(Session):
        def record_usage(self, input_tokens: int, **about: Any) -> None:
            told.append((input_tokens, about["counted_tokens"] or 0))

    await ask(runner(agent(server.url), Told("billed")), task(), run_config)

    assert [billed for billed, _ in told] == server.tokens
    besides = {counted - billed for billed, counted in told}
    assert len(besides) == 1  # the tools, which the stub does not count
    assert besides.pop() > 0


async def test_actions_are_children_of_the_agents_span(traced: Any) -> None:
    """
    What the loop does before a model call stands below the agent's run in the trace.
    """
    with Server(Script(30)) as server:
        await ask(runner(agent(server.url), Session("tree", token_budget=16_000)), task())

    actions = [span for span in traced.spans if span.name == "memtrace.compress"]
    assert actions
    assert {span.parent for span in actions} == {"invoke_agent reader"}


async def test_a_frameworks_own_span_is_the_only_one(server: Server, traced: Any) -> None:
    """
    Where the framework records an invoke_agent span, memory is told on it.
    """
    await ask(runner(agent(server.url), Session("one span")), task())

    (span,) = invocations(traced)
    assert span.attributes["gen_ai.agent.description"] == ""  # the framework's
    assert span.attributes["memtrace.profile.after.tokens"] > 0


async def test_a_tools_session_is_the_current_one(server: Server) -> None:
    """
    current_session() is the session within a tool, and nothing after the run.
    """
    session, found = Session("current"), []

    def read(part: int) -> str:
        found.append(current_session())
        return read_part(part)

    await ask(runner(agent(server.url, tools=[read]), session), task())

    assert found == [session] * 4
    assert current_session() is None


# --- what goes wrong ------------------------------------------------------------------------------


async def test_a_request_that_is_tried_again_is_counted_once(server: Server) -> None:
    """
    After a 500 the client sends the same once more; nothing is held twice.
    """
    server.fail = [500, 503]
    session = Session("retried")
    answer = await ask(runner(agent(server.url, retries=3), session), task())

    assert "heron-4711" in answer
    assert len(session.history) == 1 + 2 * 4
    assert session.recount().total_tokens == session.profile().total_tokens


async def test_an_error_of_the_model_is_the_callers(server: Server, captured: Any) -> None:
    """
    What the model call raised comes back, the span says so, and the next run goes on.
    """
    server.fail = [500]
    made = runner(agent(server.url), Session("failing"))
    with pytest.raises(ServerError):
        await ask(made, task())
    answer = await ask(made, "Go on.")

    assert "heron-4711" in answer
    first, second = invocations(captured)
    assert first.attributes["error.type"] == "google.genai.errors.ServerError"
    assert "error.type" not in second.attributes


async def test_an_error_that_another_plugin_answers_is_none(server: Server, captured: Any) -> None:
    """
    on_model_error_callback of the caller's works as before.
    """

    class Answering(BasePlugin):
        async def on_model_error_callback(self, **_told: Any) -> LlmResponse:
            return LlmResponse(content=types.Content(role="model", parts=[types.Part(text="Mm.")]))

    server.fail = [500]
    made = runner(agent(server.url), Session("answered"), None, Answering("answering"))

    assert await ask(made, task()) == "Mm."
    (span,) = invocations(captured)
    assert "error.type" not in span.attributes


async def test_a_cancelled_run_ends_its_span_and_leaves_the_session_usable(
    server: Server, captured: Any
) -> None:
    """
    Cancelled in the middle of a tool: the span says so, and the next run goes on.
    """
    entered = asyncio.Event()

    async def read(part: int) -> str:
        entered.set()
        await asyncio.Event().wait()
        return ""

    session, service = Session("cancelled"), InMemorySessionService()
    waiting = runner(agent(server.url, tools=[read]), session, service)
    running = asyncio.create_task(ask(waiting, task()))
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    answer = await ask(runner(agent(server.url), session, service), "Go on.")

    assert "heron-4711" in answer
    assert server.rejected == []
    first, second = invocations(captured)
    assert first.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert "error.type" not in second.attributes


@OLDER
@pytest.mark.parametrize("composite", [False, True])
async def test_a_reader_that_stops_early_is_no_error(
    composite: bool, server: Server, captured: Any
) -> None:
    """
    A run that is closed after its first event ends its spans, without an error.
    """
    root = agent(server.url)
    if composite:
        root = SequentialAgent(name="steps", sub_agents=[root])
    session = Session("early")
    stream = runner(root, session).run_async(**asked(task()))
    await anext(stream)
    await stream.aclose()

    assert captured.open_spans == []
    assert len(invocations(captured)) == 1 + composite
    assert not any("error.type" in span.attributes for span in invocations(captured))
    assert "heron-4711" in await ask(runner(agent(server.url), session), task())


async def test_a_reader_that_is_cancelled_between_events_leaves_nothing_open(
    server: Server, captured: Any
) -> None:
    """
    The framework tells nobody of such an end: the span ends with the reader's task.
    """
    made, waits = runner(agent(server.url), Session("reader")), asyncio.Event()

    async def reading() -> None:
        async with aclosing(made.run_async(**asked(task()))) as stream:
            async for _event in stream:
                waits.set()
                await asyncio.Event().wait()

    running = asyncio.create_task(reading())
    await waits.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert captured.open_spans == []
    assert [span.name for span in invocations(captured)] == ["invoke_agent reader"]
    assert made.app.plugins[0]._turns == {}


async def test_a_reader_that_stops_at_the_answer_sees_memory_on_the_span(
    server: Server, traced: Any
) -> None:
    """
    The framework's span of an agent tells of memory though its last event is the last one read.
    """
    stream = runner(agent(server.url), Session("answer")).run_async(**asked(task()))
    async for event in stream:
        if event.is_final_response():
            break
    await stream.aclose()

    (span,) = invocations(traced)
    assert span.attributes["memtrace.profile.after.tokens"] > 0


class Broken:
    name = "broken"
    exact = True

    def count_text(self, text: str) -> int:
        raise RuntimeError("no count")


async def test_a_failure_of_memtraces_own_changes_nothing(server: Server) -> None:
    """
    A counter that raises: the model is sent what it would be sent without memtrace.
    """
    with Server(Script(4)) as bare:
        await ask(runner(agent(bare.url), None), task())
    answer = await ask(runner(agent(server.url), Session("broken", counter=Broken())), task())

    assert "heron-4711" in answer
    assert server.sent == bare.sent


async def test_a_session_that_is_not_found_changes_nothing(server: Server) -> None:
    """
    A function that raises where it should find a session: the run goes on without memory.
    """

    def find(_identity: str) -> Session:
        raise LookupError("no such session")

    assert "heron-4711" in await ask(runner(agent(server.url), find), task())


async def test_switched_off_it_does_nothing(
    server: Server, captured: Any, monkeypatch: Any
) -> None:
    """
    With memtrace disabled nothing is measured.
    """
    session = Session("off")
    monkeypatch.setattr(config, "current", replace(config.current, enabled=False))
    await ask(runner(agent(server.url), session), task())

    assert invocations(captured) == []
    assert len(session.history) == 0


# --- messages -------------------------------------------------------------------------------------


class Watching(BasePlugin):
    """Notes what each model call carries."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.sent: list[list[Any]] = []

    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        self.sent.append(list(llm_request.contents))


async def test_messages_are_the_frameworks_own() -> None:
    """
    What is sent is the same objects where nothing was compressed, contents of the framework's
    class where something was, and the events in its session stay whole.
    """
    before, after = Watching("before"), Watching("after")
    service = InMemorySessionService()
    with Server(Script(40)) as server:
        plugins = [before, managed(Session("objects", token_budget=16_000)), after]
        app = App(name="app", root_agent=agent(server.url), plugins=plugins)
        await ask(Runner(app=app, session_service=service, auto_create_session=True), task())

    given, sent = before.sent[-1], after.sent[-1]
    kept = {id(content) for content in given}
    assert [id(content) for content in after.sent[0]] == [id(content) for content in before.sent[0]]
    assert sum(id(content) in kept for content in sent) >= 10
    assert any(id(content) not in kept for content in sent)
    assert {type(content) for content in sent} == {types.Content}
    stored = await service.get_session(app_name="app", user_id="ann", session_id="one")
    outputs = [part.response for event in stored.events for part in event.get_function_responses()]
    assert outputs == [{"result": part_text(number)} for number in range(40)]


async def test_what_is_sent_besides_is_counted(server: Server) -> None:
    """
    The instruction and the tools are pinned contexts.
    """
    session = Session("besides")
    await ask(runner(agent(server.url), session), task())

    pinned = [(item.kind, item.key, item.pinned) for item in session.active_contexts.items]
    assert pinned == [
        ("system", "google-adk:system", True),
        ("tools", "google-adk:tools", True),
    ]


async def test_a_conversation_that_the_provider_holds_is_passed_through() -> None:
    """
    With previous_interaction_id the contents are only what is new: they stay as they are.
    """
    session = Session("held there")
    contents = [types.Content(role="user", parts=[types.Part(text="next")])]
    request = LlmRequest(contents=contents, previous_interaction_id="i1")
    await managed(session).before_model_callback(callback_context=None, llm_request=request)

    assert request.contents[0] is contents[0]
    assert len(session.history) == 0


CALL = types.Part(function_call=types.FunctionCall(name="read", args={"part": 1}))
ANSWER = types.Part(function_response=types.FunctionResponse(name="read", response={"result": "a"}))


def test_calls_without_ids_are_paired_by_name() -> None:
    """
    A call is known by its name where it has no id, and a turn of responses is a tool's.
    """
    asking = facts(types.Content(role="model", parts=[CALL, CALL]))
    answering = facts(types.Content(role="user", parts=[ANSWER, ANSWER]))

    assert [call.id for call in asking.calls] == list(answering.results) == ["read", "read"]
    assert (asking.kind, answering.kind) == ("assistant", "tool")


def test_fields_left_at_none_are_not_counted() -> None:
    """
    A part of a kind of its own counts what it says; one that is only a signature, nothing.
    """
    code = types.Part(executable_code=types.ExecutableCode(code="1 + 1", language="PYTHON"))
    alone = types.Part(thought_signature=b"signed")

    (said,) = texts(types.Content(role="model", parts=[code]))
    assert said.startswith('{"executable_code":{"code":"1 + 1"')
    assert list(texts(types.Content(role="model", parts=[alone]))) == []
    assert facts(types.Content(role="model", parts=[alone])).signed


def test_media_in_a_response_count_as_media() -> None:
    """
    What a tool gives back besides its data counts as the image that it is.
    """
    blob = types.FunctionResponseBlob(data=b"\x00" * 3000, mime_type="image/png")
    image = types.FunctionResponsePart(inline_data=blob)
    response = types.FunctionResponse(name="draw", response={"ok": True}, parts=[image])
    content = types.Content(role="user", parts=[types.Part(function_response=response)])

    assert [said.kind for said in texts(content) if not isinstance(said, str)] == ["image"]


def test_plain_data_counts_as_the_content_it_was() -> None:
    """
    What a store gives back counts what the objects count.
    """
    contents = [
        types.Content(role=role, parts=[part]) for role, part in (("model", CALL), ("user", ANSWER))
    ]
    plain = [content.model_dump(mode="json") for content in contents]

    assert measure_tokens(plain) == measure_tokens(contents)
    assert [facts(content) for content in plain] == [facts(content) for content in contents]


# --- conversations --------------------------------------------------------------------------------


async def test_the_conversation_goes_on_from_run_to_run(server: Server) -> None:
    """
    In the next run only what is new is counted.
    """
    session = Session("goes on")
    made = runner(agent(server.url), session)
    await ask(made, task())
    before = session.history.items
    await ask(made, "Once more?")

    assert session.history.items[: len(before)] == before
    assert len(session.history) == len(before) + 2


async def test_memory_survives_the_process(tmp_path: Any) -> None:
    """
    The framework's own database gives the events back, whole; with a durable session what was
    compressed stays so.
    """
    store, events = f"sqlite:///{tmp_path}/memory.db", f"sqlite+aiosqlite:///{tmp_path}/events.db"
    seen = Watching("seen")
    with Server(Script(40)) as server:
        async with DatabaseSessionService(events) as service:
            with Session.open("kept", store=store, token_budget=16_000) as session:
                await ask(runner(agent(server.url), session, service), task())
        async with DatabaseSessionService(events) as service:
            with Session.open("kept", store=store) as session:
                before, counted = session.history.tokens, len(session.history.received)
                made = runner(agent(server.url), session, service, seen)
                answer = await ask(made, "Which word?")

                assert len(session.history.received) == counted + 2
                assert session.history.tokens < before + 200
    assert "heron-4711" in answer
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    assert {type(content) for content in seen.sent[0]} == {types.Content}


async def test_media_survive_the_store(server: Server, tmp_path: Any) -> None:
    """
    What stands for a content with an image, given back by a store, has the image's bytes.
    """
    from memtrace.adapters.google_adk import _framework

    image = types.Part(inline_data=types.Blob(data=bytes(range(256)), mime_type="image/png"))
    content = types.Content(role="user", parts=[types.Part(text="Look:"), image])
    store = f"sqlite:///{tmp_path}/memory.db"
    with Session.open("media", store=store) as session:
        session.history.append(content)
    with Session.open("media", store=store) as session:
        assert _framework(session.history.items[0]) == content


async def test_each_conversation_has_its_own_session(server: Server) -> None:
    """
    A function finds the session of each of the framework's sessions; several run at once.
    """
    made_for: list[str] = []

    @functools.cache
    def find(identity: str) -> Session:
        made_for.append(identity)
        return Session(identity)

    async def found(identity: str) -> Session:
        return find(identity)

    made = runner(agent(server.url), found)
    await asyncio.gather(*(ask(made, task(), where=where) for where in ("one", "two")))
    await ask(made, "Again?", where="one")

    assert sorted(made_for) == ["one", "two"]
    assert all(len(find(where).history) >= 3 for where in made_for)


class Steered(Script):
    """A script that first asks for one call of another tool."""

    first: Any = None

    def turn(self, texts: list[str]) -> Any:
        if self.first:
            turn, self.first = [("first", *self.first)], None
            return turn
        return super().turn(texts)


async def test_a_transfer_goes_on_in_the_same_memory(traced: Any) -> None:
    """
    The agent that takes over is sent what fits of the same conversation; each agent's span tells
    of memory.
    """
    session, script = Session("handed", token_budget=16_000), Steered(30)
    script.first = ("transfer_to_agent", {"agent_name": "second"})
    with Server(script) as server:
        second = agent(server.url, name="second", description="It reads.")
        made = runner(agent(server.url, name="lead", tools=[], sub_agents=[second]), session)
        answer = await ask(made, task())
        again = await ask(made, "Which word?")

    assert "heron-4711" in answer
    assert "heron-4711" in again
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    assert [span.name for span in invocations(traced)] == [
        "invoke_agent lead",
        "invoke_agent second",
        "invoke_agent second",
    ]
    assert all("memtrace.profile.after.tokens" in span.attributes for span in invocations(traced))


@OWN
@pytest.mark.parametrize("inline", [False, True])
async def test_an_agent_called_as_a_tool_has_its_own_conversation(
    inline: bool, captured: Any
) -> None:
    """
    Its calls fit within what the session leaves free, and the history stays the first agent's.
    """
    session, script = Session("delegating", token_budget=24_000), Steered(25)
    script.first = ("helper", {"request": task()})
    with Server(script) as server:
        mode = {"mode": "single_turn"} if inline else {}
        helper = agent(server.url, name="helper", description="It reads.", **mode)
        tools = {"sub_agents": [helper]} if inline else {"tools": [AgentTool(helper)]}
        lead = agent(server.url, name="lead", **{"tools": [], **tools})
        answer = await ask(runner(lead, session), task())

    assert "heron-4711" in answer
    assert max(server.tokens) <= 24_000
    assert server.rejected == []
    assert len(session.history) == 3
    assert session.agents["helper"].state is None
    assert sorted(span.name for span in invocations(captured)) == [
        "invoke_agent helper",
        "invoke_agent lead",
    ]


async def test_agents_beside_one_another_have_their_own_conversations(
    captured: Any, caplog: Any
) -> None:
    """
    Branches that run at once are each fitted, and none goes out as it is.
    """
    session = Session("beside", token_budget=24_000)
    with Server(Script(60)) as server:
        both = tuple(agent(server.url, name=name) for name in ("left", "right"))
        flow = Workflow(name="flow", edges=[("START", both, JoinNode(name="join"))])
        await ask(runner(flow, session), task())

    assert max(server.tokens) <= 24_000
    assert server.rejected == []
    assert "several conversations" not in caplog.text
    assert sorted(span.name for span in invocations(captured)) == [
        "invoke_agent left",
        "invoke_agent right",
    ]


def test_a_missing_framework_is_one_clear_error(monkeypatch: Any) -> None:
    """
    With an older framework, importing the adapter says what to install.
    """
    name = "memtrace.adapters.google_adk"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("memtrace.adapters._versions.version", lambda _package: "1.9.0")
    with pytest.raises(ConfigurationError, match=r"google-adk >= 2.13.*1.9.0 is installed"):
        importlib.import_module(name)
