"""Pydantic AI's adapter: the contract, and what is the framework's own."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from anthropic import AsyncAnthropic
from contract import Contract
from contract import read as read_part
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability, Instrumentation
from pydantic_ai.exceptions import PydanticAIDeprecationWarning
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.instrumented import InstrumentationSettings
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits
from stub import Script, Server, task
from stub import part as part_text

from memtrace import ConfigurationError, Session, config, measure_tokens
from memtrace.adapters.pydantic_ai import managed
from memtrace.messages import facts, texts
from memtrace.testing import capture

MANY = UsageLimits(request_limit=None)


def read(part: int) -> str:
    """Read a part."""
    return read_part(part)


def openai_client(url: str, retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=retries)


def agent(client: Any, model: Any = OpenAIChatModel, session: Any = None, **more: Any) -> Any:
    provider = AnthropicProvider if model is AnthropicModel else OpenAIProvider
    name = {"openai_client": client} if provider is OpenAIProvider else {"anthropic_client": client}
    options: dict[str, Any] = {"name": "reader", "instructions": "Be brief.", "tools": [read]}
    if session is not None:
        options["capabilities"] = [managed(session)]
    return Agent(model("stub", provider=provider(**name)), **{**options, **more})


class TestChat(Contract):
    model: Any = OpenAIChatModel

    def client(self, url: str) -> Any:
        return openai_client(url)

    def run(self, url: str, question: str, session: Session | None) -> str:
        async def whole() -> str:
            async with self.client(url) as made:
                made_agent = agent(made, self.model, session)
                result = await made_agent.run(question, usage_limits=MANY)
            return str(result.output)

        return asyncio.run(whole())


class TestResponses(TestChat):
    further = True
    model = OpenAIResponsesModel


class TestAnthropic(TestChat):
    further = True
    model = AnthropicModel

    def client(self, url: str) -> Any:
        return AsyncAnthropic(base_url=url, api_key="none", max_retries=0)


def invocations(captured: Any) -> list[Any]:
    return [span for span in captured.spans if span.name.startswith("invoke_agent")]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Script(4)) as running:
        yield running


@pytest.mark.parametrize("model", [OpenAIChatModel, OpenAIResponsesModel, AnthropicModel])
async def test_a_streamed_run_is_one_span_that_ends_with_it(model: Any) -> None:
    """
    A streamed run gives what a whole one gives, fits too, and is one span.
    """
    session = Session("streamed", token_budget=16_000)
    made = AsyncAnthropic if model is AnthropicModel else AsyncOpenAI
    with capture() as captured, Server(Script(30)) as server:
        path = "" if model is AnthropicModel else "/v1"
        async with made(base_url=server.url + path, api_key="none") as connected:
            streaming = agent(connected, model, session).run_stream(task(), usage_limits=MANY)
            async with streaming as result:
                text = "".join([piece async for piece in result.stream_text(delta=True)])

    assert "heron-4711" in text
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    (span,) = invocations(captured)
    assert span.name == "invoke_agent reader"
    assert span.attributes["memtrace.profile.after.tokens"] > 0


def test_a_run_without_an_event_loop(server: Server) -> None:
    """
    run_sync runs as without memtrace, in one span, and each message is held once.
    """
    session = Session("sync")
    loop = asyncio.new_event_loop()  # the framework takes the thread's, and leaves it open
    asyncio.set_event_loop(loop)
    with capture() as captured:
        made = openai_client(server.url)
        result = agent(made, session=session).run_sync(task())
    loop.run_until_complete(made.close())
    asyncio.set_event_loop(None)
    loop.close()

    assert "heron-4711" in result.output
    assert len(invocations(captured)) == 1
    assert len(session.history) == len(result.all_messages()) - 1


async def test_a_run_by_its_steps_is_fitted_and_one_span(server: Server) -> None:
    """
    agent.iter gives its nodes, and memory is acted on before each request.
    """
    with capture() as captured:
        async with openai_client(server.url) as made:
            session = Session("steps")
            async with agent(made, session=session).iter(task()) as run:
                nodes = [node async for node in run]

    assert nodes
    assert "heron-4711" in run.result.output
    assert len(invocations(captured)) == 1
    assert session.history.tokens > 0


async def test_actions_are_children_of_the_runs_span() -> None:
    """
    What the loop does before a request stands below the run in the trace.
    """
    with capture() as captured, Server(Script(30)) as server:
        async with openai_client(server.url) as made:
            session = Session("tree", token_budget=16_000)
            await agent(made, session=session).run(task())

    (run,) = invocations(captured)
    actions = [span for span in captured.spans if span.name == "memtrace.compress"]
    assert actions
    assert {span.parent for span in actions} == {run.name}


async def test_an_instrumented_agent_has_one_span_and_its_attributes(server: Server) -> None:
    """
    Where the framework makes an invoke_agent span, memory is told on it.
    """
    with capture() as captured:
        async with openai_client(server.url) as made:
            own = managed(Session("instrumented"))
            settings = InstrumentationSettings(tracer_provider=config.current.tracer_provider)
            await agent(made, capabilities=[own, Instrumentation(settings)]).run(task())

    (span,) = invocations(captured)
    assert span.attributes["gen_ai.agent.call.id"]
    assert span.attributes["memtrace.profile.after.tokens"] > 0


async def test_a_request_that_is_tried_again_is_counted_once(server: Server) -> None:
    """
    After a 500 the client sends the same once more; nothing is held twice.
    """
    server.fail = [500, 503]
    session = Session("retried")
    async with openai_client(server.url, retries=3) as made:
        result = await agent(made, session=session).run(task())

    assert "heron-4711" in result.output
    assert len(session.history) == 1 + 2 * 4
    assert session.recount().total_tokens == session.profile().total_tokens


async def test_a_cancelled_run_ends_its_span_and_leaves_the_session_usable(
    server: Server,
) -> None:
    """
    Cancelled in the middle of a tool: the span says so, and the next run works.
    """
    entered = asyncio.Event()

    async def read(part: int) -> str:
        entered.set()
        await asyncio.Event().wait()
        return ""

    session = Session("cancelled")
    with capture() as captured:
        async with openai_client(server.url) as made:
            waiting = agent(made, session=session, tools=[read])
            running = asyncio.create_task(waiting.run(task()))
            await entered.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            result = await agent(made, session=session).run(task())

    assert "heron-4711" in result.output
    first, second = invocations(captured)
    assert first.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert "error.type" not in second.attributes


async def test_messages_are_the_frameworks_own() -> None:
    """
    What is sent is the same objects where nothing was compressed, messages of the framework's
    classes where something was, and the run's own history stays whole.
    """
    sent: list[list[Any]] = []

    @dataclass
    class Watching(AbstractCapability[Any]):
        async def after_model_request(
            self, ctx: Any, *, request_context: Any, response: Any
        ) -> Any:
            sent.append(list(request_context.messages))
            return response

    session = Session("objects", token_budget=16_000)
    with Server(Script(40)) as server:
        async with openai_client(server.url) as made:
            watched = agent(made, capabilities=[managed(session), Watching()])
            result = await watched.run(task())

    whole = result.all_messages()
    kept = {id(message) for message in whole}
    assert all(id(message) in kept for message in sent[0])
    assert sum(id(message) in kept for message in sent[-1]) >= 5
    assert {type(message) for message in sent[-1]} == {ModelRequest, ModelResponse}
    assert any(id(message) not in kept for message in sent[-1])
    assert len(whole) == 2 + 2 * 40
    assert all(
        part.content == part_text(number)
        for number, message in enumerate(whole[2::2])
        for part in message.parts
    )


async def test_the_conversation_goes_on_from_run_to_run(server: Server) -> None:
    """
    Given the history of the run before, only what is new is counted.
    """
    session = Session("goes on")
    async with openai_client(server.url) as made:
        reader = agent(made, session=session)
        first = await reader.run(task())
        before = session.history.items
        await reader.run("Once more?", message_history=first.all_messages())

    assert session.history.items[: len(before)] == before
    assert len(session.history) == len(before) + 2


@pytest.mark.parametrize("model", [OpenAIChatModel, OpenAIResponsesModel])
async def test_memory_survives_the_process(model: Any, tmp_path: Any) -> None:
    """
    A durable session that is opened again gives the messages of a run that goes on from it, and
    what was compressed stays so.
    """
    store = f"sqlite:///{tmp_path}/memory.db"
    with Server(Script(40)) as server:
        async with openai_client(server.url) as made:
            with Session.open("kept", store=store, token_budget=16_000) as session:
                result = await agent(made, model, session).run(task())
            with Session.open("kept", store=store) as session:
                memory = managed(session)
                history = memory.message_history()
                before = session.history.tokens
                again = agent(made, model, capabilities=[memory])
                answer = await again.run("Which word?", message_history=history)

                assert session.history.tokens < before + 200
    assert history == result.all_messages()[:-1]
    assert "heron-4711" in answer.output
    assert max(server.tokens) <= 16_000
    assert server.rejected == []


async def test_an_agent_called_by_anothers_tool_has_its_own_conversation() -> None:
    """
    With the same session a sub-agent's requests fit within what the session leaves free, and
    the history stays the first agent's.
    """
    session = Session("delegating", token_budget=24_000)
    with Server(Delegating(25)) as server, capture() as captured:
        async with openai_client(server.url) as made:
            helper = agent(made, session=session, name="helper")

            async def ask(question: str) -> str:
                """Ask the helper."""
                return str((await helper.run(question, usage_limits=MANY)).output)

            lead = agent(made, session=session, name="lead", tools=[ask])
            result = await lead.run(task())

    assert "heron-4711" in result.output
    assert max(server.tokens) <= 24_000
    assert server.rejected == []
    assert len(session.history) == 3
    assert session.agents["helper"].state is None
    assert sorted(span.name for span in invocations(captured)) == [
        "invoke_agent helper",
        "invoke_agent lead",
    ]


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
        async with openai_client(bare.url) as made:
            await agent(made).run(task())
    async with openai_client(server.url) as made:
        result = await agent(made, session=Session("broken", counter=Broken())).run(task())

    assert "heron-4711" in result.output
    assert server.sent == bare.sent


async def test_what_is_sent_besides_is_counted(server: Server) -> None:
    """
    Instructions and tools are pinned contexts.
    """
    session = Session("besides")
    async with openai_client(server.url) as made:
        await agent(made, session=session).run(task())

    pinned = [(item.kind, item.key, item.pinned) for item in session.active_contexts.items]
    assert pinned == [
        ("system", "pydantic-ai:system", True),
        ("tools", "pydantic-ai:tools", True),
    ]


def test_media_parts_count_as_media() -> None:
    """
    An image counts as an image, not as the JSON of its fields.
    """
    image = ImageUrl("https://example.com/" + "long/" * 500)
    held = BinaryContent(b"\\x00" * 5000, media_type="image/png")
    message = ModelRequest(parts=[UserPromptPart(["Look:", image, held])])

    assert [text for text in texts(message) if isinstance(text, str)] == ["Look:"]
    assert [binary.kind for binary in texts(message) if not isinstance(binary, str)] == [
        "image",
        "image",
    ]


def test_a_retry_answers_its_call() -> None:
    """
    Older histories answer a call with a retry prompt: it is kept or put away with the call.
    """
    with pytest.warns(PydanticAIDeprecationWarning):
        part = RetryPromptPart("no such page", tool_name="read", tool_call_id="c1")

    told = facts(ModelRequest(parts=[part]))
    assert told.results == ("c1",)
    assert told.kind == "tool"


def test_plain_data_counts_as_the_message_it_was() -> None:
    """
    What a store or the framework's own JSON gives back counts what the objects count.
    """
    messages = [
        ModelRequest(parts=[UserPromptPart("Read page one.")]),
        ModelResponse(parts=[ToolCallPart("read", {"page": 1}, "c1")]),
        ModelRequest(parts=[ToolReturnPart("read", "a page", "c1")]),
    ]
    plain = ModelMessagesTypeAdapter.dump_python(messages, mode="json")

    assert measure_tokens(plain) == measure_tokens(messages)
    assert [facts(message) for message in plain] == [facts(message) for message in messages]


def test_a_missing_framework_is_one_clear_error(monkeypatch: Any) -> None:
    """
    With an older framework, importing the adapter says what to install.
    """
    name = "memtrace.adapters.pydantic_ai"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("memtrace.adapters._versions.version", lambda _package: "1.9.0")
    with pytest.raises(ConfigurationError, match=r"pydantic-ai-slim >= .*1.9.0 is installed"):
        importlib.import_module(name)


class Delegating(Script):
    """A script whose first agent asks the helper, and then answers."""

    step = 0

    def turn(self, texts: list[str]) -> Any:
        self.step += 1
        if self.step == 1:
            return [("asked", "ask", {"question": "What is in the parts?"})]
        if self.done < self.calls:
            return super().turn(texts)
        self.step += 1
        return "All was read." if self.step == self.calls + 3 else super().turn(texts)
