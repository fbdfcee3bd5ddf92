"""The OpenAI Agents SDK's adapter: the contract, and what is the SDK's own."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from agents import (
    Agent,
    MaxTurnsExceeded,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    RunHooks,
    Runner,
    SessionSettings,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from agents.memory import Session as SessionProtocol
from agents.run import CallModelData, ModelInputData
from contract import Contract
from contract import read as read_part
from openai import AsyncOpenAI
from stub import Script, Server, task
from stub import part as part_text

from memtrace import ConfigurationError, Session, StaleSessionError
from memtrace.adapters.openai_agents import InputFilter, MemtraceSession, managed
from memtrace.testing import capture

set_tracing_disabled(True)  # its own tracing would go to the network


@function_tool
def read(part: int) -> str:
    """Read a part."""
    return read_part(part)


def client(url: str, retries: int = 0) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url + "/v1", api_key="none", max_retries=retries)


def agent(client: AsyncOpenAI, model: type = OpenAIResponsesModel, **more: Any) -> Agent:
    options: dict[str, Any] = {"name": "reader", "instructions": "Be brief.", "tools": [read]}
    return Agent(**{**options, "model": model("stub", client), **more})


class TestResponses(Contract):
    model: type = OpenAIResponsesModel

    def run(self, url: str, question: str, session: Session | None) -> str:
        async def whole() -> str:
            runner = Runner if session is None else managed(session)
            async with client(url) as made:
                result = await runner.run(agent(made, self.model), question, max_turns=1000)
            return str(result.final_output)

        return asyncio.run(whole())


class TestChatCompletions(TestResponses):
    further = True
    model = OpenAIChatCompletionsModel


def invocations(captured: Any) -> list[Any]:
    return [span for span in captured.spans if span.name.startswith("invoke_agent")]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Script(4)) as running:
        yield running


@pytest.mark.parametrize("model", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
async def test_a_streamed_run_is_one_span_that_ends_with_it(model: type) -> None:
    """
    A streamed run gives what a whole one gives, and its one span ends as its last event is read.
    """
    session = Session("streamed", token_budget=16_000)
    with capture() as captured, Server(Script(30)) as server:
        async with client(server.url) as made:
            result = managed(session).run_streamed(agent(made, model), task(), max_turns=99)
            events = [event async for event in result.stream_events()]
        assert [span.name for span in invocations(captured)] == ["invoke_agent reader"]

    assert events
    assert "heron-4711" in result.final_output
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    assert invocations(captured)[0].attributes["memtrace.profile.after.tokens"] > 0


def test_a_run_without_an_event_loop(server: Server) -> None:
    """
    run_sync runs as Runner.run_sync does, in one span.
    """
    session = Session("sync")
    loop = asyncio.new_event_loop()  # the SDK takes the thread's, and leaves it open
    asyncio.set_event_loop(loop)
    with capture() as captured:
        made = client(server.url)
        result = managed(session).run_sync(agent(made), task())
    loop.run_until_complete(made.close())
    asyncio.set_event_loop(None)
    loop.close()

    assert "heron-4711" in result.final_output
    assert len(invocations(captured)) == 1
    assert len(session.history) == 2 + 2 * 4


async def test_a_request_that_is_tried_again_is_counted_once(server: Server) -> None:
    """
    After a 500 the client sends the same once more; nothing is held twice.
    """
    server.fail = [500, 503]
    session = Session("retried")
    async with client(server.url, retries=3) as made:
        result = await managed(session).run(agent(made), task())

    assert "heron-4711" in result.final_output
    assert len(session.history) == 2 + 2 * 4
    assert session.recount().total_tokens == session.profile().total_tokens


async def test_a_cancelled_run_ends_its_span_and_leaves_the_session_usable(
    server: Server,
) -> None:
    """
    Cancelled in the middle of a tool: the span says so, and the next run goes on.
    """
    entered = asyncio.Event()

    @function_tool
    async def read(part: int) -> str:
        """Read a part."""
        entered.set()
        await asyncio.Event().wait()
        return ""

    session = Session("cancelled")
    runner = managed(session)
    with capture() as captured:
        async with client(server.url) as made:
            running = asyncio.create_task(runner.run(agent(made, tools=[read]), task()))
            await entered.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            result = await runner.run(agent(made), "Go on.")

    assert "heron-4711" in result.final_output
    assert server.rejected == []
    first, second = invocations(captured)
    assert first.attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert "error.type" not in second.attributes


async def test_a_cancelled_stream_ends_its_span(server: Server) -> None:
    """
    result.cancel() stops the run as it does without memtrace, and the span ends.
    """
    with capture() as captured:
        async with client(server.url) as made:
            result = managed(Session("stream")).run_streamed(agent(made), task())
            async for _event in result.stream_events():
                result.cancel()
        await asyncio.wait({result.run_loop_task})

    assert len(invocations(captured)) == 1
    assert result.is_complete


async def test_an_error_of_the_run_is_the_callers(server: Server) -> None:
    """
    What Runner.run raises comes back, streamed too, and each span says so.
    """
    with capture() as captured:
        async with client(server.url) as made:
            runner = managed(Session("failing"))
            with pytest.raises(MaxTurnsExceeded):
                await runner.run(agent(made), task(), max_turns=2)
            result = runner.run_streamed(agent(made), task(), max_turns=1)
            with pytest.raises(MaxTurnsExceeded):
                [event async for event in result.stream_events()]

    kinds = [span.attributes["error.type"] for span in invocations(captured)]
    assert kinds == ["agents.exceptions.MaxTurnsExceeded"] * 2


async def test_items_that_fit_are_the_same_objects() -> None:
    """
    What is not compressed is sent as the very dict that the SDK made.
    """
    items: list[Any] = [{"role": "user", "content": "hello"}]
    data = CallModelData(ModelInputData(items, "Be brief."), Agent(name="reader"), None)
    sent = await InputFilter(Session("same"))(data)

    assert sent.input[0] is items[0]
    assert sent.instructions == "Be brief."


async def test_the_conversation_goes_on_from_run_to_run(server: Server) -> None:
    """
    The next run is sent what the one before left, and each item is held once.
    """
    session = Session("goes on")
    runner = managed(session)
    async with client(server.url) as made:
        await runner.run(agent(made), task())
        first = await runner.stored.get_items()
        result = await runner.run(agent(made), "Once more?")

    assert "heron-4711" in result.final_output
    stored = await runner.stored.get_items()
    assert stored[: len(first)] == first
    assert len(stored) == len(first) + 2 == len(session.history)
    assert server.sent[-1] == stored[:-1]


@pytest.mark.parametrize("model", [OpenAIResponsesModel, OpenAIChatCompletionsModel])
async def test_memory_survives_the_process(model: type, tmp_path: Any) -> None:
    """
    With a durable session a new one goes on where the old one was, with every original; no
    close is needed for what the SDK was told is stored.
    """
    store = f"sqlite:///{tmp_path}/memory.db"
    with Server(Script(30)) as server:
        runner = managed(Session.open("kept", store=store, token_budget=16_000))
        async with client(server.url) as made:
            await runner.run(agent(made, model), task(), max_turns=99)
            stored = await runner.stored.get_items()
            again = managed(Session.open("kept", store=store))
            assert await again.stored.get_items() == stored
            result = await again.run(agent(made, model), "Which word?")

    assert "heron-4711" in result.final_output
    assert any(part_text(29) in str(item.get("output")) for item in stored)
    assert sum("output" in item for item in stored) == 30
    assert max(server.tokens) <= 16_000
    assert server.rejected == []


async def test_a_store_that_takes_nothing_stops_no_run(server: Server, tmp_path: Any) -> None:
    """
    A session that was written elsewhere meanwhile: the run goes on, and closing it says so.
    """
    store = f"sqlite:///{tmp_path}/memory.db"
    session = Session.open("stale", store=store)
    with Session.open("stale", store=store) as other:
        other.history.append({"role": "user", "content": "elsewhere"})
    async with client(server.url) as made:
        result = await managed(session).run(agent(made), task())

    assert "heron-4711" in result.final_output
    with pytest.raises(StaleSessionError):
        session.close()


async def test_the_sdk_is_given_back_what_it_stored() -> None:
    """
    The SDK's session protocol: items in order, the latest of them, taken out, forgotten.
    """
    session = MemtraceSession(Session("protocol"))
    items: list[Any] = [{"role": "user", "content": str(n)} for n in range(5)]
    await session.add_items(items[:2])
    await session.add_items(items[2:])

    assert isinstance(session, SessionProtocol)
    assert await session.get_items() == items
    assert await session.get_items(limit=2) == items[3:]
    assert await session.pop_item() == items[4]
    assert await session.get_items() == items[:4]
    await session.clear_session()
    assert await session.get_items() == []
    assert await session.pop_item() is None


async def test_a_session_that_gives_back_a_part_stays_whole() -> None:
    """
    Read with a limit, the model is sent the latest items, and none is lost from what is stored.
    """
    runner = managed(Session("limited"))
    runner.stored.session_settings = SessionSettings(limit=2)
    await runner.stored.add_items([{"role": "user", "content": f"heron-{n}"} for n in range(1, 6)])
    with Server(Script(0)) as server:
        async with client(server.url) as made:
            await runner.run(agent(made), "and now?")

    assert [item["content"] for item in server.sent[-1]] == ["heron-4", "heron-5", "and now?"]
    stored = await runner.stored.get_items(limit=100)
    assert [item["content"] for item in stored[:6]] == [
        *(f"heron-{n}" for n in range(1, 6)),
        "and now?",
    ]
    assert len(stored) == 7


@pytest.mark.parametrize("nested", [False, True])
async def test_a_hand_off_goes_on_in_the_same_memory(nested: bool) -> None:
    """
    The agent that takes over is sent what fits of the same conversation, rewritten or not, and
    all of it is stored.
    """
    session = Session("handed", token_budget=16_000)
    with Server(Handing(30)) as server, capture() as captured:
        async with client(server.url) as made:
            second = agent(made, name="second")
            first = agent(made, name="first", tools=[], handoffs=[second])
            runner = managed(session)
            result = await runner.run(
                first, task(), max_turns=99, run_config={"nest_handoff_history": nested}
            )

    assert "heron-4711" in result.final_output
    assert result.last_agent is second
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    assert len(await runner.stored.get_items()) == 1 + 2 + 60 + 1
    assert len(invocations(captured)) == 1


async def test_an_agent_used_as_a_tool_has_a_conversation_of_its_own() -> None:
    """
    A sub-agent's calls fit too, within what the session leaves free, and what is stored is the
    first agent's conversation alone.
    """
    session = Session("delegating", token_budget=24_000)
    with Server(Delegating(25)) as server:
        async with client(server.url) as made:
            helper = agent(made, name="helper")
            lead = agent(
                made, name="lead", tools=[helper.as_tool("ask", "Ask the helper", max_turns=99)]
            )
            runner = managed(session)
            result = await runner.run(lead, task())

    assert "heron-4711" in result.final_output
    assert max(server.tokens) <= 24_000
    assert server.rejected == []
    assert len(await runner.stored.get_items()) == 4 == len(session.history)
    assert session.agents["helper"].state is None


async def test_the_callers_own_parts_are_kept(server: Server, tmp_path: Any) -> None:
    """
    The SDK's own session, the caller's hooks, filter and settings are used as without memtrace.
    """
    seen: list[str] = []

    class Own(RunHooks):
        async def on_tool_start(self, *_about: Any) -> None:
            seen.append("tool")

        async def on_llm_end(self, *_about: Any) -> None:
            seen.append("llm")

    def first(data: CallModelData[Any]) -> ModelInputData:
        return ModelInputData(data.model_data.input, "Be very brief.")

    own = SQLiteSession("own", tmp_path / "own.db")
    settings = RunConfig(call_model_input_filter=first, tracing_disabled=True)
    async with client(server.url) as made:
        await managed(Session("own")).run(
            agent(made), task(), hooks=Own(), session=own, run_config=settings
        )

    assert seen == ["llm", "tool"] * 4 + ["llm"]
    assert len(await own.get_items()) == 2 + 2 * 4
    assert settings.call_model_input_filter is first
    own.close()


async def test_a_conversation_that_the_provider_holds_is_passed_through() -> None:
    """
    With previous_response_id the input is only what is new: it is sent as it is, and measured.
    """
    session = Session("held there")
    with Server(Script(0)) as server, capture() as captured:
        async with client(server.url) as made:
            runner = managed(session)
            await runner.run(agent(made), task(), previous_response_id="resp_1")

    assert server.sent == [[{"role": "user", "content": task()}]]
    assert await runner.stored.get_items() == []
    assert len(invocations(captured)) == 1


class Broken:
    name = "broken"
    exact = True

    def count_text(self, text: str) -> int:
        raise RuntimeError("no count")


async def test_a_failure_of_memtraces_own_changes_nothing(server: Server, caplog: Any) -> None:
    """
    A counter that raises: the model is sent what it would be sent without memtrace.
    """
    with Server(Script(4)) as bare:
        async with client(bare.url) as made:
            await Runner.run(agent(made), task())
    async with client(server.url) as made:
        session = Session("broken", counter=Broken())
        result = await managed(session).run(agent(made), task())

    assert "heron-4711" in result.final_output
    assert server.sent == bare.sent


async def test_what_is_sent_besides_is_counted_once(server: Server) -> None:
    """
    Instructions and tools are pinned contexts, and usage calibrates an estimate against all.
    """
    session = Session("besides")
    async with client(server.url) as made:
        await managed(session).run(agent(made), task())

    pinned = [(item.kind, item.key) for item in session.active_contexts.items]
    assert pinned == [("system", "openai-agents:system"), ("tools", "openai-agents:tools")]
    assert all(item.pinned for item in session.active_contexts.items)


def test_a_missing_framework_is_one_clear_error(monkeypatch: Any) -> None:
    """
    Without the SDK, or with an older one, importing the adapter says what to install.
    """
    name = "memtrace.adapters.openai_agents"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("memtrace.adapters._versions.version", lambda _package: "0.3.1")
    with pytest.raises(ConfigurationError, match=r"openai-agents >= 0.24.*0.3.1 is installed"):
        importlib.import_module(name)


class Handing(Script):
    """A script that first hands off to the second agent."""

    handed = False

    def turn(self, texts: list[str]) -> Any:
        if not self.handed:
            self.handed = True
            return [("hand", "transfer_to_second", {})]
        return super().turn(texts)


class Delegating(Script):
    """A script whose first agent asks the helper, and then answers."""

    step = 0

    def turn(self, texts: list[str]) -> Any:
        self.step += 1
        if self.step == 1:
            return [("asked", "ask", {"input": "What is in the parts?"})]
        if self.done < self.calls:
            return super().turn(texts)
        self.step += 1
        return "All was read." if self.step == self.calls + 3 else super().turn(texts)
