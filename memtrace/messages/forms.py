"""Which form a value that may be a message has, who speaks in it, and the parts it has.

:mod:`memtrace.messages.blocks` reads contents; this module reads what stands around them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ..values import Item
from .blocks import (
    Part,
    block_parts,
    call_part,
    content_parts,
    field,
    safely,
    type_of,
    word,
)
from .words import CALL_TYPES, HOSTED_TYPES, RESULT_TYPES, THINKING_TYPES

Role = Literal["system", "user", "assistant", "tool"]

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
}
# Frameworks' objects that name their form instead of a role.
_OBJECT_TYPES: dict[str, Role] = {
    **ROLES,
    "humanmessagechunk": "user",
    "aimessagechunk": "assistant",
    "systemmessagechunk": "system",
    "toolmessagechunk": "tool",
    "functionmessagechunk": "tool",
    "request": "user",
    "response": "assistant",
}
_ITEM_TYPES = CALL_TYPES | RESULT_TYPES | THINKING_TYPES | HOSTED_TYPES
# Types that are blocks of a message only; a mapping of that type is no message by itself.
_ITEMS_ALONE = (
    _ITEM_TYPES
    - {"tool_use", "tool_result", "tool_call", "thinking"}
    - {"redacted_thinking", "tool-call", "tool-result", "tool-return"}
)
_BODIES = ("content", "tool_calls", "parts", "function_call", "blocks")


def is_message(value: object) -> bool:
    """Whether a value is a message of any known form. Never raises.

    >>> is_message({"role": "user", "content": "hi"}), is_message({"role": "admin"})
    (True, False)
    >>> is_message({"type": "function_call", "name": "read", "arguments": "{}", "call_id": "1"})
    True
    """
    try:
        if type(value) is dict and "role" in value and "content" in value:
            return True
        if isinstance(value, Mapping):
            if "role" in value and any(body in value for body in _BODIES):
                return True
            if value.get("kind") in ("request", "response"):  # pydantic-ai's, as plain data
                return _is_list(value.get("parts"))
            return word(value.get("type")) in _ITEMS_ALONE
        return _is_message_object(value)
    except Exception:
        return False


def _is_message_object(value: Any) -> bool:
    if isinstance(value, (str, bytes, int, float, list, tuple, type, Item)) or value is None:
        return False
    if type_of(value) in _ITEMS_ALONE:
        return True
    if all(field(value, body) is None for body in _BODIES):
        # An assistant's answer may be an object whose content is None and whose calls are empty.
        return bool(word(field(value, "role"))) and hasattr(value, "content")
    return bool(word(field(value, "role"))) or _object_type(value) in _OBJECT_TYPES


def _object_type(value: Any) -> str:
    return (type_of(value) or word(field(value, "kind"))).lower()


def role_of(message: Any) -> Role | None:
    """Who speaks, as far as the message itself says so."""
    role = word(field(message, "role")).lower()
    if role:
        return ROLES.get(role)
    kind = type_of(message)
    if kind in RESULT_TYPES:
        return "tool"
    if kind in _ITEM_TYPES:
        return "assistant"
    return _OBJECT_TYPES.get(_object_type(message))


def parts(message: Any) -> Iterator[Part]:
    """The parts of a message in the order in which they stand. Never raises."""
    return safely(_read(message))


def _read(message: Any) -> Iterator[Part]:
    role = word(field(message, "role"))
    if not role and type_of(message) in _ITEM_TYPES:
        yield from block_parts(message, (), False, ())
        return
    if name := word(field(message, "name")):
        yield Part("fixed", name)
    answering = role_of(message) == "tool"
    if answering:
        extra = field(message, "additional_kwargs")
        asked = field(message, "tool_call_id") or field(extra, "tool_call_id")
        yield Part("answer", id=word(asked) or name)
    told: set[str] = set()
    body = next((key for key in ("blocks", "parts") if _is_list(field(message, key))), "content")
    for part in content_parts(field(message, body), (body,), answering, ()):
        if part.kind == "call":
            told.add(part.id)
        yield part
    yield from _beside_content(message, told)


def _is_list(value: object) -> bool:
    return isinstance(value, (list, tuple))


def _beside_content(message: Any, told: set[str]) -> Iterator[Part]:
    """Calls, refusals and thinking that stand beside the content. `told`: calls read in it."""
    if refusal := word(field(message, "refusal")):
        yield Part("fixed", refusal)
    if thought := word(field(message, "reasoning_content")):
        yield Part("thinking", thought)
    for holder, path in (
        (message, ()),
        (field(message, "additional_kwargs"), ("additional_kwargs",)),
    ):
        calls = field(holder, "tool_calls") if holder is not None else None
        if not isinstance(calls, (list, tuple)):
            continue
        read = [call_part(call, (*path, "tool_calls", i)) for i, call in enumerate(calls)]
        for part in read:
            yield part._replace(kind="echo") if part.id in told else part
        told = told | {part.id for part in read}
    legacy = field(message, "function_call")
    if legacy is not None:
        yield call_part(legacy, ("function_call",))
