"""Other formats as recorded sessions: transcripts, message logs, traces."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace.errors import ConfigurationError
from memtrace.importing import Imported, read_foreign
from memtrace.replay import Recorded, play, read_session

Json = dict[str, Any]


def lines(path: Path, values: Sequence[Any]) -> Path:
    """A file of JSON Lines."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path


def document(path: Path, value: Any) -> Path:
    """A file that is one JSON value."""
    path.write_text(json.dumps(value, indent=1), "utf-8")
    return path


def imported(path: Path, format: str | None = None) -> tuple[Imported, list[Recorded]]:
    """What a file held, and its sessions as they are read back."""
    read = read_foreign(path, format)
    sessions = []
    for number, draft in enumerate(read.drafts):
        to = path.with_name(f"out-{number}.jsonl")
        draft.write(to)
        sessions.append(read_session(to))
    return read, sessions


def said(session: Recorded) -> list[Json]:
    """A session's messages."""
    return [message.message for message in session.messages]


def call(identity: str, name: str, **arguments: Any) -> Json:
    """A tool call as chat messages have it."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": identity, "type": "function", "function": function}


# --- Claude Code ----------------------------------------------------------------------------------


def claude_line(kind: str, content: Any, **more: Any) -> Json:
    """A line of a transcript: of a user, or of the assistant."""
    message: Json = {"role": kind, "content": content}
    for name in ("id", "model", "usage"):
        if name in more:
            message[name] = more.pop(name)
    return {"type": kind, "sessionId": "s-1", "message": message, **more}


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    """A transcript: a reply on two lines, a call that fails, a sub-agent, a compaction."""
    usage = {"input_tokens": 3, "cache_read_input_tokens": 90, "output_tokens": 7}
    reply = {"id": "m1", "model": "model-x", "usage": usage}
    use = {"type": "tool_use", "id": "t1", "name": "Read", "input": {"path": "a.txt"}}
    answer = {"type": "tool_result", "tool_use_id": "t1", "content": "no file", "is_error": True}
    return lines(
        tmp_path / "claude.jsonl",
        [
            {"type": "summary", "summary": "Reading a file", "leafUuid": "u9"},
            claude_line("user", "Read a.txt", uuid="u1", timestamp="2026-01-01T00:00:00Z"),
            claude_line("assistant", [{"type": "thinking", "thinking": "let me see"}], **reply),
            claude_line("assistant", [{"type": "text", "text": "Reading."}], **reply),
            claude_line("assistant", [use], **reply),
            claude_line("user", "Look around", isSidechain=True, agentId="a7"),
            claude_line("user", [answer]),
            {
                "type": "system",
                "subtype": "compact_boundary",
                "sessionId": "s-1",
                "compactMetadata": {"trigger": "auto", "preTokens": 155_000},
            },
            claude_line("user", "So far: no file.", isCompactSummary=True),
            {"type": "progress", "sessionId": "s-1", "data": {}},
        ],
    )


def test_claude_code_lines_of_one_reply_are_one_message(transcript: Path) -> None:
    """
    Text and call of a reply that was written on three lines are one message, billed once.
    """
    read, sessions = imported(transcript)

    assert (read.format, [s.session_id for s in sessions]) == ("claude-code", ["s-1", "s-1/a7"])
    assert said(sessions[0]) == [
        {"role": "user", "content": "Read a.txt"},
        {
            "role": "assistant",
            "content": "Reading.",
            "tool_calls": [call("t1", "Read", path="a.txt")],
        },
        {"role": "tool", "tool_call_id": "t1", "name": "Read", "content": "no file"},
        {"role": "user", "content": "So far: no file."},
    ]
    assert sessions[0].messages[1].billed_tokens == 93
    assert sessions[0].messages[1].notes["thinking"] == "let me see"


def test_claude_code_keeps_what_was_noted(transcript: Path) -> None:
    """
    Errors, compactions and what is left out are noted or told; a sub-agent is its own session.
    """
    read, sessions = imported(transcript)
    notes = [dict(message.notes) for message in sessions[0].messages]

    assert notes[2]["is_error"] is True
    assert notes[3]["compact_boundary"] == {"trigger": "auto", "pre_tokens": 155_000}
    assert notes[3]["compact_summary"] is True
    assert sessions[0].header["budget_hint"] == {"model": "model-x"}
    assert said(sessions[1]) == [{"role": "user", "content": "Look around"}]
    assert read.told == {"lines of type 'summary'": 1, "lines of type 'progress'": 1}


# --- Codex ----------------------------------------------------------------------------------------


def item(**payload: Any) -> Json:
    """A line of a rollout that is an item of the conversation."""
    return {"timestamp": "2026-01-01T00:00:00Z", "type": "response_item", "payload": payload}


def text_item(role: str, text: str) -> Json:
    """A message's line."""
    kind = "output_text" if role == "assistant" else "input_text"
    return item(type="message", role=role, content=[{"type": kind, "text": text}])


def rollout(path: Path) -> Path:
    """A rollout: two calls of one reply, a patch, a count of tokens, a thought that is closed."""
    counts = {"input_tokens": 100, "cached_input_tokens": 60, "output_tokens": 9}
    info = {"last_token_usage": counts, "model_context_window": 272_000}
    meta = {"id": "c-1", "cwd": "/tmp", "base_instructions": {"text": "Be brief."}}
    return lines(
        path,
        [
            {"type": "session_meta", "payload": meta},
            {"type": "turn_context", "payload": {"model": "model-y"}},
            text_item("user", "Fix it"),
            {"type": "event_msg", "payload": {"type": "user_message", "message": "Fix it"}},
            item(type="reasoning", summary=[], encrypted_content="x"),
            text_item("assistant", "Looking."),
            item(type="function_call", name="shell", arguments='{"cmd":"ls"}', call_id="c1"),
            item(type="custom_tool_call", name="apply_patch", input="*** Begin", call_id="c2"),
            {"type": "event_msg", "payload": {"type": "token_count", "info": info}},
            item(type="function_call_output", call_id="c1", output="a.py"),
            item(type="custom_tool_call_output", call_id="c2", output={"content": "done"}),
            text_item("assistant", "Fixed."),
        ],
    )


def test_codex_joins_text_and_calls_of_a_reply(tmp_path: Path) -> None:
    """
    A reply's text and calls are one message; results name their tools; counts are billed.
    """
    read, (session,) = imported(rollout(tmp_path / "rollout.jsonl"))

    shell = {"name": "shell", "arguments": '{"cmd":"ls"}'}
    patch = {"name": "apply_patch", "input": "*** Begin"}
    assert read.format == "codex"
    assert said(session) == [
        {"role": "user", "content": "Fix it"},
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": shell},
                {"id": "c2", "type": "custom", "custom": patch},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "name": "shell", "content": "a.py"},
        {"role": "tool", "tool_call_id": "c2", "name": "apply_patch", "content": "done"},
        {"role": "assistant", "content": "Fixed."},
    ]
    assert session.messages[1].notes["usage"] == {
        "input": 40,
        "cache_read": 60,
        "cache_write": 0,
        "output": 9,
    }
    assert session.header["system"] == "Be brief."
    assert session.header["budget_hint"] == {"model": "model-y", "context_window": 272_000}
    assert read.told == {
        "lines of type 'event_msg' (user_message)": 1,
        "thoughts that are encrypted": 1,
    }


def test_codex_reads_its_older_form(tmp_path: Path) -> None:
    """
    A line of facts, and the items bare.
    """
    facts = {"id": "old", "timestamp": "2025-01-01T00:00:00Z", "instructions": "Be kind."}
    bare = text_item("user", "Hello")["payload"]
    path = lines(tmp_path / "a.jsonl", [facts, {"record_type": "state"}, bare])

    read, (session,) = imported(path)

    assert (read.format, session.session_id) == ("codex", "old")
    assert said(session) == [{"role": "user", "content": "Hello"}]
    assert session.header["system"] == "Be kind."


# --- message logs ---------------------------------------------------------------------------------

TEXTS = st.text(max_size=30)
CALLS = st.lists(
    st.builds(
        lambda i, name, value: call(f"call_{i}", name, value=value),
        st.integers(0, 9),
        st.sampled_from(["read", "write"]),
        TEXTS,
    ),
    min_size=1,
    max_size=3,
)
PARTS = st.lists(st.builds(lambda text: {"type": "text", "text": text}, TEXTS), min_size=1)
MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda c: {"role": "user", "content": c}, st.one_of(TEXTS, PARTS)),
        st.builds(lambda c: {"role": "assistant", "content": c}, TEXTS),
        st.builds(
            lambda c, calls: {"role": "assistant", "content": c, "tool_calls": calls},
            st.one_of(st.none(), TEXTS),
            CALLS,
        ),
        st.builds(
            lambda i, c: {"role": "tool", "tool_call_id": f"call_{i}", "content": c},
            st.integers(0, 9),
            TEXTS,
        ),
    ),
    min_size=1,
    max_size=12,
)


@given(messages=MESSAGES)
def test_messages_come_back_as_they_were(
    messages: list[Json], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """
    An array of messages and JSON Lines of them give the same messages, each as it was.
    """
    folder = tmp_path_factory.mktemp("log")

    assert said(imported(document(folder / "a.json", messages), "openai")[1][0]) == messages
    assert said(imported(lines(folder / "a.jsonl", messages), "openai")[1][0]) == messages


@given(messages=MESSAGES)
def test_requests_are_put_together(
    messages: list[Json], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """
    Requests that each carry the conversation so far, and the last reply, give it once.
    """
    opened = [{"role": "user", "content": "Begin."}, *messages, {"role": "user", "content": "?"}]
    asked = [
        {"model": "m", "messages": opened[:end]}
        for end in range(1, len(opened) + 1)
        if end == len(opened) or opened[end]["role"] == "assistant"
    ]
    reply = {"role": "assistant", "content": "So it is.", "refusal": None}
    log = [*asked, {"object": "chat.completion", "choices": [{"index": 0, "message": reply}]}]

    _, sessions = imported(lines(tmp_path_factory.mktemp("log") / "a.jsonl", log))

    assert [said(s) for s in sessions] == [[*opened, {"role": "assistant", "content": "So it is."}]]


def request(*texts: str, **more: Any) -> Json:
    """A request whose messages are a user's and the assistant's by turns."""
    roles = ("user", "assistant")
    listed = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"model": "m", "messages": listed, **more}


def test_conversations_of_one_log_are_told_apart(tmp_path: Path) -> None:
    """
    Two conversations that take turns in a log are two sessions, each in order.
    """
    path = lines(
        tmp_path / "proxy.jsonl",
        [request("a"), request("x"), request("a", "b", "c"), request("x", "y", "z")],
    )

    _, sessions = imported(path)

    contents = [[m["content"] for m in said(s)] for s in sessions]
    assert contents == [["a", "b", "c"], ["x", "y", "z"]]
    assert [s.session_id for s in sessions] == ["proxy", "proxy-2"]


def test_a_window_that_drops_the_oldest_stays_one_session(tmp_path: Path) -> None:
    """
    A request that no longer has the beginning, but the end of what is known, goes on from it.
    """
    path = lines(
        tmp_path / "a.jsonl", [request("a", "b", "c", "d", "e"), request("c", "d", "e", "f", "g")]
    )

    read, (session,) = imported(path)

    assert [m["content"] for m in said(session)] == list("abcdefg")
    assert read.told == {"requests that do not go on from the one before": 1}


def test_responses_api_follows_the_reply_it_names(tmp_path: Path) -> None:
    """
    A request that names the reply before it has only what is new; usage is noted.
    """
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text"}]}]
    output[0]["content"] = [{"type": "output_text", "text": "Hi."}]
    path = lines(
        tmp_path / "a.jsonl",
        [
            {"model": "m", "instructions": "Be brief.", "input": "Hello"},
            {"id": "r1", "object": "response", "output": output, "usage": {"input_tokens": 8}},
            {"model": "m", "input": "And now?", "previous_response_id": "r1"},
        ],
    )

    _, (session,) = imported(path)

    assert [m["content"] for m in said(session)] == ["Hello", "Hi.", "And now?"]
    assert session.messages[1].billed_tokens == 8
    assert session.header["system"] == "Be brief."


def test_anthropic_blocks_become_chat_messages(tmp_path: Path) -> None:
    """
    Calls, results, pictures and the system prompt are where chat messages have them.
    """
    use = {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}
    picture = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    result = [{"type": "text", "text": "a cat"}, {"type": "image", "source": picture}]
    answer = {"type": "tool_result", "tool_use_id": "t1", "content": result}
    asked = {
        "model": "m",
        "system": [{"type": "text", "text": "See."}],
        "tools": [{"name": "look", "input_schema": {}}],
        "messages": [
            {"role": "user", "content": "Look"},
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [answer, {"type": "text", "text": "And?"}]},
        ],
    }
    usage = {"input_tokens": 5, "cache_creation_input_tokens": 20, "output_tokens": 3}
    reply = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "A cat."}, {"type": "odd", "x": 1}],
        "stop_reason": "end_turn",
        "usage": usage,
    }

    read, (session,) = imported(
        lines(tmp_path / "a.jsonl", [{"request": asked, "response": reply}])
    )

    url = {"url": "data:image/png;base64,aGk="}
    content = [{"type": "text", "text": "a cat"}, {"type": "image_url", "image_url": url}]
    assert read.format == "anthropic"
    assert said(session)[:4] == [
        {"role": "user", "content": "Look"},
        {"role": "assistant", "content": None, "tool_calls": [call("t1", "look", at=1)]},
        {"role": "tool", "tool_call_id": "t1", "name": "look", "content": content},
        {"role": "user", "content": "And?"},
    ]
    assert session.header["system"] == "See."
    assert session.messages[-1].billed_tokens == 25
    assert read.told == {"parts of type 'odd', kept as JSON text": 1}


# --- traces ---------------------------------------------------------------------------------------


def attribute(key: str, value: Any) -> Json:
    """An attribute as OTLP has it in JSON."""
    kind = "intValue" if isinstance(value, int) else "stringValue"
    return {"key": key, "value": {kind: str(value) if kind == "intValue" else value}}


def otlp(*spans: Json) -> Json:
    """An export of spans: each its attributes, and under ``events`` its events."""
    made = []
    for number, about in enumerate(spans):
        span = dict(about)
        events = [
            {"name": name, "attributes": [attribute(*pair) for pair in held.items()]}
            for name, held in span.pop("events", ())
        ]
        made.append(
            {
                "traceId": "0af7651916cd43dd8448eb211c80319c",
                "spanId": f"{number:016x}",
                "startTimeUnixNano": str(1_000 + number),
                "attributes": [attribute(*pair) for pair in span.items()],
                "events": events,
            }
        )
    return {"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}


SENT = [
    {"role": "user", "parts": [{"type": "text", "content": "How is it?"}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "ask the tool"},
            {"type": "tool_call", "id": "t1", "name": "weather", "arguments": {"at": "Bergen"}},
        ],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "rain"}]},
]
RECEIVED = [{"role": "assistant", "parts": [{"type": "text", "content": "Rain."}]}]
TOLD = [
    {"role": "user", "content": "How is it?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("t1", "weather", at="Bergen")],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "rain"},
    {"role": "assistant", "content": "Rain."},
]
MODEL_CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.conversation.id": "talk-1",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 40,
    "gen_ai.usage.cache_read.input_tokens": 30,
}


def test_otlp_messages_with_parts(tmp_path: Path) -> None:
    """
    Two model calls of a conversation are one session; a span around them adds nothing.
    """
    first = {**MODEL_CALL, "gen_ai.input.messages": json.dumps(SENT[:1])}
    second = {
        **MODEL_CALL,
        "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
        "gen_ai.input.messages": json.dumps(SENT),
        "gen_ai.output.messages": json.dumps(RECEIVED),
    }
    around = {**second, "gen_ai.operation.name": "invoke_agent"}
    value = otlp(around, {**first, "gen_ai.output.messages": json.dumps(SENT[1:2])}, second)

    read, (session,) = imported(document(tmp_path / "trace.json", value))

    assert (read.format, session.session_id) == ("trace", "talk-1")
    assert said(session) == TOLD
    assert session.header["system"] == "Be brief."
    assert session.messages[3].notes["usage"] == {
        "input": 10,
        "cache_read": 30,
        "cache_write": 0,
        "output": 0,
    }
    assert read.told == {"spans around model calls, whose messages are told by these": 1}


def flat(prefix: str, messages: Sequence[Json]) -> Json:
    """Messages as attributes of their own."""
    found: Json = {}
    for n, message in enumerate(messages):
        found[f"{prefix}.{n}.role"] = message["role"]
        if message.get("content") is not None:
            found[f"{prefix}.{n}.content"] = message["content"]
        if "tool_call_id" in message:
            found[f"{prefix}.{n}.tool_call_id"] = message["tool_call_id"]
        for m, one in enumerate(message.get("tool_calls", ())):
            at = f"{prefix}.{n}.tool_calls.{m}"
            found |= {f"{at}.id": one["id"], f"{at}.name": one["function"]["name"]}
            found[f"{at}.arguments"] = one["function"]["arguments"]
    return found


def as_otlp(span: Json) -> Json:
    """The span as OTLP has it."""
    return otlp(span)


def as_jaeger(span: Json) -> Json:
    """The span as Jaeger's interface gives it."""
    held = otlp(span)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    tags = [{"key": key, "type": "string", "value": value} for key, value in span.items()]
    made = {"traceID": "a", "spanID": "b", "startTime": 1, "tags": tags, "logs": []}
    assert len(held["attributes"]) == len(tags)
    return {"data": [{"traceID": "a", "spans": [made], "processes": {}}]}


def as_batches(span: Json) -> Json:
    """The span as an older collector wrote it."""
    (resource,) = otlp(span)["resourceSpans"]
    return {"batches": [{"instrumentationLibrarySpans": resource["scopeSpans"]}]}


@pytest.mark.parametrize("form", [as_otlp, as_jaeger, as_batches])
def test_traces_with_an_attribute_a_field(form: Any, tmp_path: Path) -> None:
    """
    ``gen_ai.prompt.N`` and ``gen_ai.completion.N`` give the same messages in every form.
    """
    span = {**flat("gen_ai.prompt", TOLD[:3]), **flat("gen_ai.completion", TOLD[3:])}

    read, (session,) = imported(document(tmp_path / "a.json", form(span)))

    assert said(session) == TOLD
    assert read.told == {}


def test_traces_with_events(tmp_path: Path) -> None:
    """
    Events that are a message each, in the order in which they stand.
    """
    calls = json.dumps(TOLD[1]["tool_calls"])
    events = [
        ("gen_ai.user.message", {"content": "How is it?"}),
        ("gen_ai.assistant.message", {"tool_calls": calls}),
        ("gen_ai.tool.message", {"content": "rain", "id": "t1"}),
        ("gen_ai.choice", {"index": 0, "message": json.dumps({"content": "Rain."})}),
        ("gen_ai.odd", {"x": "y"}),
    ]

    read, (session,) = imported(document(tmp_path / "a.json", otlp({"events": events})))

    assert said(session) == TOLD
    assert read.told == {"events gen_ai.odd": 1}


def test_traces_in_protobuf(tmp_path: Path) -> None:
    """
    What an exporter sends is read as its JSON is.
    """
    from google.protobuf.json_format import ParseDict
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    span = {**flat("gen_ai.prompt", TOLD[:3]), **flat("gen_ai.completion", TOLD[3:])}
    value = otlp(span)
    for one in value["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        one["traceId"], one["spanId"] = "CvdlGRbNQ92ESOshHIAxnA==", "AAAAAAAAAAE="
    path = tmp_path / "trace.pb"
    path.write_bytes(ParseDict(value, ExportTraceServiceRequest()).SerializeToString())

    _, (session,) = imported(path)

    assert said(session) == TOLD
    assert session.session_id == "0af7651916cd43dd8448eb211c80319c"


def test_traces_without_content_say_so(tmp_path: Path) -> None:
    """
    Spans that tell of calls and not of messages are refused, with the likely cause.
    """
    path = document(tmp_path / "a.json", otlp({"gen_ai.operation.name": "chat"}))

    with pytest.raises(ConfigurationError, match="1 spans: none says what a model was sent"):
        read_foreign(path)


# --- together -------------------------------------------------------------------------------------


def test_what_was_imported_can_be_played(transcript: Path) -> None:
    """
    A session that was imported is replayed as any other.
    """
    _, (session, _) = imported(transcript)

    replay = play(session, token_budget=1_000)

    assert (len(replay.turns), replay.sent.calls) == (2, 1)


def test_lone_surrogates_come_back(tmp_path: Path) -> None:
    """
    A text that is no Unicode, as a broken tool gives it, is kept as an escape.
    """
    path = lines(tmp_path / "a.jsonl", [{"role": "user", "content": "half \ud83d of it"}])

    _, (session,) = imported(path)

    assert said(session)[0]["content"] == "half \ud83d of it"


BAD = {
    "empty": (b"", "is empty"),
    "cut off": (b'{"type":"user","message":{"ro', "line 1: not JSON .* ends in the middle of it"),
    "not JSON": (b"Dear diary,\n", "line 1: not JSON"),
    "UTF-16": ('{"role":"user"}'.encode("utf-16"), "line 1: not UTF-8 .UTF-16"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "line 1: not UTF-8 .*gzip"),
    "protobuf of another kind": (b"\n\x03abc\x00\xff", "nor an OTLP export"),
    "another object": (
        b'{"name":"x","version":1}\n',
        "line 1: an object with name, version, of",
    ),
    "numbers": (b"[1, 2]", "element 1 is a JSON number"),
    "a session already": (b'{"session_id":"a"}\n{"role":"user"}\n', "recorded session already"),
    "no role": (
        b'[{"role":"user","content":"a"},{"messages":[{"content":"b"}]}]',
        "element 2: a",
    ),
    "second line": (b'{"role":"user","content":"a"}\n{"role":\n', "line 2: not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    """
    The message names the file, the line and the cause.
    """
    content, cause = BAD[name]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=cause) as refused:
        read_foreign(path)

    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """
    The formats that there are stand in the message.
    """
    with pytest.raises(ConfigurationError, match="claude-code, codex, openai, anthropic, trace"):
        read_foreign(tmp_path / "a.jsonl", "pi")


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | TEXTS,
        lambda v: (
            st.lists(v, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "type",
                        "role",
                        "content",
                        "messages",
                        "message",
                        "payload",
                        "choices",
                        "output",
                        "input",
                        "model",
                        "sessionId",
                        "parts",
                        "tool_calls",
                        "source",
                        "resourceSpans",
                        "scopeSpans",
                        "spans",
                        "attributes",
                        "events",
                        "data",
                        "key",
                        "value",
                        "usage",
                        "id",
                        "request",
                    ]
                )
                | st.sampled_from(["user", "assistant"]),
                v,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
@pytest.mark.parametrize("format", [None, "claude-code", "codex", "openai", "anthropic", "trace"])
def test_any_json_is_read_or_refused(
    format: str | None, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """
    Whatever a file's JSON is, it becomes sessions or one clear error.
    """
    path = document(tmp_path_factory.mktemp("any") / "a.json", value)
    with suppress(ConfigurationError):
        for draft in read_foreign(path, format).drafts:
            draft.write(path.with_name("out.jsonl"))
            assert read_session(path.with_name("out.jsonl")).messages
