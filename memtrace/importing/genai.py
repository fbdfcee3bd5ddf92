"""Messages in the words of OpenTelemetry's GenAI conventions, as chat messages.

The forms that there are: ``gen_ai.input.messages`` with parts; ``gen_ai.prompt.N.role`` and the
like, one attribute a field (also ``llm.input_messages.N.message.role``); events, one a message.
Source: OpenTelemetry's semantic conventions for generative AI, and those of OpenLLMetry and
OpenInference.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .conversations import Said
from .drafts import Message, Told
from .texts import (
    Part,
    answer_of,
    assistant_of,
    call_of,
    compact,
    content_of,
    data_url,
    image_part,
    text_part,
    unknown_part,
)

_FLAT = {
    "in": re.compile(r"(?:gen_ai\.prompt|llm\.input_messages)\.(\d+)\.(.+)"),
    "out": re.compile(r"(?:gen_ai\.completion|llm\.output_messages)\.(\d+)\.(.+)"),
}
_CALL = re.compile(r"tool_calls\.(\d+)\.(?:tool_call\.)?(?:function\.)?(id|name|arguments)")
_QUIET = ("finish_reason", "refusal")


def from_json(value: Any) -> Any:
    """An attribute that may be JSON in a text, as what it says."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def from_messages(value: Any, told: Told, role: str = "user") -> list[Said]:
    """What ``gen_ai.input.messages`` or ``gen_ai.output.messages`` holds; ``role`` where none is
    given."""
    value = from_json(value)
    if isinstance(value, str):
        return [({"role": role, "content": value}, {})]
    messages = value if isinstance(value, list) else [value]
    return [
        said
        for message in messages
        if isinstance(message, Mapping)
        for said in _message(message, str(message.get("role") or role), told)
    ]


def _message(message: Mapping[str, Any], role: str, told: Told) -> Iterator[Said]:
    if not isinstance(message.get("parts"), list):
        yield chat_message(message, role), {}
        return
    parts: list[Part] = []
    calls: list[dict[str, Any]] = []
    answers: list[Message] = []
    thoughts: list[str] = []
    for part in message["parts"]:
        if not isinstance(part, Mapping):
            continue
        kind = part.get("type")
        if kind == "tool_call":
            calls.append(call_of(part.get("id"), part.get("name"), part.get("arguments")))
        elif kind == "tool_call_response":
            given = part.get("response", part.get("result"))
            answers.append(answer_of(part.get("id"), part.get("name"), compact(given)))
        elif kind in ("reasoning", "thinking"):
            thoughts.append(str(part.get("content") or ""))
        else:
            parts.append(_part(part, told))
    notes = {"thinking": "\n".join(thoughts)} if thoughts else {}
    if role == "assistant":
        yield assistant_of(parts, calls), notes
    elif parts:
        yield {"role": role if role != "tool" else "user", "content": content_of(parts)}, notes
    yield from ((answer, {}) for answer in answers)


def _part(part: Mapping[str, Any], told: Told) -> Part:
    kind = part.get("type")
    if kind == "text":
        return text_part(compact(part.get("content", part.get("text"))))
    picture = part.get("modality") == "image"
    if kind in ("blob", "uri"):
        media = part.get("mime_type")
        held = part.get("content", part.get("data"))
        address = str(part.get("uri")) if kind == "uri" else data_url(media, held)
        return image_part(address) if picture else {"type": "file", "file": {"file_data": address}}
    return unknown_part(part, told)


def chat_message(given: Mapping[str, Any], role: str) -> Message:
    """A message of other keys than parts, in chat form."""
    content = from_json(given.get("content"))
    if not isinstance(content, (str, list)) and content is not None:
        content = compact(content)
    if isinstance(content, list) and not all(isinstance(p, Mapping) for p in content):
        content = compact(content)
    role = str(given.get("role") or role)
    if role == "tool":
        return answer_of(given.get("tool_call_id") or given.get("id"), given.get("name"), content)
    message: Message = {"role": role, "content": content}
    calls = from_json(given.get("tool_calls"))
    if isinstance(calls, list) and calls:
        message["tool_calls"] = [_call(call) for call in calls if isinstance(call, Mapping)]
    elif content is None:
        message["content"] = ""
    return message


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    held = function if isinstance(function, Mapping) else call
    return call_of(call.get("id"), held.get("name"), held.get("arguments"))


def from_flat(attributes: Mapping[str, Any], side: str, told: Told) -> list[Said]:
    """Messages whose fields are attributes of their own; ``side``: ``in`` or ``out``."""
    found: dict[int, dict[str, Any]] = {}
    calls: dict[int, dict[int, dict[str, Any]]] = {}
    for key, value in attributes.items():
        if (match := _FLAT[side].fullmatch(key)) is None:
            continue
        number, name = int(match[1]), match[2].removeprefix("message.")
        message = found.setdefault(number, {})
        if called := _CALL.fullmatch(name):
            calls.setdefault(number, {}).setdefault(int(called[1]), {})[called[2]] = value
        elif name in ("role", "content", "tool_call_id", "name"):
            message[name] = value
        elif name not in _QUIET:
            told.tell(f"attributes {re.sub(r'[0-9]+', 'N', key)}")
    default = "user" if side == "in" else "assistant"
    said: list[Said] = []
    for number in sorted(found):
        held = calls.get(number, {})
        listed = [held[place] for place in sorted(held)]
        said.append((chat_message({**found[number], "tool_calls": listed}, default), {}))
    return said


_ROLES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": "assistant",
}
"""Names of events that are a message each, and who speaks in it."""


def from_event(name: str, body: Mapping[str, Any], told: Told) -> tuple[str, list[Said]]:
    """On which side of a model call an event's messages stand, and these; none: it has none."""
    side = "out" if name == "gen_ai.choice" else "in"
    body = {key: from_json(value) for key, value in body.items()}
    held = body.get("gen_ai.event.content")
    body = {**body, **held} if isinstance(held, Mapping) else body
    if name == "gen_ai.choice" and isinstance(body.get("message"), Mapping):
        body = {**body["message"], "role": "assistant"}
    if role := _ROLES.get(name):
        return side, [(chat_message(body, role), {})]
    for key, at, speaker in (
        ("gen_ai.prompt", "in", "user"),
        ("gen_ai.completion", "out", "assistant"),
    ):
        if key in body:
            return at, from_messages(body[key], told, speaker)
    return side, []
