"""The `anthropic` client, managed: loops that people write by hand, over the stub server."""

from __future__ import annotations

import asyncio
import gc
import inspect
from typing import Any

import pytest
from anthropic import Anthropic, AsyncAnthropic, AsyncStream, InternalServerError, Stream
from anthropic.lib.streaming import MessageStream
from contract import Contract, read
from stub import Script, Server, task

from memtrace import ConfigurationError, Session, managed_agent, measure_tokens
from memtrace.adapters.anthropic import managed
from memtrace.testing import assert_no_failures, capture

SYSTEM = "You read parts. Say the code word in the end."
TOOL = {
    "name": "read",
    "description": "What stands in a part.",
    "input_schema": {"type": "object", "properties": {"part": {"type": "integer"}}},
}
ASKED: dict[str, Any] = {"model": "stub", "max_tokens": 100, "tools": [TOOL], "system": SYSTEM}


def client_for(server: Server | str, kind: type = Anthropic, **options: Any) -> Any:
    url = server if isinstance(server, str) else server.url
    return kind(base_url=url, api_key="none", **{"max_retries": 0, **options})


# --- the loops, as a user would write them --------------------------------------------------------


def create(client: Any, messages: list[Any]) -> Any:
    return client.messages.create(messages=messages, **ASKED)


def stream(client: Any, messages: list[Any]) -> Any:
    with client.messages.stream(messages=messages, **ASKED) as events:
        return events.get_final_message()


async def acreate(client: Any, messages: list[Any]) -> Any:
    return await client.messages.create(messages=messages, **ASKED)


async def astream(client: Any, messages: list[Any]) -> Any:
    async with client.messages.stream(messages=messages, **ASKED) as events:
        return await events.get_final_message()


def answered(messages: list[Any], reply: Any) -> str | None:
    """Append a reply and its tools' results; gives the text where it asks for none."""
    messages.append({"role": "assistant", "content": reply.content})
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": read(block.input["part"])}
        for block in reply.content
        if block.type == "tool_use"
    ]
    if not results:
        return "".join(block.text for block in reply.content)
    messages.append({"role": "user", "content": results})
    return None


def loop(client: Any, ask: Any, messages: list[Any]) -> str:
    while True:
        if (text := answered(messages, ask(client, messages))) is not None:
            return text


async def aloop(client: Any, ask: Any, messages: list[Any]) -> str:
    while True:
        if (text := answered(messages, await ask(client, messages))) is not None:
            return text


class Loops(Contract):
    """The contract of the loop; `ask` makes a call."""

    asynchronous = False
    ask: Any

    def run(self, url: str, question: str, session: Session | None) -> str:
        given = (self.ask.__func__, [{"role": "user", "content": question}])
        if self.asynchronous:
            return asyncio.run(self.arun(url, given, session))
        with client_for(url) as client:
            if session is None:
                return loop(client, *given)

            @managed_agent(session=session)
            def agent() -> str:
                return loop(managed(client), *given)

            return agent()

    async def arun(self, url: str, given: tuple[Any, ...], session: Session | None) -> str:
        async with client_for(url, AsyncAnthropic) as client:
            if session is None:
                return await aloop(client, *given)

            @managed_agent(session=session)
            async def agent() -> str:
                return await aloop(managed(client), *given)

            return await agent()


class TestCreate(Loops):
    ask = create


class TestStream(Loops):
    further = True
    ask = stream


class TestCreateAsync(Loops):
    further = True
    asynchronous, ask = True, acreate


class TestStreamAsync(Loops):
    further = True
    asynchronous, ask = True, astream


# --- what is this client's own --------------------------------------------------------------------

QUESTION = {"role": "user", "content": task()}


class Billed(Session):
    """A session that notes what it was told was billed, and counted for the same."""

    def record_usage(self, input_tokens: int, **told: Any) -> None:
        self.__dict__.setdefault("bills", []).append((input_tokens, told["counted_tokens"]))
        super().record_usage(input_tokens, **told)


def test_what_was_billed_is_recorded_with_what_was_counted():
    """
    The bill of a call goes to the session, beside the tokens of messages, system and tools.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as client:
        create(managed(client, session), [QUESTION])

    counted = session.history.tokens + measure_tokens(SYSTEM) + measure_tokens([TOOL])
    assert session.bills == [(server.tokens[0], counted)]
    kinds = [(item.kind, item.pinned) for item in session.active_contexts.items]
    assert kinds == [("system", True), ("tools", True)]


def test_cached_tokens_are_part_of_the_bill():
    """
    What was read from and written to the prompt cache was part of the prompt.
    """
    from memtrace.adapters.anthropic import _billed

    class Usage:
        input_tokens, cache_creation_input_tokens, cache_read_input_tokens = 1, 20, 300

    class Message:
        usage = Usage

    class Event:
        message = Message

    assert _billed(Message)[:2] == _billed(Event)[:2] == (321, 300)
    assert _billed(object()).tokens is None


def test_a_stream_is_the_clients_own_and_bills_at_its_start():
    """
    create(stream=True) and stream() give the client's types; closed early they have billed.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        with client.messages.create(messages=[QUESTION], stream=True, **ASKED) as events:
            assert type(events) is Stream
            next(events)
        with client.messages.stream(messages=[QUESTION], **ASKED) as events:
            assert type(events) is MessageStream
            assert "heron-4711" in "".join(events.text_stream)
        with client.beta.messages.stream(messages=[QUESTION], **ASKED) as events:
            events.until_done()

    assert [billed for billed, _ in session.bills] == server.tokens
    assert len(session.history) == 1


async def test_an_async_stream_is_the_clients_own():
    """
    The same of an async client.
    """
    session = Billed()
    with Server(Script(0)) as server:
        async with managed(client_for(server, AsyncAnthropic), session) as client:
            events = await client.messages.create(messages=[QUESTION], stream=True, **ASKED)
            assert type(events) is AsyncStream
            assert [event.type async for event in events][-1] == "message_stop"

    assert [billed for billed, _ in session.bills] == server.tokens


def test_a_dropped_stream_is_closed_as_soon_as_the_clients_own():
    """
    What sees events pass makes no cycle: no connection waits for the collector because of it.
    """

    def closed(client: Any) -> bool:
        events = client.messages.create(messages=[QUESTION], stream=True, **ASKED)
        response = events.response
        next(events)
        del events
        return response.is_closed

    with Server(Script(0)) as server, client_for(server) as client:
        gc.disable()
        try:
            assert closed(managed(client, Session())) == closed(client)
        finally:
            gc.enable()


async def test_raw_responses_are_fitted_and_billed():
    """
    with_raw_response records what was billed; the caller parses the same object, awaited or not.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as bare:
        raw = managed(bare, session).messages.with_raw_response.create(messages=[QUESTION], **ASKED)
        assert "heron-4711" in raw.parse().content[0].text
        async with managed(client_for(server, AsyncAnthropic), session) as client:
            raw = await client.with_raw_response.messages.create(messages=[QUESTION], **ASKED)
            parsed = raw.parse()  # to be awaited in newer releases
            parsed = await parsed if inspect.isawaitable(parsed) else parsed
            assert "heron-4711" in parsed.content[0].text
            streamed = client.messages.with_streaming_response
            async with streamed.create(messages=[QUESTION], **ASKED) as response:
                assert "heron-4711" in (await response.parse()).content[0].text

    assert [billed for billed, _ in session.bills] == server.tokens[:2]


def test_within_a_run_the_session_need_not_be_named():
    """
    A client without a session uses the current one; the run has one invoke_agent span.
    """
    with capture() as captured, Server(Script(1)) as server, client_for(server) as client:

        @managed_agent
        def agent(session: Session) -> str:
            return loop(managed(client), create, [QUESTION])

        assert "heron-4711" in agent(Session("ambient"))

    spans = [span.name for span in captured.spans]
    assert [name for name in spans if name.startswith("invoke_agent")] == ["invoke_agent agent"]
    assert_no_failures(captured)


def test_everything_else_is_the_clients_own():
    """
    Other resources are the same objects, and a derived client is managed too.
    """
    session = Session()
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        assert isinstance(client, Anthropic)
        assert client.models is bare.models
        assert client.messages.batches is bare.messages.batches
        create(client.with_options(timeout=9), [QUESTION])

    assert len(session.history) == 1


def test_a_retry_sends_the_same_and_counts_it_once():
    """
    After a 500 the client's own retry, and the caller's, find the same memory.
    """
    session = Session()
    with Server(Script(0), fail=[500, 500]) as server, client_for(server) as bare:
        client = managed(bare, session)
        with pytest.raises(InternalServerError):
            create(client, [QUESTION])
        create(client.with_options(max_retries=1), [QUESTION])

    assert server.sent == [[QUESTION]]
    assert len(session.history) == 1


def test_memory_survives_a_restart(tmp_path):
    """
    A durable session takes the client's own blocks, and knows them again when opened anew.
    """
    with Server(Script(30)) as server, client_for(server) as bare:
        messages = [QUESTION]
        session = Session.open("kept", store=tmp_path / "memory.db", token_budget=8_000)
        for _ in range(20):
            answered(messages, create(managed(bare, session), messages))
        create(managed(bare, session), messages)
        session.close()
        again = Session.open("kept", store=tmp_path / "memory.db")
        before = [item.id for item in again.history.items]
        create(managed(bare, again), messages)

    assert server.rejected == []
    assert max(server.tokens) <= 8_000
    assert [item.id for item in again.history.items] == before
    assert server.sent[-1] == server.sent[-2]
    again.close()


def test_a_failure_of_memtrace_changes_nothing_that_is_sent(caplog):
    """
    Where memory fails the messages go out as given, and the failure is logged.
    """

    class Broken(Session):
        def messages(self) -> list[Any]:
            raise RuntimeError("out of order")

    with Server(Script(1)) as server, client_for(server) as client:
        assert "heron-4711" in loop(managed(client, Broken()), create, [QUESTION])

    assert len(server.sent[1]) == 3
    assert any("out of order" in record.message for record in caplog.records)


def test_what_cannot_work_is_refused_when_it_is_made():
    """
    No client, or no session: one clear error.
    """
    for wrong in ((Session(), None), (client_for("http://x"), "support-42")):
        with pytest.raises(ConfigurationError, match="managed"):
            managed(*wrong)
