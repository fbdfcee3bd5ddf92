"""A model's server, played by a script: it speaks the providers' protocols, and rejects as they do.

OpenAI chat completions (``POST /v1/chat/completions``), OpenAI Responses (``POST /v1/responses``),
Anthropic messages (``POST /v1/messages``) and Gemini's (``POST …:generateContent``), whole or
streamed. The script is one agent at work: it asks for one tool call after another, and in the end
for the code word that stood in the first user message. If that is no longer sent, its answer is a
wrong one.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from memtrace import measure_tokens

TASK = "Read every part with the tool `read`, one after another. The code word is heron-{code}."
"""The first user message; the right answer names the code word."""

_CODE = re.compile(r"heron-\d+")


def task(code: int = 4711) -> str:
    """The first user message."""
    return TASK.format(code=code)


def part(number: int, tokens: int = 1000) -> str:
    """What the tool `read` gives for a part: some 1,000 tokens of lines, no two parts alike."""
    lines = [
        f"part {number}, line {n}: register r{number}_{n} holds {number * 7919 + n}"
        for n in range(tokens // 18)
    ]
    return "\n".join(lines)


@dataclass
class Script:
    """What the model does: so many tool calls, some in parallel, then the answer.

    Attributes:
        calls: Tool calls in all.
        parallel: How many are asked for in one turn.
        done: How many were asked for so far.
    """

    calls: int = 200
    parallel: int = 1
    done: int = 0

    def turn(self, texts: list[str]) -> list[tuple[str, str, dict[str, Any]]] | str:
        """The next turn, given all texts that were sent: calls (id, name, arguments), or a text."""
        if self.done >= self.calls:
            found = next((m.group() for text in texts if (m := _CODE.search(text))), None)
            return f"The code word is {found}." if found else "I no longer know the code word."
        asked = range(self.done, min(self.calls, self.done + self.parallel))
        self.done = asked.stop
        return [(f"call_{n}", "read", {"part": n}) for n in asked]


@dataclass
class Server:
    """The server, while the block lasts: ``with Server(Script()) as server: server.url``.

    Attributes:
        script: What the model does.
        sent: The messages of each request that was accepted.
        tokens: Their tokens, system prompt included.
        model: The model's name, as the last request has it.
        rejected: What was said of each request that was refused.
        fail: Statuses to answer the next requests with instead, for retries.
    """

    script: Script
    sent: list[list[Any]] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    model: str = ""
    rejected: list[str] = field(default_factory=list)
    fail: list[int] = field(default_factory=list)

    def __enter__(self) -> Server:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens, without a path: ``http://127.0.0.1:1234``."""
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def cached(self) -> list[int]:
        """How many tokens of each request it says that it had in its prompt cache."""
        return [tokens // 2 for tokens in self.tokens]

    def accept(self, messages: list[Any], system: Any = None) -> None:
        """Note what a request carried."""
        self.sent.append(messages)
        extra = measure_tokens(system) if system else 0
        self.tokens.append(extra + sum(measure_tokens(message) for message in messages))


class Rejected(Exception):
    """A request that the provider would answer with 400."""


# --- what the providers refuse --------------------------------------------------------------------


def check_chat(messages: list[dict[str, Any]]) -> None:
    """As OpenAI's chat completions refuse.

    Raises:
        Rejected: In the provider's words.
    """
    waiting: list[str] = []
    for place, message in enumerate(messages):
        role = message.get("role")
        if role == "tool":
            if message.get("tool_call_id") not in waiting:
                raise Rejected(
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'."
                )
            waiting.remove(message["tool_call_id"])
            continue
        if waiting:
            raise Rejected(_unanswered(waiting))
        if message.get("content") is None and not message.get("tool_calls"):
            raise Rejected(
                f"Invalid value for 'content': expected a string, got null. (messages[{place}])"
            )
        waiting = [call["id"] for call in message.get("tool_calls") or ()]
        for call in message.get("tool_calls") or ():
            json.loads(call["function"]["arguments"])
    if waiting:
        raise Rejected(_unanswered(waiting))


def _unanswered(ids: list[str]) -> str:
    return (
        "An assistant message with 'tool_calls' must be followed by tool messages responding to "
        "each 'tool_call_id'. The following tool_call_ids did not have response messages: "
        + ", ".join(ids)
    )


def check_responses(items: list[dict[str, Any]]) -> None:
    """As OpenAI's Responses refuse.

    Raises:
        Rejected: In the provider's words.
    """
    calls = [item["call_id"] for item in items if item.get("type") == "function_call"]
    outputs = [item["call_id"] for item in items if item.get("type") == "function_call_output"]
    for identity in calls:
        if identity not in outputs:
            raise Rejected(f"No tool output found for function call {identity}.")
    for identity in outputs:
        if identity not in calls:
            raise Rejected(f"No tool call found for function call output with call_id {identity}.")


def check_anthropic(messages: list[dict[str, Any]]) -> None:
    """As Anthropic refuses.

    Raises:
        Rejected: In the provider's words.
    """
    if not messages or messages[0].get("role") != "user":
        raise Rejected('messages: first message must use the "user" role')
    before: list[str] = []
    for place, message in enumerate(messages):
        content = message.get("content")
        blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
        for index, block in enumerate(blocks):
            if block.get("type") == "text" and not str(block.get("text", "")).strip():
                raise Rejected("messages: text content blocks must be non-empty")
            if block.get("type") == "tool_result":
                if block["tool_use_id"] not in before:
                    raise Rejected(
                        f"messages.{place}.content.{index}: unexpected `tool_use_id` found in "
                        f"`tool_result` blocks: {block['tool_use_id']}. Each `tool_result` block "
                        "must have a corresponding `tool_use` block in the previous message."
                    )
                before.remove(block["tool_use_id"])
        if before:
            raise Rejected(
                f"messages.{place}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {', '.join(before)}. Each `tool_use` block must have a "
                "corresponding `tool_result` block in the next message."
            )
        before = [block["id"] for block in blocks if block.get("type") == "tool_use"]
    if before:
        raise Rejected("messages: `tool_use` ids were found without `tool_result` blocks")


_SIGNED = "thoughtSignature"


def check_gemini(contents: list[dict[str, Any]]) -> None:
    """As Gemini refuses.

    Raises:
        Rejected: In the provider's words.
    """
    if not contents:
        raise Rejected("* GenerateContentRequest.contents: contents is not specified")
    before: dict[str, int] = {"user": 1}
    for place, content in enumerate(contents):
        where = f"* GenerateContentRequest.contents[{place}].parts"
        if content.get("role") not in ("user", "model"):
            raise Rejected("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise Rejected(f"{where}: contents.parts must not be empty.")
        holds = {"user": 0, "functionCall": 0, "functionResponse": 0}
        holds["user"] = int(content["role"] == "user")
        for index, given in enumerate(content["parts"]):
            if not any(given.values()):
                raise Rejected(
                    f"{where}[{index}].data: required oneof field 'data' must have one "
                    "initialized field"
                )
            if "functionCall" in given and not holds["functionCall"] and _SIGNED not in given:
                raise Rejected(
                    "Function call is missing a thought_signature in functionCall parts."
                )
            for kind in given.keys() & holds:
                holds[kind] += 1
        _check_turn(holds, before)
        before = holds
    if before["functionCall"] or not before["user"]:
        raise Rejected(
            "Please ensure that multiturn requests end with a user role or a function response."
        )


def _check_turn(turn: dict[str, int], before: dict[str, int]) -> None:
    """What a turn holds, against what the one before it does."""
    calls = before.get("functionCall", 0)
    if turn["functionCall"] and not before["user"]:
        raise Rejected(
            "Please ensure that function call turn comes immediately after a user turn or after a "
            "function response turn."
        )
    if turn["functionResponse"] and not calls:
        raise Rejected(
            "Please ensure that function response turn comes immediately after a function call "
            "turn."
        )
    if turn["functionResponse"] != calls:
        raise Rejected(
            "Please ensure that the number of function response parts is equal to the number of "
            "function call parts of the function call turn."
        )


def texts(value: Any) -> Iterator[str]:
    """Every text within a request."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


# --- the protocols --------------------------------------------------------------------------------


def chat(server: Server, body: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """A chat completion: the whole answer, and the same as a stream of events."""
    messages = body["messages"]
    check_chat(messages)
    server.accept(messages)
    turn = server.script.turn(list(texts(messages)))
    usage = {
        **_usage(server, "prompt_tokens", "completion_tokens"),
        "prompt_tokens_details": {"cached_tokens": server.cached[-1]},
    }
    base = {"id": "chatcmpl-1", "created": 1, "model": body.get("model", "stub")}
    if isinstance(turn, str):
        message: dict[str, Any] = {"role": "assistant", "content": turn}
        reason, deltas = "stop", [{"role": "assistant", "content": turn}]
    else:
        calls = [
            {"id": i, "type": "function", "function": {"name": n, "arguments": json.dumps(a)}}
            for i, n, a in turn
        ]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        reason = "tool_calls"
        deltas = [
            {"role": "assistant", "tool_calls": [{"index": index, **call}]}
            for index, call in enumerate(calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    whole = {**base, "object": "chat.completion", "choices": [choice], "usage": usage}
    chunk = {**base, "object": "chat.completion.chunk"}
    events: list[tuple[str, Any]] = [
        ("", {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        for delta in deltas
    ]
    events.append(("", {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}))
    if (body.get("stream_options") or {}).get("include_usage"):
        events.append(("", {**chunk, "choices": [], "usage": usage}))
    return whole, [*events, ("", "[DONE]")]


def responses(server: Server, body: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """A response of OpenAI's Responses: whole, and as a stream of events."""
    given = body["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    check_responses(items)
    server.accept(items, body.get("instructions"))
    turn = server.script.turn(list(texts(items)))
    number = len(server.sent)
    if isinstance(turn, str):
        part = {"type": "output_text", "text": turn, "annotations": []}
        output: list[dict[str, Any]] = [
            {
                "type": "message",
                "id": f"msg_{number}",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        ]
    else:
        output = [
            {
                "type": "function_call",
                "id": f"fc_{i}",
                "call_id": i,
                "name": n,
                "arguments": json.dumps(a),
                "status": "completed",
            }
            for i, n, a in turn
        ]
    usage = {
        **_usage(server, "input_tokens", "output_tokens"),
        "input_tokens_details": {"cached_tokens": server.cached[-1]},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    whole = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": body.get("model", "stub"),
        "output": output,
        "usage": usage,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "top_p": 1.0,
    }
    started = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[tuple[str, Any]] = [("response.created", {"response": started})]
    for index, item in enumerate(output):
        empty = {**item, "arguments": ""} if "arguments" in item else item
        events.append(("response.output_item.added", {"output_index": index, "item": empty}))
        if item["type"] == "function_call":
            where = {"item_id": item["id"], "output_index": index}
            said = item["arguments"]
            events.append(("response.function_call_arguments.delta", {**where, "delta": said}))
            events.append(("response.function_call_arguments.done", {**where, "arguments": said}))
        else:
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            part = item["content"][0]
            events.append(("response.content_part.added", {**where, "part": {**part, "text": ""}}))
            events.append(
                ("response.output_text.delta", {**where, "delta": part["text"], "logprobs": []})
            )
            events.append(
                ("response.output_text.done", {**where, "text": part["text"], "logprobs": []})
            )
            events.append(("response.content_part.done", {**where, "part": part}))
        events.append(("response.output_item.done", {"output_index": index, "item": item}))
    events.append(("response.completed", {"response": whole}))
    return whole, [
        (name, {"type": name, "sequence_number": n, **data})
        for n, (name, data) in enumerate(events)
    ]


def anthropic(server: Server, body: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """An Anthropic message: whole, and as a stream of events."""
    messages = body["messages"]
    check_anthropic(messages)
    server.accept(messages, body.get("system"))
    turn = server.script.turn(list(texts(messages)))
    read, written = server.cached[-1], server.tokens[-1] // 4
    usage = {
        "input_tokens": server.tokens[-1] - read - written,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": 20,
    }
    if isinstance(turn, str):
        content: list[dict[str, Any]] = [{"type": "text", "text": turn}]
        reason = "end_turn"
    else:
        content = [{"type": "tool_use", "id": i, "name": n, "input": a} for i, n, a in turn]
        reason = "tool_use"
    whole = {
        "id": f"msg_{len(server.sent)}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stub"),
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage,
    }
    start = {**whole, "content": [], "stop_reason": None}
    events: list[tuple[str, Any]] = [("message_start", {"message": start})]
    for index, block in enumerate(content):
        empty = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        delta = (
            {"type": "text_delta", "text": block["text"]}
            if block["type"] == "text"
            else {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        )
        events.append(("content_block_start", {"index": index, "content_block": empty}))
        events.append(("content_block_delta", {"index": index, "delta": delta}))
        events.append(("content_block_stop", {"index": index}))
    end = {"stop_reason": reason, "stop_sequence": None}
    events.append(("message_delta", {"delta": end, "usage": usage}))
    events.append(("message_stop", {}))
    return whole, [(name, {"type": name, **data}) for name, data in events]


def gemini(server: Server, body: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Gemini's content: whole, and as a stream. Calls have no ids, and a turn's first is signed."""
    contents = body.get("contents") or []
    check_gemini(contents)
    server.accept(contents, body.get("systemInstruction"))
    turn = server.script.turn(list(texts(contents)))
    parts: list[dict[str, Any]] = (
        [{"text": turn}]
        if isinstance(turn, str)
        else [{"functionCall": {"name": n, "args": a}} for _, n, a in turn]
    )
    if not isinstance(turn, str):
        parts[0][_SIGNED] = "c2lnbmVk"
    usage = {
        "promptTokenCount": server.tokens[-1],
        "cachedContentTokenCount": server.cached[-1],
        "candidatesTokenCount": 20,
        "totalTokenCount": server.tokens[-1] + 20,
    }
    about = {
        "modelVersion": server.model,
        "responseId": f"r{len(server.sent)}",
        "usageMetadata": usage,
    }

    def piece(held: list[dict[str, Any]], **end: Any) -> dict[str, Any]:
        return {"candidates": [{"content": {"role": "model", "parts": held}, **end}], **about}

    events: list[tuple[str, Any]] = [("", piece([part])) for part in parts[:-1]]
    if isinstance(turn, str):
        events += [("", piece([{"text": turn[:4]}]))]
    last = [{"text": turn[4:]}] if isinstance(turn, str) else parts[-1:]
    return piece(parts, finishReason="STOP"), [*events, ("", piece(last, finishReason="STOP"))]


def _usage(server: Server, prompt: str, completion: str) -> dict[str, int]:
    tokens = server.tokens[-1]
    return {prompt: tokens, completion: 20, "total_tokens": tokens + 20}


_PATHS = {
    "/v1/chat/completions": chat,
    "/v1/responses": responses,
    "/v1/messages": anthropic,
    "generateContent": gemini,  # after the model's name and a colon
    "streamGenerateContent": gemini,
}


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_parts: Any) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.fail:
                self._answer(server.fail.pop(0), _error("try again later"))
                return
            path = self.path.partition("?")[0]
            server.model = body.get("model") or path.rpartition("/")[2].partition(":")[0]
            try:
                whole, events = _PATHS[path.rpartition(":")[2]](server, body)
            except Rejected as refused:
                server.rejected.append(str(refused))
                self._answer(400, _error(str(refused)))
                return
            if not (body.get("stream") or path.endswith(":streamGenerateContent")):
                self._answer(200, whole)
                return
            lines = [
                (f"event: {name}\n" if name else "")
                + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
                for name, data in events
            ]
            self._send(200, "".join(lines).encode(), "text/event-stream")

        def _answer(self, status: int, value: Any) -> None:
            self._send(status, json.dumps(value).encode(), "application/json")

        def _send(self, status: int, payload: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    return Handler


def _error(message: str) -> dict[str, Any]:
    return {
        "type": "error",
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None},
    }
