"""Anthropic's messages with blocks, as chat messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .drafts import Message, Told
from .texts import (
    Part,
    answer_of,
    assistant_of,
    call_of,
    content_of,
    data_url,
    image_part,
    text_part,
    unknown_part,
)

_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_THOUGHTS = ("thinking", "redacted_thinking")

Said = tuple[Message, dict[str, Any]]
"""A chat message, and what is noted beside it."""


def has_blocks(message: Mapping[str, Any]) -> bool:
    """Whether a message has blocks that are Anthropic's alone."""
    content = message.get("content")
    return isinstance(content, list) and any(
        isinstance(block, Mapping)
        and (
            block.get("type") in (*_CALLS, *_THOUGHTS, "tool_result", "document")
            or isinstance(block.get("source"), Mapping)
            or "cache_control" in block
        )
        for block in content
    )


class Blocks:
    """Reads messages one after the other; a result is told its tool's name by its call.

    Args:
        told: Where to tell what is not known.
    """

    def __init__(self, told: Told) -> None:
        self._told = told
        self._names: dict[str, str] = {}

    def read(self, message: Mapping[str, Any]) -> Iterator[Said]:
        """A message as chat messages: each tool result is one of its own."""
        content = message.get("content")
        blocks = [text_part(content)] if isinstance(content, str) else content
        blocks = [block for block in blocks or () if isinstance(block, Mapping)]
        if message.get("role") == "assistant":
            yield from self._assistant(blocks)
        else:
            yield from self._user(str(message.get("role")), blocks)

    def _assistant(self, blocks: list[Mapping[str, Any]]) -> Iterator[Said]:
        parts: list[Part] = []
        calls: list[dict[str, Any]] = []
        thoughts: list[str] = []
        answers: list[Message] = []
        for block in blocks:
            kind = str(block.get("type"))
            if kind in _CALLS:
                self._names[str(block.get("id"))] = str(block.get("name"))
                calls.append(call_of(block.get("id"), block.get("name"), block.get("input")))
            elif kind in _THOUGHTS:
                thoughts.append(str(block.get("thinking") or ""))
            elif kind.endswith("_tool_result"):  # of a tool that the provider runs itself
                answers.append(self._answer(block)[0])
            else:
                parts.append(self._part(block))
        notes = {"thinking": "\n".join(thoughts)} if thoughts else {}
        yield assistant_of(parts, calls), notes
        yield from ((answer, {}) for answer in answers)

    def _user(self, role: str, blocks: list[Mapping[str, Any]]) -> Iterator[Said]:
        parts: list[Part] = []
        for block in blocks:
            if block.get("type") != "tool_result":
                parts.append(self._part(block))
                continue
            if parts:
                yield {"role": role, "content": content_of(parts)}, {}
                parts = []
            yield self._answer(block)
        if parts or not blocks:
            content = content_of(parts)
            yield {"role": role, "content": "" if content is None else content}, {}

    def _answer(self, block: Mapping[str, Any]) -> Said:
        identity = str(block.get("tool_use_id"))
        held = block.get("content")
        if isinstance(held, list):
            parts = [self._part(b) if isinstance(b, Mapping) else text_part(str(b)) for b in held]
            held = content_of(parts)
        elif held is not None and not isinstance(held, str):
            held = self._part(held)["text"] if isinstance(held, Mapping) else str(held)
        notes = {"is_error": True} if block.get("is_error") else {}
        return answer_of(identity, self._names.get(identity), held), notes

    def _part(self, block: Mapping[str, Any]) -> Part:
        kind, source = block.get("type"), block.get("source")
        if kind == "text" and isinstance(block.get("text"), str):
            return text_part(block["text"])
        if isinstance(source, Mapping) and kind in ("image", "document"):
            if source.get("type") == "text":
                return text_part(str(source.get("data")))
            address = source.get("url") or data_url(source.get("media_type"), source.get("data"))
            if kind == "image":
                return image_part(str(address))
            return {"type": "file", "file": {"file_data": address}}
        return unknown_part(block, self._told)
