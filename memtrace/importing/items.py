"""OpenAI's Responses items, one after the other, as chat messages: also what Codex records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .drafts import Message, Told
from .texts import (
    Part,
    answer_of,
    assistant_of,
    call_of,
    compact,
    content_of,
    image_part,
    text_part,
    unknown_part,
)

_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")
_HOSTED = (
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "computer_call",
    "image_generation_call",
    "mcp_call",
    "tool_search_call",
)
"""Calls of tools that the provider runs: what they gave is not always recorded."""

Say = Callable[[Message, dict[str, Any]], None]


def is_item(value: Mapping[str, Any]) -> bool:
    """Whether a value is a Responses item other than a message."""
    kind = str(value.get("type"))
    return "role" not in value and (kind == "reasoning" or kind.endswith(("_call", "_call_output")))


class Items:
    """Joins what belongs to one reply: its text and the calls that follow it.

    Args:
        say: Takes each message when it is complete, and what is noted beside it.
        told: Where to tell what is left out.
    """

    def __init__(self, say: Say, told: Told) -> None:
        self._say, self._told = say, told
        self._names: dict[str, str] = {}
        self._reply: Message | None = None
        self._notes: dict[str, Any] = {}

    def read(self, item: Mapping[str, Any]) -> None:
        """The next item."""
        kind = str(item.get("type") or "message")
        if kind == "message":
            self._message(item)
        elif kind in ("function_call", "custom_tool_call", "local_shell_call", *_HOSTED):
            self._call(kind, item)
        elif kind.endswith(("_call_output", "_search_output")):
            self._answer(item)
        elif kind == "reasoning":
            self._thought(item)
        else:
            self._told.tell(f"items of type {kind!r}")

    def note(self, **notes: Any) -> None:
        """Note something beside the reply that is being read, if one is."""
        if self._reply is not None:
            self._notes.update(notes)

    def end(self) -> None:
        """What was read so far is complete."""
        if self._reply is not None:
            reply, notes = self._reply, self._notes
            self._reply, self._notes = None, {}
            self._say(reply, notes)

    def _message(self, item: Mapping[str, Any]) -> None:
        content = item.get("content")
        if isinstance(content, str):
            parts = [text_part(content)]
        else:
            blocks = content if isinstance(content, list) else []
            parts = [self._part(block) for block in blocks if isinstance(block, Mapping)]
        if item.get("role") != "assistant":
            self.end()
            held = content_of(parts)
            self._say({"role": str(item.get("role")), "content": "" if held is None else held}, {})
        elif self._reply is not None and self._reply.get("tool_calls"):
            # A call's answer follows the call at once: a text in between belongs before it.
            held = self._reply["content"]
            before = [text_part(held)] if isinstance(held, str) else list(held or ())
            self._reply["content"] = content_of([*before, *parts])
        else:
            self._begin(parts)

    def _begin(self, parts: list[Part]) -> None:
        notes = self._notes if self._reply is None else {}
        self.end()
        self._reply, self._notes = assistant_of(parts, ()), notes

    def _call(self, kind: str, item: Mapping[str, Any]) -> None:
        identity = item.get("call_id") or item.get("id")
        name = item.get("name") or kind.removesuffix("_call")
        given = next((item[key] for key in ("arguments", "input", "action") if key in item), None)
        call = call_of(identity, name, given)
        if kind == "custom_tool_call":
            call = {"id": call["id"], "type": "custom"}
            call["custom"] = {"name": str(name), "input": compact(given)}
        self._names[str(identity)] = str(name)
        if self._reply is None:
            self._begin([])
        assert self._reply is not None
        if self._reply["content"] == "":
            self._reply["content"] = None
        self._reply.setdefault("tool_calls", []).append(call)
        if kind in _HOSTED and item.get("output") is not None:
            self._answer({"call_id": identity, "output": item["output"]})

    def _answer(self, item: Mapping[str, Any]) -> None:
        self.end()
        identity = item.get("call_id") or item.get("id")
        given = next((item[key] for key in ("output", "tools") if key in item), None)
        if isinstance(given, Mapping) and isinstance(given.get("content"), (str, list)):
            given = given["content"]
        if isinstance(given, list) and all(isinstance(block, Mapping) for block in given):
            given = content_of([self._part(block) for block in given])
        elif given is not None and not isinstance(given, str):
            given = compact(given)
        self._say(answer_of(identity, self._names.get(str(identity)), given), {})

    def _thought(self, item: Mapping[str, Any]) -> None:
        if self._reply is not None and self._reply.get("tool_calls"):
            self.end()  # a model thinks before it speaks: this is the next reply
        texts = [
            str(block.get("text"))
            for key in ("summary", "content")
            for block in item.get(key) or ()
            if isinstance(block, Mapping) and block.get("text")
        ]
        if texts:
            self._notes.setdefault("thinking", "\n".join(texts))
        else:
            self._told.tell("thoughts that are encrypted")

    def _part(self, block: Mapping[str, Any]) -> Part:
        kind = block.get("type")
        if kind in _TEXTS and isinstance(block.get("text"), str):
            return text_part(block["text"])
        if kind == "input_image" and isinstance(block.get("image_url"), str):
            return image_part(block["image_url"])
        if kind == "input_file":
            file = {key: value for key, value in block.items() if key != "type"}
            return {"type": "file", "file": file}
        if kind == "refusal":
            return text_part(str(block.get("refusal")))
        return unknown_part(block, self._told)
