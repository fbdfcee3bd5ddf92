"""Strands' adapter: the contract, and what is the framework's own."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from contract import Contract
from contract import read as read_part
from pydantic import BaseModel
from strands import Agent, tool
from strands.agent.conversation_manager import (
    NullConversationManager,
    SlidingWindowConversationManager,
)
from strands.event_loop._retry import ModelRetryStrategy
from strands.hooks import BeforeInvocationEvent, BeforeToolCallEvent
from strands.middleware import InvokeModelStage
from strands.models.anthropic import AnthropicModel
from strands.models.openai import OpenAIModel
from strands.models.openai_responses import OpenAIResponsesModel
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import ContextWindowOverflowException
from stub import Script, Server, task
from stub import part as part_text

from memtrace import (
    ConfigurationError,
    Session,
    config,
    configure,
    current_session,
    measure_tokens,
)
from memtrace.adapters.strands import managed
from memtrace.messages import facts, is_message, rewrite, texts
from memtrace.testing import capture


@tool
def read(part: int) -> str:
    """Read a part."""
    return read_part(part)


def model(url: str, kind: Any = OpenAIModel) -> Any:
    arguments = {"api_key": "none", "base_url": url + "/v1", "max_retries": 0}
    if kind is AnthropicModel:
        arguments["base_url"] = url
        return AnthropicModel(client_args=arguments, model_id="stub", max_tokens=1000)
    return kind(client_args=arguments, model_id="stub")


def agent(url: str, session: Session | None = None, kind: Any = OpenAIModel, **more: Any) -> Any:
    manager = NullConversationManager() if session is None else managed(session)
    options: dict[str, Any] = {
        "name": "reader",
        "system_prompt": "Be brief.",
        "tools": [read],
        "callback_handler": None,
        "conversation_manager": manager,
        "retry_strategy": None,
    }
    return Agent(model(url, kind), **{**options, **more})


class TestChat(Contract):
    kind: Any = OpenAIModel

    def run(self, url: str, question: str, session: Session | None) -> str:
        return str(agent(url, session, self.kind)(question))


class TestResponses(TestChat):
    further = True
    kind = OpenAIResponsesModel


class TestAnthropic(TestChat):
    further = True
    kind = AnthropicModel

    def run(self, url: str, question: str, session: Session | None) -> str:
        async def whole() -> str:
            made = agent(url, session, self.kind)
            async with made.model.client:  # the framework leaves it open
                return str(await made.invoke_async(question))

        return asyncio.run(whole())


def invocations(captured: Any) -> list[Any]:
    return [span for span in captured.spans if span.name.startswith("invoke_agent")]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Script(4)) as running:
        yield running


def answers(messages: list[Any]) -> list[str]:
    """The texts of all tool results."""
    return [
        block["toolResult"]["content"][0]["text"]
        for message in messages
        for block in message["content"]
        if "toolResult" in block
    ]


# --- ways to run ----------------------------------------------------------------------------------


async def test_a_streamed_run_is_one_span_that_ends_with_it() -> None:
    """
    stream_async gives its events, fits too, and is one span.
    """
    session = Session("streamed", token_budget=16_000)
    with capture() as captured, Server(Script(30)) as server:
        events = [event async for event in agent(server.url, session).stream_async(task())]

    assert "heron-4711" in "".join(event.get("data", "") for event in events)
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    (span,) = invocations(captured)
    assert span.name == "invoke_agent reader"
    assert span.attributes["memtrace.profile.after.tokens"] > 0
    assert len(session.history) > 0


async def test_each_message_is_held_once(server: Server) -> None:
    """
    After a run the history has what the agent has, its last answer too; the next run goes on.
    """
    session = Session("once")
    reader = agent(server.url, session)
    await reader.invoke_async(task())
    before = session.history.items
    assert list(session.history) == reader.messages

    await reader.invoke_async("Once more?")
    assert list(session.history) == reader.messages
    assert session.history.items[: len(before)] == before


async def test_a_stream_that_its_reader_closes_is_no_error(server: Server) -> None:
    """
    Leaving the loop over a stream ends the run, and the session goes on.
    """
    session = Session("closed")
    with capture() as captured:
        reader = agent(server.url, session)
        events = reader.stream_async(task())
        async for event in events:
            if "data" in event or "message" in event:
                break
        await events.aclose()
        result = await agent(server.url, session).invoke_async(task())

    assert "heron-4711" in str(result)
    first, _ = invocations(captured)
    assert "error.type" not in first.attributes
    assert list(session.history)[-1] == result.message


@pytest.mark.parametrize("by_signal", [True, False])
async def test_a_cancelled_run_loses_nothing(server: Server, by_signal: bool) -> None:
    """
    Cancelled within a tool, by the framework's signal or as a task: the run ends, and the next
    one works in the same conversation.
    """
    entered = asyncio.Event()

    @tool
    async def read(part: int) -> str:
        """Read a part."""
        entered.set()
        while not waiting.cancel_signal.is_set():
            await asyncio.sleep(0)
        return read_part(part)

    session = Session("cancelled")
    with capture() as captured:
        waiting = agent(server.url, session, tools=[read])
        running = asyncio.create_task(waiting.invoke_async(task()))
        await entered.wait()
        if by_signal:
            waiting.cancel()
            assert (await running).stop_reason == "cancelled"
        else:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        held = list(waiting.messages)
        result = await agent(server.url, session, messages=held[:1]).invoke_async("Go on.")

    assert held[0]["content"] == [{"text": task()}]
    assert "heron-4711" in str(result)
    first, second = invocations(captured)
    assert ("error.type" in first.attributes) is not by_signal
    assert "error.type" not in second.attributes
    assert session.recount().total_tokens == session.profile().total_tokens


async def test_a_call_that_is_tried_again_is_counted_once(server: Server) -> None:
    """
    The framework's own retry after a throttled call sends the same again; nothing is held twice.
    """
    server.fail = [429, 429]
    session = Session("retried")
    retry = ModelRetryStrategy(max_attempts=5, initial_delay=0, max_delay=0)
    reader = agent(server.url, session, retry_strategy=retry)
    result = await reader.invoke_async(task())

    assert "heron-4711" in str(result)
    assert server.fail == []
    assert list(session.history) == reader.messages
    assert len(reader.messages) == 2 + 2 * 4


async def test_a_failed_call_ends_the_run_with_its_error(server: Server) -> None:
    """
    What the model call raised comes back, and memory is told of the run.
    """
    server.fail = [500]
    session = Session("failed")
    with capture() as captured:
        with pytest.raises(Exception, match="try again later") as raised:
            await agent(server.url, session).invoke_async(task())
        await agent(server.url, session).invoke_async(task())

    failed, well = invocations(captured)
    assert failed.attributes["error.type"].endswith(type(raised.value).__name__)
    assert "error.type" not in well.attributes


# --- spans ----------------------------------------------------------------------------------------


async def test_an_instrumented_agents_own_span_has_the_attributes(server: Server) -> None:
    """
    Where the framework records an invoke_agent span, memory is told on it, and there is no second.
    """
    with capture() as captured:
        reader = agent(server.url, Session("instrumented"))
        reader.tracer.tracer = config.current.tracer_provider.get_tracer("strands")
        try:
            await reader.invoke_async(task())
        finally:
            reader.tracer.tracer = reader.tracer.tracer_provider.get_tracer("strands")

    (span,) = invocations(captured)
    assert span.attributes["gen_ai.agent.tools"]
    assert span.attributes["memtrace.profile.after.tokens"] > 0
    assert span.attributes["gen_ai.conversation.id"] == "instrumented"


async def test_actions_are_children_of_the_runs_span() -> None:
    """
    What the loop does before a call stands below the run in the trace.
    """
    with capture() as captured, Server(Script(30)) as server:
        await agent(server.url, Session("tree", token_budget=16_000)).invoke_async(task())

    (run,) = invocations(captured)
    actions = [span for span in captured.spans if span.name == "memtrace.compress"]
    assert actions
    assert {span.parent for span in actions} == {run.name}


async def test_the_session_is_the_current_one_within_tools(server: Server) -> None:
    """
    A tool finds the session of its agent, and after the run there is none.
    """
    found = []

    @tool
    def read(part: int) -> str:
        """Read a part."""
        found.append(current_session())
        return read_part(part)

    session = Session("within")
    await agent(server.url, session, tools=[read]).invoke_async(task())

    assert found == [session] * 4
    assert current_session() is None


# --- what is sent ---------------------------------------------------------------------------------


async def test_messages_are_the_frameworks_own() -> None:
    """
    What is sent is the same objects where nothing was compressed, messages of the framework's
    form where something was, with the roles in turn; and the agent's own messages stay whole.
    """
    given: list[list[Any]] = []
    sent: list[list[Any]] = []

    def before(context: Any) -> Any:
        given.append(list(context.messages))
        return context

    async def after(context: Any, following: Any) -> Any:
        sent.append(list(context.messages))
        async for event in following(context):
            yield event

    session = Session("objects", token_budget=16_000)
    with Server(Script(40)) as server:
        reader = agent(server.url, session)
        reader.add_middleware(InvokeModelStage.Input, before)
        reader.add_middleware(InvokeModelStage, after)
        await reader.invoke_async(task())

    assert [id(message) for message in sent[3]] == [id(message) for message in given[3]]
    kept = {id(message) for message in given[-1]}
    assert 5 <= sum(id(message) in kept for message in sent[-1]) < len(given[-1])
    assert all(isinstance(message["content"], list) for message in sent[-1])
    roles = [message["role"] for message in sent[-1]]
    assert all(one != other for one, other in pairwise(roles))
    assert answers(reader.messages) == [part_text(number) for number in range(40)]


async def test_a_manager_removes_nothing() -> None:
    """
    The framework's default manager drops what is older than forty messages; with this one the
    agent has them all.
    """
    held = []
    for session in (None, Session("whole")):
        manager = managed(session) if session else SlidingWindowConversationManager()
        with Server(Script(30)) as server:
            reader = agent(server.url, session, conversation_manager=manager)
            await reader.invoke_async(task())
        held.append(len(reader.messages))

    assert held == [39, 2 + 2 * 30]  # the first of forty would be a result without its call


async def test_what_is_sent_besides_is_counted(server: Server) -> None:
    """
    System prompt and tools are pinned contexts.
    """
    session = Session("besides")
    await agent(server.url, session).invoke_async(task())

    pinned = [(item.kind, item.key, item.pinned) for item in session.active_contexts.items]
    assert pinned == [("system", "strands:system", True), ("tools", "strands:tools", True)]


async def test_usage_calibrates_an_estimate(server: Server) -> None:
    """
    What the provider billed is taken in against what was counted.
    """
    session = Session("estimate", counter=Halved())
    await agent(server.url, session).invoke_async(task())

    assert session._calibration.factor > 1.3


class Halved:
    name = "halved"
    exact = False

    def count_text(self, text: str) -> int:
        return measure_tokens(text) // 2


async def test_a_model_that_says_too_long_is_sent_less(server: Server) -> None:
    """
    A window smaller than the budget: the framework asks for less, gets it, and goes on.
    """
    sent: list[int] = []

    async def window(context: Any, following: Any) -> Any:
        sent.append(measure_tokens(context.messages))
        if sent[-1] > 9_000:
            raise ContextWindowOverflowException("too long")
        async for event in following(context):
            yield event

    session = Session("window")
    with Server(Script(30)) as server:
        reader = agent(server.url, session)
        reader.add_middleware(InvokeModelStage, window)
        result = await reader.invoke_async(task())

    assert "heron-4711" in str(result)
    assert sum(tokens > 9_000 for tokens in sent) == 1
    assert len(reader.messages) == 2 + 2 * 30


async def test_what_cannot_be_made_shorter_is_the_models_error(server: Server) -> None:
    """
    Where there is nothing to take, the framework's error comes back.
    """

    async def window(context: Any, following: Any) -> Any:
        raise ContextWindowOverflowException("too long")
        yield

    reader = agent(server.url, Session("nothing"))
    reader.add_middleware(InvokeModelStage, window)
    with pytest.raises(ContextWindowOverflowException, match="too long"):
        await reader.invoke_async(task())


# --- persistence, interrupts, structured output ---------------------------------------------------


async def test_the_frameworks_store_has_every_message(tmp_path: Any) -> None:
    """
    A session manager stores the messages as they were, and an agent restored from it goes on
    under the budget: with a session that is new as with one that is durable.
    """
    store = f"sqlite:///{tmp_path}/memory.db"

    def restored(url: str, session: Session) -> Any:
        kept = FileSessionManager(session_id="kept", storage_dir=str(tmp_path))
        return agent(url, session, session_manager=kept)

    with Server(Script(40)) as server:
        with Session.open("durable", store=store, token_budget=16_000) as session:
            await restored(server.url, session).invoke_async(task())
        with Session.open("durable", store=store) as session:
            before, original = session.history.tokens, len(session.history)
            reader = restored(server.url, session)
            assert answers(reader.messages) == [part_text(number) for number in range(40)]
            await reader.invoke_async("Which word?")
            assert session.history.tokens < before + 200
            assert len(session.history) == original + 2
        fresh = restored(server.url, Session("fresh", token_budget=16_000))
        answer = await fresh.invoke_async("Which word?")

    assert "heron-4711" in str(answer)
    assert len(fresh.messages) == 2 + 2 * 40 + 4
    assert max(server.tokens) <= 16_000
    assert server.rejected == []


async def test_what_another_manager_removed_comes_back(tmp_path: Any) -> None:
    """
    A stored session whose messages a sliding window had dropped is restored whole.
    """
    with Server(Script(30)) as server:
        for session, manager in (
            (None, SlidingWindowConversationManager()),
            (Session("adopted"), managed(Session("adopted"))),
        ):
            kept = FileSessionManager(session_id="kept", storage_dir=str(tmp_path))
            reader = agent(server.url, session, session_manager=kept, conversation_manager=manager)
            answer = await reader.invoke_async(task() if session is None else "Which word?")

    assert "heron-4711" in str(answer)
    assert len(reader.messages) == 2 + 2 * 30 + 2


async def test_an_interrupted_run_is_resumed(server: Server) -> None:
    """
    A tool that waits for a person's answer: two runs, one conversation, pairs valid.
    """

    def ask(event: BeforeToolCallEvent) -> None:
        if event.tool_use["input"]["part"] == 1 and event.interrupt("sure") != "yes":
            event.cancel_tool = "not allowed"

    session = Session("interrupted")
    with capture() as captured:
        reader = agent(server.url, session, hooks=[ask])
        asked = await reader.invoke_async(task())
        assert asked.stop_reason == "interrupt"
        reply = {"interruptId": asked.interrupts[0].id, "response": "yes"}
        result = await reader.invoke_async([{"interruptResponse": reply}])

    assert "heron-4711" in str(result)
    assert server.rejected == []
    assert list(session.history) == reader.messages
    assert len(invocations(captured)) == 2


class Answer(BaseModel):
    word: str


class Structured(Script):
    """A script that ends with a structured answer."""

    def turn(self, texts: list[str]) -> Any:
        answer = super().turn(texts)
        return answer if isinstance(answer, list) else [("said", "Answer", {"word": answer})]


async def test_structured_output_is_fitted_too() -> None:
    """
    An answer in the form of a model of the caller's, at the end of a long run.
    """
    with Server(Structured(30)) as server:
        reader = agent(server.url, Session("structured", token_budget=16_000))
        result = await reader.invoke_async(task(), structured_output_model=Answer)

    assert "heron-4711" in result.structured_output.word
    assert max(server.tokens) <= 16_000
    assert server.rejected == []


# --- several agents -------------------------------------------------------------------------------


class Delegating(Script):
    """A script whose first agent asks the helper, and then answers."""

    step = 0

    def turn(self, texts: list[str]) -> Any:
        self.step += 1
        if self.step == 1:
            return [("asked", "helper", {"input": task()})]
        if self.done < self.calls:
            return super().turn(texts)
        self.step += 1
        return "All was read." if self.step == self.calls + 3 else super().turn(texts)


async def test_an_agent_used_as_a_tool_has_its_own_conversation() -> None:
    """
    With the same session a sub-agent's calls fit within what the session leaves free, and the
    history stays the first agent's.
    """
    session = Session("delegating", token_budget=24_000)
    with Server(Delegating(25)) as server, capture() as captured:
        helper = agent(server.url, session, name="helper")
        lead = agent(server.url, session, name="lead", tools=[helper])
        result = await lead.invoke_async(task())

    assert "heron-4711" in str(result)
    assert max(server.tokens) <= 24_000
    assert server.rejected == []
    assert list(session.history) == lead.messages
    assert session.agents["helper"].state is None
    assert sorted(span.name for span in invocations(captured)) == [
        "invoke_agent helper",
        "invoke_agent lead",
    ]


async def test_agents_side_by_side_share_a_budget() -> None:
    """
    Two agents that run at once with one session: each has its own conversation, neither is sent
    more than the budget.
    """
    session = Session("beside", token_budget=24_000)
    with Server(Script(20)) as one, Server(Script(20)) as other:
        both = [agent(at.url, session, name=at.url) for at in (one, other)]
        results = await asyncio.gather(*(each.invoke_async(task()) for each in both))

    assert all("heron-4711" in str(result) for result in results)
    assert max(one.tokens + other.tokens) <= 24_000
    assert one.rejected == other.rejected == []
    assert [state.state for state in session.agents] == [None]


# --- failures -------------------------------------------------------------------------------------


class Broken:
    """A counter that cannot count."""

    name = "broken"
    exact = True

    def count_text(self, text: str) -> int:
        raise RuntimeError("no counting today")


class Failing(Session):
    """A session that cannot make room."""

    async def amessages(self) -> list[Any]:
        raise RuntimeError("out of order")


@pytest.mark.parametrize("session", [Session("b", counter=Broken()), Failing("f")])
async def test_a_failure_of_memtraces_own_changes_nothing(server: Server, session: Any) -> None:
    """
    Memory fails: the model is sent what it would be sent without memtrace.
    """
    with Server(Script(4)) as bare:
        await agent(bare.url).invoke_async(task())
    result = await agent(server.url, session).invoke_async(task())

    assert "heron-4711" in str(result)
    assert server.sent == bare.sent


async def test_switched_off_it_is_not_there(server: Server) -> None:
    """
    With memtrace disabled nothing is measured and nothing is changed.
    """
    session = Session("off")
    configure(enabled=False)
    try:
        await agent(server.url, session).invoke_async(task())
    finally:
        configure(enabled=True)

    assert len(session.history) == 0


async def test_another_hooks_error_leaves_the_session_usable(server: Server) -> None:
    """
    A hook that raises as an invocation begins: no run is left open.
    """

    def refuse(event: BeforeInvocationEvent) -> None:
        raise RuntimeError("refused")

    session = Session("refused")
    with capture() as captured:
        with pytest.raises(RuntimeError, match="refused"):
            await agent(server.url, session, hooks=[refuse]).invoke_async(task())
        reader = agent(server.url, session)
        await reader.invoke_async(task())

    assert len(invocations(captured)) == 1
    assert list(session.history) == reader.messages


def test_the_frameworks_messages_are_understood() -> None:
    """
    Converse messages: calls and results are paired, thinking is signed, results are rewritten.
    """
    asked = {"toolUseId": "c1", "name": "read", "input": {"part": 1}}
    thought = {"reasoningContent": {"reasoningText": {"text": "so", "signature": "s"}}}
    call = {"role": "assistant", "content": [thought, {"toolUse": asked}]}
    found = {"toolUseId": "c1", "status": "success", "content": [{"text": "a" * 99}]}
    answer = {"role": "user", "content": [{"toolResult": found}]}

    assert is_message(call)
    assert [(c.id, c.name) for c in facts(call).calls] == [("c1", "read")]
    assert facts(call).signed
    assert facts(answer).kind == "tool"
    assert facts(answer).results == ("c1",)
    shorter = rewrite(answer, lambda text: text[:3], results_only=True)
    assert answers([shorter]) == ["aaa"]
    assert list(texts(shorter)) == ["aaa"]


def test_a_missing_framework_is_one_clear_error(monkeypatch: Any) -> None:
    """
    With an older framework, importing the adapter says what to install.
    """
    name = "memtrace.adapters.strands"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("memtrace.adapters._versions.version", lambda _package: "1.9.0")
    with pytest.raises(ConfigurationError, match=r"strands-agents >= .*1.9.0 is installed"):
        importlib.import_module(name)
