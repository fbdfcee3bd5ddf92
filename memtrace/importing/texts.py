"""What the providers' forms have in common: texts, contents, calls and usage of chat messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .drafts import Message, Told

Part = dict[str, Any]


def compact(value: Any) -> str:
    """A value as text: itself if it is text, else as compact JSON.

    >>> compact("a"), compact({"b": [1]}), compact(None)
    ('a', '{"b": [1]}', '')
    """
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def text_part(text: str) -> Part:
    """A part of a content that is text."""
    return {"type": "text", "text": text}


def content_of(parts: Sequence[Part]) -> Any:
    """Parts as a chat message's content: one text as it is, nothing as None.

    >>> content_of([text_part("a")]), content_of([])
    ('a', None)
    """
    if not parts:
        return None
    if len(parts) == 1 and parts[0].get("type") == "text":
        return parts[0]["text"]
    return list(parts)


def image_part(url: str) -> Part:
    """A picture, by its address or as a ``data:`` URL."""
    return {"type": "image_url", "image_url": {"url": url}}


def data_url(media_type: Any, base64: Any) -> str:
    """Binary as an address."""
    return f"data:{media_type or 'application/octet-stream'};base64,{base64}"


def unknown_part(block: Mapping[str, Any], told: Told) -> Part:
    """A part of a kind that is not known here: kept as JSON."""
    told.tell(f"parts of type {block.get('type')!r}, kept as JSON text")
    return text_part(compact(dict(block)))


def call_of(identity: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A tool call of a chat message."""
    arguments = "{}" if arguments is None else compact(arguments)
    function = {"name": str(name or ""), "arguments": arguments}
    return {"id": str(identity or ""), "type": "function", "function": function}


def answer_of(identity: Any, name: Any, content: Any) -> Message:
    """A tool's answer as a chat message."""
    answer: Message = {"role": "tool", "tool_call_id": str(identity or "")}
    if name:
        answer["name"] = str(name)
    answer["content"] = "" if content is None else content
    return answer


def assistant_of(parts: Sequence[Part], calls: Sequence[dict[str, Any]]) -> Message:
    """An assistant's message."""
    message: Message = {"role": "assistant", "content": content_of(parts)}
    if calls:
        message["tool_calls"] = list(calls)
    elif message["content"] is None:
        message["content"] = ""
    return message


def usage_of(usage: Any) -> dict[str, int] | None:
    """What a provider billed, as the session format has it: ``input`` without what was cached.

    >>> usage_of({"prompt_tokens": 90, "completion_tokens": 5,
    ...     "prompt_tokens_details": {"cached_tokens": 64}})
    {'input': 26, 'cache_read': 64, 'cache_write': 0, 'output': 5}
    >>> usage_of({"input_tokens": 26, "output_tokens": 5, "cache_read_input_tokens": 64})
    {'input': 26, 'cache_read': 64, 'cache_write': 0, 'output': 5}
    """
    if not isinstance(usage, Mapping):
        return None
    sent = _first(usage, "input_tokens", "prompt_tokens")
    if sent is None:
        return None
    details = _first_mapping(usage, "input_tokens_details", "prompt_tokens_details")
    within = _first(usage, "cached_input_tokens") or _first(details, "cached_tokens") or 0
    beside = _first(usage, "cache_read_input_tokens") or 0  # Anthropic counts it beside the input
    return {
        "input": max(0, sent - within),
        "cache_read": within + beside,
        "cache_write": _first(usage, "cache_creation_input_tokens") or 0,
        "output": _first(usage, "output_tokens", "completion_tokens") or 0,
    }


def _first(holder: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = holder.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _first_mapping(holder: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    found = (holder.get(name) for name in names)
    return next((value for value in found if isinstance(value, Mapping)), {})
