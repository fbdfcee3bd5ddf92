"""The `openai` client, managed: loops that people write by hand, over the stub server."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from typing import Any

import openai
import pytest
from contract import Contract, read
from openai import AsyncOpenAI, AsyncStream, OpenAI, Stream
from stub import Script, Server, task

from memtrace import ConfigurationError, Session, managed_agent, measure_tokens
from memtrace.adapters._versions import require
from memtrace.adapters.openai import managed
from memtrace.testing import assert_no_failures, capture, strict

TOOL = {
    "type": "function",
    "function": {
        "name": "read",
        "description": "What stands in a part.",
        "parameters": {"type": "object", "properties": {"part": {"type": "integer"}}},
    },
}
FLAT = {"type": "function", **TOOL["function"]}
SYSTEM = "You read parts. Say the code word in the end."


def client_for(server: Server | str, kind: type = OpenAI, **options: Any) -> Any:
    url = server if isinstance(server, str) else server.url
    return kind(base_url=f"{url}/v1", api_key="none", max_retries=0, **options)


# --- the loops, as a user would write them --------------------------------------------------------


def chat_reply(message: Any) -> tuple[list[Any], list[Any], str]:
    """What is appended of a reply, its calls, its text."""
    calls = [(c.id, json.loads(c.function.arguments)) for c in message.tool_calls or ()]
    return [message], calls, message.content or ""


def chat_result(identity: str, text: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def gathered(message: dict[str, Any], chunk: Any) -> None:
    """Put one chunk of a stream into the message that it is part of."""
    for delta in (choice.delta for choice in chunk.choices):
        if delta.content:
            message["content"] = (message["content"] or "") + delta.content
        for call in delta.tool_calls or ():
            message.setdefault("tool_calls", []).append(
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
            )


def streamed_reply(message: dict[str, Any]) -> tuple[list[Any], list[Any], str]:
    calls = [
        (call["id"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]
    return [message], calls, message["content"] or ""


def response_reply(response: Any) -> tuple[list[Any], list[Any], str]:
    calls = [
        (item.call_id, json.loads(item.arguments))
        for item in response.output
        if item.type == "function_call"
    ]
    return list(response.output), calls, response.output_text


def response_result(identity: str, text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": identity, "output": text}


CHAT: dict[str, Any] = {"model": "stub", "tools": [TOOL]}
STREAM: dict[str, Any] = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
RESPONSES: dict[str, Any] = {"model": "stub", "tools": [FLAT], "instructions": SYSTEM}


def ask_chat(client: Any, messages: list[Any]) -> Any:
    return chat_reply(client.chat.completions.create(messages=messages, **CHAT).choices[0].message)


def ask_chat_streamed(client: Any, messages: list[Any]) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    for chunk in client.chat.completions.create(messages=messages, **STREAM):
        gathered(message, chunk)
    return streamed_reply(message)


def ask_responses(client: Any, items: list[Any]) -> Any:
    return response_reply(client.responses.create(input=items, **RESPONSES))


def ask_responses_streamed(client: Any, items: list[Any]) -> Any:
    with client.responses.create(input=items, stream=True, **RESPONSES) as stream:
        last = list(stream)[-1]
    return response_reply(last.response)


async def aask_chat(client: Any, messages: list[Any]) -> Any:
    reply = await client.chat.completions.create(messages=messages, **CHAT)
    return chat_reply(reply.choices[0].message)


async def aask_chat_streamed(client: Any, messages: list[Any]) -> Any:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    async for chunk in await client.chat.completions.create(messages=messages, **STREAM):
        gathered(message, chunk)
    return streamed_reply(message)


async def aask_responses(client: Any, items: list[Any]) -> Any:
    return response_reply(await client.responses.create(input=items, **RESPONSES))


async def aask_responses_streamed(client: Any, items: list[Any]) -> Any:
    async with await client.responses.create(input=items, stream=True, **RESPONSES) as stream:
        last = [event async for event in stream][-1]
    return response_reply(last.response)


def loop(client: Any, ask: Any, result: Any, messages: list[Any]) -> str:
    while True:
        reply, calls, text = ask(client, messages)
        messages += reply
        if not calls:
            return text
        messages += [result(identity, read(made["part"])) for identity, made in calls]


async def aloop(client: Any, ask: Any, result: Any, messages: list[Any]) -> str:
    while True:
        reply, calls, text = await ask(client, messages)
        messages += reply
        if not calls:
            return text
        messages += [result(identity, read(made["part"])) for identity, made in calls]


class Loops(Contract):
    """The contract of one of the loops: `ask` makes a call, `result` a tool's result."""

    asynchronous = False
    ask: Any
    result: Any

    def run(self, url: str, question: str, session: Session | None) -> str:
        messages = [{"role": "user", "content": question}]
        given = (self.ask.__func__, self.result.__func__, messages)
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
        async with client_for(url, AsyncOpenAI) as client:
            if session is None:
                return await aloop(client, *given)

            @managed_agent(session=session)
            async def agent() -> str:
                return await aloop(managed(client), *given)

            return await agent()


class TestChat(Loops):
    ask, result = ask_chat, chat_result


class TestChatStreamed(Loops):
    further = True
    ask, result = ask_chat_streamed, chat_result


class TestChatAsync(Loops):
    further = True
    asynchronous, ask, result = True, aask_chat, chat_result


class TestChatAsyncStreamed(Loops):
    further = True
    asynchronous, ask, result = True, aask_chat_streamed, chat_result


class TestResponses(Loops):
    ask, result = ask_responses, response_result


class TestResponsesStreamed(Loops):
    further = True
    ask, result = ask_responses_streamed, response_result


class TestResponsesAsync(Loops):
    further = True
    asynchronous, ask, result = True, aask_responses, response_result


class TestResponsesAsyncStreamed(Loops):
    further = True
    asynchronous, ask, result = True, aask_responses_streamed, response_result


# --- what is this client's own --------------------------------------------------------------------

QUESTION = {"role": "user", "content": task()}


class Billed(Session):
    """A session that notes what it was told was billed, and counted for the same."""

    def record_usage(self, input_tokens: int, **told: Any) -> None:
        self.__dict__.setdefault("bills", []).append((input_tokens, told["counted_tokens"]))
        super().record_usage(input_tokens, **told)


def test_what_was_billed_is_recorded_with_what_was_counted():
    """
    The bill of a call goes to the session once, beside the tokens of messages and tools.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as client:
        managed(client, session).chat.completions.create(messages=[QUESTION], **CHAT)

    assert session.bills == [(server.tokens[0], session.history.tokens + measure_tokens([TOOL]))]


def test_within_a_run_the_session_need_not_be_named():
    """
    A client without a session uses the current one; the run has one span, and no second.
    """
    session = Session("ambient")
    with capture() as captured, Server(Script(1)) as server, client_for(server) as client:
        agent = managed_agent(name="agent")(lambda session: loop(managed(client), *given))
        given = (ask_chat, chat_result, [QUESTION])
        assert "heron-4711" in agent(session)

    assert len(session.history) == 3
    assert [span.name for span in captured.spans] == ["invoke_agent agent"]
    assert_no_failures(captured)


def test_without_any_session_calls_pass_and_one_warning_tells(caplog):
    """
    Outside a run a client without a session sends what it is given, and says so once.
    """
    with Server(Script(0)) as server, client_for(server) as client:
        client = managed(client)
        for _ in range(2):
            client.chat.completions.create(messages=[QUESTION], **CHAT)

    assert server.sent == [[QUESTION]] * 2
    assert len([r for r in caplog.records if "found no session" in r.message]) == 1


def test_everything_else_is_the_clients_own():
    """
    It is an OpenAI to isinstance, methods keep their signatures, settings reach the client.
    """
    plain = client_for("http://127.0.0.1:1")
    client = managed(plain, Session())

    assert isinstance(client, OpenAI)
    assert client.models is plain.models
    assert client.embeddings is plain.embeddings
    create = plain.chat.completions.create
    assert inspect.signature(client.chat.completions.create) == inspect.signature(create)
    assert client.chat.completions.list == plain.chat.completions.list
    client.max_retries = 7
    assert plain.max_retries == 7
    plain.close()


def test_derived_clients_are_managed_too():
    """
    with_options(), copy() and a with block give managed clients, and the given one stays as it is.
    """
    session = Session()
    with Server(Script(0)) as server, client_for(server) as bare:
        with managed(bare, session) as client:
            for derived in (client.with_options(timeout=9), client.copy(), copy.copy(client)):
                session.history.clear()
                derived.chat.completions.create(messages=[QUESTION], **CHAT)
                assert len(session.history) == 1
        bare = client_for(server)
        session.history.clear()
        bare.chat.completions.create(messages=[QUESTION], **CHAT)
        assert len(session.history) == 0
        bare.close()


def test_managed_again_takes_the_last_session():
    """
    A managed client given to managed() is not wrapped twice.
    """
    first, last = Billed(), Billed()
    with Server(Script(0)) as server, client_for(server) as client:
        twice = managed(managed(client, first), last)
        twice.chat.completions.create(messages=[QUESTION], **CHAT)

    assert (len(first.history), len(last.history)) == (0, 1)
    assert len(last.bills) == 1


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_stream_is_the_clients_own_and_may_be_closed_early(api):
    """
    The stream has the client's type; left after its first event it is closed, and bills nothing.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        if api == "chat":
            stream = client.chat.completions.create(messages=[QUESTION], **STREAM)
        else:
            stream = client.responses.create(input=[QUESTION], stream=True, **RESPONSES)
        assert type(stream) is Stream
        with stream:
            next(iter(stream))
        assert stream.response.is_closed

    assert "bills" not in vars(session)


def test_a_stream_that_says_no_usage_records_none():
    """
    Without include_usage the request's options stay as they are, and nothing is recorded.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as client:
        stream = managed(client, session).chat.completions.create(
            messages=[QUESTION], **{**STREAM, "stream_options": None}
        )
        assert [chunk.usage for chunk in stream] == [None, None]

    assert "bills" not in vars(session)


def test_stream_helpers_are_fitted_and_billed():
    """
    chat.completions.stream() and responses.stream() give the client's own helpers.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        options = {**CHAT, "tools": openai.omit, "stream_options": {"include_usage": True}}
        with client.chat.completions.stream(messages=[QUESTION], **options) as stream:
            done = stream.get_final_completion()
        with client.responses.stream(input=[QUESTION], model="stub") as stream:
            final = stream.get_final_response()

    assert "heron-4711" in done.choices[0].message.content
    assert "heron-4711" in final.output_text
    assert [billed for billed, _ in session.bills] == server.tokens


async def test_async_stream_helpers_are_fitted_and_billed():
    """
    The same of an async client.
    """
    session = Billed()
    with Server(Script(0)) as server:
        async with managed(client_for(server, AsyncOpenAI), session) as client:
            options = {"model": "stub", "stream_options": {"include_usage": True}}
            async with client.chat.completions.stream(messages=[QUESTION], **options) as stream:
                done = await stream.get_final_completion()
            async with client.responses.stream(input=[QUESTION], model="stub") as stream:
                await stream.until_done()
            assert type(await client.responses.create(input="hi", model="stub", stream=True)) is (
                AsyncStream
            )

    assert "heron-4711" in done.choices[0].message.content
    assert [billed for billed, _ in session.bills] == server.tokens[:2]


def test_raw_responses_are_fitted_and_billed():
    """
    with_raw_response records what was billed; the caller parses the same object.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        raw = client.chat.completions.with_raw_response.create(messages=[QUESTION], **CHAT)
        assert raw.parse() is raw.parse()
        raw = client.with_raw_response.chat.completions.create(messages=[QUESTION], **STREAM)
        assert [chunk.usage for chunk in raw.parse()][-1].prompt_tokens == server.tokens[-1]

    assert [billed for billed, _ in session.bills] == server.tokens


def test_streamed_responses_are_fitted_and_left_to_the_caller():
    """
    with_streaming_response leaves the body unread.
    """
    session = Billed()
    with Server(Script(0)) as server, client_for(server) as bare:
        raw = managed(bare, session).chat.completions.with_streaming_response
        with raw.create(messages=[QUESTION], **CHAT) as response:
            assert not response.http_response.is_stream_consumed
            assert "heron-4711" in response.parse().choices[0].message.content

    assert len(session.history) == 1


def test_a_retry_sends_the_same_and_counts_it_once():
    """
    After a 500 the client's own retry, and the caller's, find the same memory.
    """
    session = Session()
    with Server(Script(0), fail=[500, 500]) as server, client_for(server) as bare:
        client = managed(bare.with_options(max_retries=0), session)
        with pytest.raises(openai.InternalServerError):
            ask_chat(client, [QUESTION])
        ask_chat(client.with_options(max_retries=1), [QUESTION])

    assert server.sent == [[QUESTION]]
    assert len(session.history) == 1


async def test_a_cancelled_call_leaves_memory_usable():
    """
    A call that is cancelled while it waits raises CancelledError; the next one goes through.
    """
    session = Session()
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def stall(_reader: Any, writer: Any) -> None:
        arrived.set()
        await gone.wait()
        writer.close()

    silent = await asyncio.start_server(stall, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with client_for(url, AsyncOpenAI) as client:
        call = asyncio.create_task(aask_chat(managed(client, session), [QUESTION]))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    gone.set()
    silent.close()
    with Server(Script(0)) as server:
        async with client_for(server, AsyncOpenAI) as client:
            await aask_chat(managed(client, session), [QUESTION])
    assert server.sent == [[QUESTION]]
    assert len(session.history) == 1


def test_instructions_and_tools_are_pinned_and_replaced_when_they_change():
    """
    They count as pinned contexts; the same ones stay the same items, absent ones go.
    """
    session = Session()
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        client.responses.create(input=[QUESTION], **RESPONSES)
        items = session.active_contexts.items
        assert [(item.kind, item.content, item.pinned) for item in items] == [
            ("system", SYSTEM, True),
            ("tools", [FLAT], True),
        ]
        client.responses.create(input=[QUESTION], **{**RESPONSES, "tools": [copy.deepcopy(FLAT)]})
        assert session.active_contexts.items == items
        client.responses.create(input=[QUESTION], model="stub", instructions="Be brief.")

    assert [item.content for item in session.active_contexts.items] == ["Be brief."]


def test_what_can_be_read_once_is_sent_whole():
    """
    Messages and tools given as generators are sent as lists of the same.
    """
    session = Session()
    with Server(Script(0)) as server, client_for(server) as client:
        managed(client, session).chat.completions.create(
            messages=(m for m in [QUESTION]), tools=(t for t in [TOOL]), model="stub"
        )

    assert server.sent == [[QUESTION]]
    assert session.active_contexts.items[0].content == [TOOL]


def test_what_the_server_holds_is_measured_and_sent_as_it_is():
    """
    With previous_response_id only the new input is there: it is added, never compressed.
    """
    session = Billed(token_budget=500)
    huge = {"role": "user", "content": read(1)}
    with Server(Script(0)) as server, client_for(server) as bare:
        client = managed(bare, session)
        first = client.responses.create(input=task(), model="stub")
        for _ in range(2):
            client.responses.create(input=[huge], model="stub", previous_response_id=first.id)

    assert server.sent[1:] == [[huge]] * 2
    assert list(session.history) == [QUESTION, huge]
    assert len(session.bills) == 1


def test_a_session_that_is_appended_to_by_hand_stays_so():
    """
    session.messages(), also after a system message, is not adopted a second time.
    """
    session = Session()
    session.history.append(QUESTION)
    system = {"role": "system", "content": SYSTEM}
    with Server(Script(2)) as server, client_for(server) as bare:
        client = managed(bare, session)
        for _ in range(3):
            reply, calls, _text = ask_chat(client, [system, *session.messages()])
            session.history.extend(reply)
            session.history.extend(chat_result(i, read(made["part"])) for i, made in calls)

    assert [message["role"] for message in server.sent[-1]] == ["system", "user"] + [
        "assistant",
        "tool",
    ] * 2
    assert len(session.history) == 6


def test_a_failure_of_memtrace_changes_nothing_that_is_sent(caplog):
    """
    Where memory fails the messages go out as given, and the failure is logged.
    """

    class Broken(Session):
        def messages(self) -> list[Any]:
            raise RuntimeError("out of order")

    with Server(Script(1)) as server, client_for(server) as client:
        answer = loop(managed(client, Broken()), ask_chat, chat_result, [QUESTION])

    assert "heron-4711" in answer
    assert server.sent[1][0] == QUESTION
    assert len(server.sent[1]) == 3
    assert any("out of order" in record.message for record in caplog.records)
    with strict(), client_for("http://127.0.0.1:1") as client, pytest.raises(RuntimeError):
        ask_chat(managed(client, Broken()), [QUESTION])


async def test_a_call_made_again_is_never_mixed_with_another():
    """
    A list that the session holds already goes out as it is, though another one comes between.
    """
    session = Session(token_budget=200_000)
    with Server(Script(0)) as server:
        async with managed(client_for(server, AsyncOpenAI), session) as client:
            lists = [[{"role": "user", "content": f"{task()} {n}"}] for n in range(2)]
            for _ in range(5):
                await asyncio.gather(*(aask_chat(client, lists[n % 2]) for n in range(6)))

    assert sorted(sent[0]["content"][-1] for sent in server.sent) == ["0"] * 15 + ["1"] * 15


async def test_conversations_at_once_are_never_mixed():
    """
    Two loops on one session take turns in its history, and each sends its own messages alone.
    """
    session = Session(token_budget=200_000)

    async def talk(client: Any, number: int) -> None:
        messages = [{"role": "user", "content": f"{task()} Talk {number}."}]
        for _ in range(4):
            messages += (await aask_chat(client, messages))[0]
            messages.append({"role": "user", "content": f"Talk {number}."})

    with Server(Script(0)) as server:
        async with managed(client_for(server, AsyncOpenAI), session) as client:
            await asyncio.gather(*(talk(client, number) for number in range(3)))

    assert len(server.sent) == 12
    for sent in server.sent:
        users = [message["content"] for message in sent if message["role"] == "user"]
        assert len({text[text.index("Talk") :] for text in users}) == 1


def test_memory_survives_a_restart(tmp_path):
    """
    A durable session takes the client's own objects, and finds them again in a new process's list.
    """
    with Server(Script(30)) as server, client_for(server) as bare:
        messages = [QUESTION]
        session = Session.open("kept", store=tmp_path / "memory.db", token_budget=8_000)
        client = managed(bare, session)
        for _ in range(20):
            reply, calls, _text = ask_chat(client, messages)
            messages += [*reply, *(chat_result(i, read(made["part"])) for i, made in calls)]
        ask_chat(client, messages)
        session.close()
        again = Session.open("kept", store=tmp_path / "memory.db")
        before = [item.id for item in again.history.items]
        ask_chat(managed(bare, again), messages)

    assert server.rejected == []
    assert max(server.tokens) <= 8_000
    assert [item.id for item in again.history.items] == before
    assert server.sent[-1] == server.sent[-2]
    again.close()


def test_a_summary_goes_through_the_client_that_was_given():
    """
    Calls through the bare client leave the session alone.
    """
    session = Session()
    with Server(Script(0)) as server, client_for(server) as bare:
        ask_chat(managed(bare, session), [QUESTION])
        ask_chat(bare, [{"role": "user", "content": "Summarise."}])

    assert list(session.history) == [QUESTION]


def test_what_cannot_work_is_refused_when_it_is_made():
    """
    No client, no session, or a package that is not there: one clear error.
    """
    for wrong in ((Session(), None), (object(), Session()), (client_for("http://x"), "support-42")):
        with pytest.raises(ConfigurationError, match="managed"):
            managed(*wrong)
    with pytest.raises(ConfigurationError, match=r"memtrace-otel\[openai\]"):
        require("openai", "openai", "99")
    with pytest.raises(ConfigurationError, match="not installed"):
        require("openai-that-is-not-there", "openai", "2")
