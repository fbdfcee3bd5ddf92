"""The one place that knows the providers' message forms.

A message may be an OpenAI chat message or Responses item, an Anthropic message with blocks, a
Google content with parts, a Bedrock Converse message, or a framework's own object with
attributes of those names. Nothing here raises on odd input: it gives its best guess. Nothing
here changes a message that it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from .blocks import Part
from .compact import Binary, compact_json
from .forms import ROLES, Role, is_message, parts, role_of
from .patch import mapped, mapped_json, replaced

M = TypeVar("M")

__all__ = [
    "Binary",
    "Call",
    "Facts",
    "Role",
    "facts",
    "is_message",
    "rewrite",
    "rewrite_arguments",
    "texts",
]


class Call(NamedTuple):
    """A tool call: its id (or its name, where the form has no ids), name, arguments as text."""

    id: str
    name: str
    arguments_text: str


class Facts(NamedTuple):
    """What must be known of a message to keep a history valid.

    Args:
        role: Who speaks: ``system`` (``developer`` too), ``user``, ``assistant`` or ``tool``.
        kind: The role, but ``tool`` for a user's message that holds tool results only.
        calls: Tool calls that a later message must answer, in order.
        results: Ids of the calls it answers, in order.
        signed: It holds thinking that is kept whole or dropped whole.
    """

    role: Role
    kind: str
    calls: tuple[Call, ...] = ()
    results: tuple[str, ...] = ()
    signed: bool = False


# Facts of a message that is only a role and text, shared: facts() is on the append path.
_PLAIN: dict[str, Facts] = {name: Facts(role, role) for name, role in ROLES.items()}


def facts(message: Any) -> Facts:
    """Role, kind, calls, answered calls and signature of a message. Never raises.

    >>> facts({"role": "developer", "content": "Be brief."})
    Facts(role='system', kind='system', calls=(), results=(), signed=False)
    >>> facts({"role": "tool", "tool_call_id": "c1", "content": "42"}).results
    ('c1',)
    """
    try:
        if type(message) is dict and len(message) == 2 and type(message["content"]) is str:
            return _PLAIN[message["role"]]
    except Exception:  # noqa: S110  # not that plain: read it in full below
        pass
    return _facts(message)


def _facts(message: Any) -> Facts:
    calls: list[Call] = []
    results: list[str] = []
    signed = outside = False
    for part in parts(message):
        if part.kind == "call":
            calls.append(Call(part.id, part.name, _arguments_text(part.value)))
        elif part.kind == "answer" and part.id:
            results.append(part.id)
        elif part.kind == "thinking":
            signed = True
        outside = outside or not (part.inner or part.kind == "answer")
    role = role_of(message) or _guessed_role(calls, results, signed)
    kind = "tool" if role == "user" and results and not outside else role
    return Facts(role, kind, tuple(calls), tuple(results), signed)


def _guessed_role(calls: list[Call], results: list[str], signed: bool) -> Role:
    if calls or signed:
        return "assistant"
    return "tool" if results else "user"


def texts(message: Any) -> Iterator[str | Binary]:
    """All of a message that is counted: text as it is, binary as a marker. Never raises.

    Content, names, tool calls' arguments as sent, tool results, refusals and thinking count;
    roles, ids, cache keys, signatures and encrypted payloads do not.

    >>> call = {"id": "c1", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}
    >>> list(texts({"role": "assistant", "content": None, "tool_calls": [call]}))
    ['read', '{"path": "a.py"}']
    """
    plain = _plain_text(message)
    if plain is not None:
        if plain:
            yield plain
        return
    for part in parts(message):
        if part.kind == "echo":
            continue
        if part.name:
            yield part.name
        if part.kind in ("call", "json") and not isinstance(part.value, str):
            if part.value is not None:
                text, binaries, _ = compact_json(part.value)
                yield text
                yield from binaries
        elif part.value:
            yield part.value


_PLAIN_KEYS = frozenset({"role", "content", "tool_call_id"})


def _plain_text(message: Any) -> str | None:
    """The text of a message that is nothing but text: a shortcut for most of them."""
    try:
        if type(message) is dict and message.keys() <= _PLAIN_KEYS:
            text = message["content"]
            return text if type(text) is str else None
    except Exception:  # noqa: S110  # not that plain: read it in full
        pass
    return None


def _arguments_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else compact_json(value).text


def rewrite(message: M, text_fn: Callable[[str], str], *, results_only: bool = False) -> M:
    """A message with prose and tool outputs passed through `text_fn`, or tool outputs alone.

    Arguments, names, ids, thinking, refusals and binary stay. A tool result that is a JSON-like
    value keeps its structure: each string in it is passed. The message given stays as it was;
    the same object comes back if nothing changed or it cannot be changed in a copy.

    Raises:
        Exception: Only what `text_fn` itself raises.

    >>> rewrite({"role": "tool", "tool_call_id": "c1", "content": "a" * 99}, lambda text: text[:3])
    {'role': 'tool', 'tool_call_id': 'c1', 'content': 'aaa'}
    """
    edits = [
        (part, mapped(part.value, text_fn))
        for part in list(parts(message))
        if part.kind in ("text", "json") and (part.inner or not results_only)
    ]
    return _edited(message, edits)


def rewrite_arguments(message: M, fn: Callable[[str], str]) -> M:
    """A message with each string inside its tool calls' arguments passed through `fn`.

    Arguments sent as JSON text stay JSON text, with the same structure, so that the message
    stays valid; arguments that are no JSON stay as they are.

    Raises:
        Exception: Only what `fn` itself raises.

    >>> call = {"type": "function_call", "call_id": "1", "name": "w", "arguments": '{"s": "long"}'}
    >>> rewrite_arguments(call, lambda text: "…")["arguments"]
    '{"s":"…"}'
    """
    edits = []
    for part in list(parts(message)):
        if part.kind in ("call", "echo") and part.path:
            change = mapped_json if isinstance(part.value, str) else mapped
            edits.append((part, change(part.value, fn)))
    return _edited(message, edits)


def _edited(message: M, edits: list[tuple[Part, Any]]) -> M:
    edited = message
    for part, value in edits:
        if value is not part.value:
            try:
                edited = replaced(edited, part.path, value)
            except Exception:  # noqa: S112  # a form that cannot be copied stays whole
                continue
    return edited
