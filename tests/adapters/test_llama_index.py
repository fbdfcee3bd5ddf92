"""LlamaIndex's adapter: the contract, and what is the framework's own."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from contract import Contract
from contract import read as read_part
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock, ToolCallBlock
from llama_index.core.chat_engine import CondenseQuestionChatEngine, SimpleChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.workflow import Context
from llama_index.llms.openai import OpenAI, OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from stub import Script, Server, task
from stub import part as part_text
from workflows.errors import WorkflowCancelledByUser

from memtrace import (
    ConfigurationError,
    Session,
    configure,
    current_session,
    managed_agent,
    measure_tokens,
)
from memtrace.adapters.llama_index import MemtraceMemory, managed
from memtrace.messages import facts, rewrite, texts
from memtrace.testing import capture

# The framework looks through all attributes of an agent, pydantic's deprecated ones among them.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince211"),
    # Its ReAct agent asks within a step what its own workflows call deprecated there.
    pytest.mark.filterwarnings("ignore:is_running called from within a step"),
]


def read(part: int) -> str:
    """Read a part."""
    return read_part(part)


def model(url: str, kind: Any = OpenAILike, retries: int = 0) -> Any:
    options: dict[str, Any] = {"api_base": url + "/v1", "api_key": "none", "max_retries": retries}
    if issubclass(kind, OpenAILike):
        options = {**options, "is_chat_model": True, "is_function_calling_model": True}
        options["additional_kwargs"] = {"stream_options": {"include_usage": True}}
        return kind(model="stub", context_window=1_000_000, **options)
    return kind(model="gpt-4o", **options)


def agent(llm: Any, memory: Any = None, kind: Any = FunctionAgent, **more: Any) -> Any:
    options: dict[str, Any] = {
        "name": "reader",
        "description": "Reads.",
        "system_prompt": "Be brief.",
        "tools": [read],
        "streaming": False,
    }
    return kind(llm=llm if memory is None else memory.llm(llm), **{**options, **more})


async def closed(llm: Any) -> None:
    """The framework leaves its clients open."""
    for client in (llm._client, llm._aclient):
        if client is not None:
            closing = client.close()
            await closing if closing is not None else None


async def run(
    url: str,
    memory: Any,
    question: str | None = None,
    kind: Any = OpenAILike,
    how: Any = FunctionAgent,
    **more: Any,
) -> Any:
    ours = memory if isinstance(memory, MemtraceMemory) else None
    made = agent(model(url, kind), ours, how, **more)
    try:
        return await made.run(question or task(), memory=memory, max_iterations=500)
    finally:
        await closed(made.llm)


def plain() -> Any:
    return ChatMemoryBuffer.from_defaults(token_limit=10_000_000)


class TestChat(Contract):
    kind: Any = OpenAILike
    streaming = False

    def run(self, url: str, question: str, session: Session | None) -> str:
        memory = plain() if session is None else managed(session)
        return str(asyncio.run(run(url, memory, question, self.kind, streaming=self.streaming)))


class TestStreamed(TestChat):
    further = True
    streaming = True


class TestResponses(TestChat):
    further = True
    kind = OpenAIResponses


def invocations(captured: Any) -> list[Any]:
    return [span for span in captured.spans if span.name.startswith("invoke_agent")]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(Script(4)) as running:
        yield running


def answers(messages: list[Any]) -> list[str]:
    """The texts of all tool results."""
    return [message.content for message in messages if message.role == "tool"]


def stored(messages: Any) -> list[Any]:
    """Messages as the framework stores them: providers' own objects in them are data then."""
    return [message.model_dump() for message in messages]


# --- ways to run ----------------------------------------------------------------------------------


async def test_a_streamed_run_is_one_span() -> None:
    """
    A handler's events come as without memtrace, what is sent fits, and the run is one span.
    """
    memory = managed(Session("streamed", token_budget=16_000))
    with capture() as captured, Server(Script(30)) as server:
        made = agent(model(server.url), memory, streaming=True)
        handler = made.run(task(), memory=memory, max_iterations=100)
        events = [type(event).__name__ async for event in handler.stream_events()]
        result = await handler
        await closed(made.llm)

    assert "heron-4711" in str(result)
    assert {"AgentStream", "ToolCallResult"} <= set(events)
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    (span,) = invocations(captured)
    assert span.name == "invoke_agent reader"
    assert span.attributes["memtrace.profile.after.tokens"] > 0


async def test_each_message_is_held_once(server: Server) -> None:
    """
    After a run the session has what the memory has, and the next run goes on from it.
    """
    memory = managed(Session("once"))
    await run(server.url, memory)
    before = memory.session.history.items
    assert stored(memory.session.history) == stored(memory.get_all())
    assert len(before) == 2 + 2 * 4

    await run(server.url, memory, "Once more?")
    assert stored(memory.session.history) == stored(memory.get_all())
    assert memory.session.history.items[: len(before)] == before


async def test_a_run_goes_on_in_its_context(server: Server) -> None:
    """
    A second run in the first one's context, without the memory named again, is told of too.
    """
    memory = managed(Session("context"))
    with capture() as captured:
        made = agent(model(server.url), memory)
        context = Context(made)
        await made.run(task(), ctx=context, memory=memory)
        before = memory.session.history.items
        result = await made.run("Once more?", ctx=context)
        held = (await context.store.get("memory")).get_all()
        await closed(made.llm)

    assert "heron-4711" in str(result)
    assert len(invocations(captured)) == 2
    assert memory.session.history.items[: len(before)] == before
    assert len(memory.session.history) == len(held) == len(before) + 2


async def test_a_call_that_is_tried_again_is_counted_once(server: Server) -> None:
    """
    After a 500 the client sends the same once more; nothing is held twice.
    """
    server.fail = [500, 503]
    memory = managed(Session("retried"))
    made = agent(model(server.url, retries=3), memory)
    result = await made.run(task(), memory=memory)
    await closed(made.llm)

    assert "heron-4711" in str(result)
    assert stored(memory.session.history) == stored(memory.get_all())


async def test_a_cancelled_run_leaves_the_session_usable(server: Server) -> None:
    """
    Cancelled within a tool: the run's span ends, and the next run works.
    """
    entered = asyncio.Event()

    async def read(part: int) -> str:
        """Read a part."""
        entered.set()
        await asyncio.Event().wait()
        return ""

    memory = managed(Session("cancelled"))
    with capture() as captured:
        waiting = agent(model(server.url), memory, tools=[read])
        handler = waiting.run(task(), memory=memory)
        await entered.wait()
        await handler.cancel_run()
        with pytest.raises(WorkflowCancelledByUser):
            await handler
        await closed(waiting.llm)
        result = await run(server.url, memory, "Go on.")

    assert "heron-4711" in str(result)
    assert len(invocations(captured)) == 2
    assert memory.get_all()[0].content == task()
    session = memory.session
    assert session.recount().total_tokens == session.profile().total_tokens


async def test_a_failed_run_says_so(server: Server) -> None:
    """
    What the model call raised comes back, and the span has it.
    """
    server.fail = [500]
    with capture() as captured, pytest.raises(Exception, match="try again later"):
        await run(server.url, managed(Session("failed")))

    (failed,) = invocations(captured)
    assert failed.attributes["error.type"].endswith("InternalServerError")


@pytest.mark.parametrize("how", ["chat", "stream_chat", "achat", "astream_chat"])
async def test_a_chat_engine_stays_under_the_budget(how: str) -> None:
    """
    Each way to ask a chat engine fits, is one span, and remembers what it must.
    """
    memory = managed(Session("engine", token_budget=8_000))
    with capture() as captured, Server(Script(0)) as server:
        llm = memory.llm(model(server.url))
        engine = SimpleChatEngine.from_defaults(llm=llm, memory=memory, system_prompt="Be brief.")
        for number in range(20):
            question = f"{task()}\n{part_text(number)}" if number == 0 else part_text(number)
            response = getattr(engine, how)(question)
            response = await response if how.startswith("a") else response
            if how == "stream_chat":
                response = "".join(response.response_gen)
            elif how == "astream_chat":
                response = "".join([piece async for piece in response.async_response_gen()])
        await closed(llm)

    assert "heron-4711" in str(response)
    assert len(server.tokens) == 20
    assert max(server.tokens) <= 8_000
    assert server.rejected == []
    assert [span.name for span in invocations(captured)] == ["invoke_agent SimpleChatEngine"] * 20
    assert len(memory.get_all()) == 40


async def test_a_condensed_question_does_not_displace_the_conversation() -> None:
    """
    What an engine asks its model beside the conversation is fitted aside.
    """
    memory = managed(Session("condensed", token_budget=16_000))
    with Server(Script(0)) as server:
        llm = memory.llm(model(server.url))
        for number in range(3):
            memory.put(ChatMessage(role="user", content=f"{task()} {part_text(number)}"))
            memory.put(ChatMessage(role="assistant", content="Read."))
        before = memory.session.history.items
        engine = CondenseQuestionChatEngine.from_defaults(
            query_engine=SimpleQuery(model=llm), llm=llm, memory=memory
        )
        response = await engine.achat("Which word?")
        await closed(llm)

    assert "heron-4711" in str(response)
    assert memory.session.history.items[: len(before)] == before
    assert memory.session.history.tokens > 3000


class Prose(Script):
    """The same script for a model without tool calls, which says in prose what it calls."""

    def turn(self, texts: list[str]) -> Any:
        turn = super().turn(texts)
        if isinstance(turn, str):
            return f"Thought: I can answer without using any more tools.\nAnswer: {turn}"
        ((_, name, arguments),) = turn
        return f"Thought: more.\nAction: {name}\nAction Input: {json.dumps(arguments)}"


async def test_an_agent_that_reasons_in_prose_stays_under_the_budget() -> None:
    """
    The ReAct agent's steps are plain messages: they fit too, within a run and from run to run.
    """
    memory = managed(Session("react", token_budget=32_000))
    with Server(Prose(60)) as server:
        for question in (task(), "Which word?"):
            result = await run(server.url, memory, question, how=ReActAgent)

    assert "heron-4711" in str(result)
    assert max(server.tokens) <= 32_000
    assert len(server.tokens) == 62


# --- spans ----------------------------------------------------------------------------------------


async def test_actions_are_children_of_the_runs_span() -> None:
    """
    What the loop does before a call stands below the run in the trace.
    """
    with capture() as captured, Server(Script(30)) as server:
        await run(server.url, managed(Session("tree", token_budget=16_000)))

    (one,) = invocations(captured)
    actions = [span for span in captured.spans if span.name == "memtrace.compress"]
    assert actions
    assert {span.parent for span in actions} == {one.name}


async def test_a_run_that_is_managed_by_hand_has_no_second_span(server: Server) -> None:
    """
    Within memtrace's own decorator the run is that one's.
    """
    memory = managed(Session("by hand"))

    @managed_agent(session=memory.session, name="mine")
    async def ask() -> str:
        return str(await run(server.url, memory))

    with capture() as captured:
        assert "heron-4711" in await ask()

    assert [span.name for span in invocations(captured)] == ["invoke_agent mine"]


async def test_the_session_is_the_current_one_within_tools(server: Server) -> None:
    """
    A tool finds the session of its agent, and after the run there is none.
    """
    found = []

    def read(part: int) -> str:
        """Read a part."""
        found.append(current_session())
        return read_part(part)

    memory = managed(Session("within"))
    await run(server.url, memory, tools=[read])

    assert found == [memory.session] * 4
    assert current_session() is None


# --- what is sent ---------------------------------------------------------------------------------


async def test_messages_are_the_frameworks_own() -> None:
    """
    What is sent is the same objects where nothing was compressed, messages of the framework's
    class where something was; and the memory keeps all of them whole.
    """
    sent: list[list[Any]] = []

    class Watching(OpenAILike):
        async def achat(self, messages: Any, **options: Any) -> Any:
            sent.append(list(messages))
            return await super().achat(messages, **options)

    memory = managed(Session("objects", token_budget=16_000))
    with Server(Script(40)) as server:
        await run(server.url, memory, kind=Watching)

    kept = {id(message) for message in memory.get_all()}
    assert all(id(message) in kept for message in sent[3][1:])
    assert 5 <= sum(id(message) in kept for message in sent[-1]) < len(kept)
    assert {type(message) for message in sent[-1]} == {ChatMessage}
    assert answers(memory.get_all()) == [part_text(number) for number in range(40)]


def test_a_managed_model_is_a_copy_of_its_class() -> None:
    """
    The model given stays as it is, and one that is managed already is managed once.
    """
    memory, other = managed(Session("one")), managed(Session("other"))
    llm = OpenAI(model="gpt-4o", api_key="none")
    made = memory.llm(llm)

    assert type(llm) is OpenAI
    assert isinstance(made, OpenAI)
    assert made.to_dict() == llm.to_dict()
    assert type(other.llm(made)).__bases__ == (OpenAI,)


def test_a_memory_alone_gives_what_fits() -> None:
    """
    Without a managed model the memory itself gives a view, of whole call and result pairs.
    """
    memory = managed(Session("alone", token_budget=8_000))
    memory.put(ChatMessage(role="user", content=task()))
    for number in range(20):
        call = ToolCallBlock(tool_call_id=f"c{number}", tool_name="read", tool_kwargs={"part": 1})
        memory.put(ChatMessage(role="assistant", blocks=[call]))
        told = {"tool_call_id": f"c{number}"}
        result = ChatMessage(role="tool", content=part_text(number), additional_kwargs=told)
        memory.put(result)
    view = memory.get()

    assert measure_tokens(view) <= 8_000
    assert view[0] is memory.get_all()[0]
    assert len(memory.get_all()) == 41
    asked = [call.id for message in view for call in facts(message).calls]
    assert asked == [identity for message in view for identity in facts(message).results]


async def test_a_memory_is_set_and_reset() -> None:
    """
    The framework's other ways to write: all at once, and none.
    """
    memory = MemtraceMemory.from_defaults(session=Session("set"), chat_history=[])
    messages = [ChatMessage(role="user", content=word) for word in ("one", "two")]
    await memory.aset(messages)
    assert await memory.aget() == memory.get_all() == messages

    await memory.areset()
    assert await memory.aget_all() == []
    assert memory.session.history.tokens == 0


async def test_what_is_sent_besides_is_counted(server: Server) -> None:
    """
    System prompt and tools are pinned contexts.
    """
    memory = managed(Session("besides"))
    await run(server.url, memory)

    pinned = [(item.kind, item.key) for item in memory.session.active_contexts.items]
    assert pinned == [("system", "llama-index:system"), ("tools", "llama-index:tools")]


@pytest.mark.parametrize("kind", [OpenAILike, OpenAIResponses])
async def test_usage_calibrates_an_estimate(server: Server, kind: Any) -> None:
    """
    What the provider billed is taken in against what was counted.
    """
    memory = managed(Session("estimate", counter=Halved()))
    await run(server.url, memory, kind=kind)

    assert memory.session._calibration.factor > 1.3


class Halved:
    name = "halved"
    exact = False

    def count_text(self, text: str) -> int:
        return measure_tokens(text) // 2


class SimpleQuery(CustomQueryEngine):
    """Asks the model what it is asked."""

    model: Any

    def custom_query(self, query_str: str) -> str:
        return str(self.model.complete(query_str))

    async def acustom_query(self, query_str: str) -> str:
        return str(await self.model.acomplete(query_str))


# --- persistence ----------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [True, False])
async def test_a_stored_context_goes_on(there: bool) -> None:
    """
    A context that was stored as JSON has every message, and goes on under the budget: in the
    session of its id, or in a new one.
    """
    memory = managed(Session(f"stored {there}", token_budget=16_000))
    with Server(Script(40)) as server:
        made = agent(model(server.url), memory)
        context = Context(made)
        await made.run(task(), ctx=context, memory=memory, max_iterations=100)
        kept = context.to_dict()
        await closed(made.llm)

        messages, session = memory.get_all(), memory.session
        if not there:
            session.close()
            kept = {**kept, "state": _renamed(kept["state"])}
        made = agent(model(server.url), memory if there else None)
        restored = Context.from_dict(made, kept)
        again = await restored.store.get("memory")
        assert stored(again.get_all()) == stored(messages)
        assert (again.session is session) is there
        made.llm = again.llm(made.llm)
        result = await made.run("Which word?", ctx=restored)
        await closed(made.llm)

    assert "heron-4711" in str(result)
    assert max(server.tokens) <= again.session.token_budget == 16_000
    assert server.rejected == []


async def test_memory_survives_the_process(tmp_path: Any) -> None:
    """
    A durable session that is opened again gives a memory its messages, and what was compressed
    stays so.
    """
    store = f"sqlite:///{tmp_path}/memory.db"
    with Server(Script(40)) as server:
        with Session.open("kept", store=store, token_budget=16_000) as session:
            memory = managed(session)
            await run(server.url, memory)
        with Session.open("kept", store=store) as session:
            before, again = session.history.tokens, managed(session)
            assert stored(again.get_all()) == stored(memory.get_all())
            result = await run(server.url, again, "Which word?")
            assert session.history.tokens < before + 200

    assert "heron-4711" in str(result)
    assert max(server.tokens) <= 16_000
    assert server.rejected == []


def _renamed(state: Any) -> Any:
    """A stored state whose session is of another id."""
    if isinstance(state, dict):
        return {key: _renamed(held) for key, held in state.items()}
    return state.replace('"stored False"', '"elsewhere"') if isinstance(state, str) else state


# --- several agents -------------------------------------------------------------------------------


class Handing(Script):
    """A script that hands off before its first call."""

    handed = False

    def turn(self, texts: list[str]) -> Any:
        if not self.handed:
            self.handed = True
            return [("h", "handoff", {"to_agent": "second", "reason": "It reads."})]
        return super().turn(texts)


async def test_a_hand_off_goes_on_in_the_same_memory() -> None:
    """
    Agents of one workflow share the conversation and its budget, in one run.
    """
    memory = managed(Session("handed", token_budget=16_000))
    with capture() as captured, Server(Handing(30)) as server:
        llm = memory.llm(model(server.url))
        first = agent(llm, name="first", tools=[], can_handoff_to=["second"])
        workflow = AgentWorkflow([first, agent(llm, name="second")], root_agent="first")
        result = await workflow.run(task(), memory=memory, max_iterations=100)
        await closed(llm)

    assert "heron-4711" in str(result)
    assert max(server.tokens) <= 16_000
    assert server.rejected == []
    assert [span.name for span in invocations(captured)] == ["invoke_agent first"]


class Delegating(Script):
    """A script whose first agent asks the helper, and then answers."""

    step = 0

    def turn(self, texts: list[str]) -> Any:
        self.step += 1
        if self.step == 1:
            return [("asked", "ask", {"question": task()})]
        if self.done < self.calls:
            return super().turn(texts)
        self.step += 1
        return "All was read." if self.step == self.calls + 3 else super().turn(texts)


async def test_an_agent_called_by_anothers_tool_has_its_own_conversation() -> None:
    """
    With the same session a sub-agent's calls fit within what the session leaves free, and the
    history stays the first agent's.
    """
    session = Session("delegating", token_budget=24_000)
    memory = managed(session)

    async def ask(question: str) -> str:
        """Ask the helper."""
        return str(await run(server.url, managed(session), question, name="helper"))

    with Server(Delegating(25)) as server, capture() as captured:
        result = await run(server.url, memory, name="lead", tools=[ask])

    assert "heron-4711" in str(result)
    assert max(server.tokens) <= 24_000
    assert server.rejected == []
    assert stored(session.history) == stored(memory.get_all())
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
        runs = [
            run(one.url, managed(session), name="one"),
            run(other.url, managed(session), name="other"),
        ]
        results = await asyncio.gather(*runs)

    assert all("heron-4711" in str(result) for result in results)
    assert max(one.tokens + other.tokens) <= 24_000
    assert one.rejected == other.rejected == []
    assert [agent.state for agent in session.agents] == [None]


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
        await run(bare.url, plain())
    result = await run(server.url, managed(session))

    assert "heron-4711" in str(result)
    assert server.sent == bare.sent


async def test_switched_off_it_is_the_frameworks_memory_alone(server: Server) -> None:
    """
    With memtrace disabled nothing is measured, and the memory still remembers.
    """
    memory = managed(Session("off"))
    configure(enabled=False)
    try:
        await run(server.url, memory)
    finally:
        configure(enabled=True)

    assert len(memory.session.history) == 0
    assert len(memory.get_all()) == 2 + 2 * 4


def test_the_frameworks_messages_are_understood() -> None:
    """
    Blocks and older keyword arguments: a call told twice counts once, an image as an image.
    """
    told = {"id": "c1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    block = ToolCallBlock(tool_call_id="c1", tool_name="read", tool_kwargs={})
    call = ChatMessage(role="assistant", blocks=[block], additional_kwargs={"tool_calls": [told]})
    result = ChatMessage(role="tool", content="a" * 99, additional_kwargs={"tool_call_id": "c1"})
    look = ChatMessage(
        role="user", blocks=[TextBlock(text="Look:"), ImageBlock(url="https://example.com/a")]
    )

    assert [(c.id, c.name) for c in facts(call).calls] == [("c1", "read")]
    assert facts(result).results == ("c1",)
    shorter = rewrite(result, lambda text: text[:3], results_only=True)
    assert (type(shorter), shorter.content) == (ChatMessage, "aaa")
    assert [t if isinstance(t, str) else t.kind for t in texts(look)] == ["Look:", "image"]


def test_a_missing_framework_is_one_clear_error(monkeypatch: Any) -> None:
    """
    With an older framework, importing the adapter says what to install.
    """
    name = "memtrace.adapters.llama_index"
    monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("memtrace.adapters._versions.version", lambda _package: "0.12.5")
    with pytest.raises(ConfigurationError, match=r"llama-index-core >= .*0.12.5 is installed"):
        importlib.import_module(name)
