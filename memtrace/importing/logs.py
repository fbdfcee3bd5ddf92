"""Message logs of OpenAI's and Anthropic's clients.

An array of messages, or JSON Lines of messages, is one conversation. Requests and replies, one a
line or together in one, as a proxy, a batch or a fine-tuning file has them, are put together to
the conversations that they are of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .blocks import Blocks, has_blocks
from .conversations import Conversations, Said
from .drafts import Draft, Told
from .items import Items, is_item
from .sources import Source
from .texts import usage_of

OPENAI, ANTHROPIC = "openai", "anthropic"

_WRAPPERS = ("request", "response", "body", "params", "kwargs", "result")
_NAMES = ("conversation_id", "session_id", "thread_id")


def is_log(value: Mapping[str, Any]) -> bool:
    """Whether a value is a message, a request, a reply, or has one of these in it."""
    return (
        (isinstance(value.get("role"), str) and _has(value, "content", "tool_calls"))
        or _is_request(value)
        or _is_reply(value)
        or is_item(value)
        or any(isinstance(w, Mapping) and is_log(w) for w in map(value.get, _WRAPPERS))
    )


def is_anthropic(value: Mapping[str, Any]) -> bool:
    """Whether a log's value has what only Anthropic's have."""
    messages = value.get("messages")
    listed = [m for m in messages if isinstance(m, Mapping)] if isinstance(messages, list) else []
    return (
        has_blocks(value)
        or (value.get("type") == "message" and "stop_reason" in value)
        or ("messages" in value and "system" in value)
        or any(map(has_blocks, listed))
        or any(isinstance(w, Mapping) and is_anthropic(w) for w in map(value.get, _WRAPPERS))
    )


def _has(value: Mapping[str, Any], *names: str) -> bool:
    return any(name in value for name in names)


def _is_request(value: Mapping[str, Any]) -> bool:
    if isinstance(value.get("messages"), list):
        return True
    return "input" in value and _has(value, "model", "instructions", "previous_response_id")


def _is_reply(value: Mapping[str, Any]) -> bool:
    return (
        isinstance(value.get("choices"), list)
        or isinstance(value.get("output"), list)
        or (value.get("type") == "message" and "stop_reason" in value)
    )


class Log:
    """Reads a log.

    Args:
        source: The file.
        name: ``openai`` (messages stay as they are) or ``anthropic`` (blocks become chat form).
        told: Where to tell what is left out.
    """

    def __init__(self, source: Source, name: str, told: Told) -> None:
        self._source, self._name, self._told = source, name, told
        self._blocks = Blocks(told)
        self._found = Conversations(source.path.stem, name, told)
        self._alone: list[Said] = []
        self._bare: Draft | None = None
        self._bare_items: Items | None = None

    def read(self) -> list[Draft]:
        """Its conversations, the first first."""
        for place, value in self._source:
            self._value(place, value, "")
        if self._bare_items is not None:
            self._bare_items.end()
        return [*([self._bare] if self._bare else ()), *self._found.drafts]

    def _value(self, place: int | str, value: Mapping[str, Any], group: str) -> None:
        group = next((str(value[name]) for name in _NAMES if value.get(name)), group)
        wrapped = [w for key in _WRAPPERS if isinstance(w := value.get(key), Mapping)]
        if _is_request(value):
            self._request(place, value, group)
        elif _is_reply(value):
            self._reply(value, group)
        elif isinstance(value.get("role"), str):
            for message, notes in self._said(place, value):
                self._one().add(message, notes)
        elif is_item(value):
            self._item(value)
        elif wrapped:
            for inner in wrapped:
                self._value(place, inner, group)
        else:
            kind = value.get("object") or value.get("type")
            about = (
                f"of type {kind!r}" if kind else f"with {', '.join(list(value)[:4]) or 'nothing'}"
            )
            self._told.tell(f"objects {about}")

    # --- messages by themselves -------------------------------------------------------------------

    def _one(self) -> Draft:
        if self._bare is None:
            self._bare = Draft(self._source.path.stem, self._name)
        return self._bare

    def _item(self, item: Mapping[str, Any]) -> None:
        if self._bare_items is None:
            self._bare_items = Items(self._one().add, self._told)
        self._bare_items.read(item)

    def _said(self, place: int | str, message: Any) -> Iterator[Said]:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            self._source.refuse(place, "a message without a role")
        notes = message.get("_x")
        noted = notes if isinstance(notes, Mapping) else {}
        if self._name == ANTHROPIC:
            for said, beside in self._blocks.read(message):
                yield said, {**noted, **beside}
        else:
            yield {key: value for key, value in message.items() if key != "_x"}, dict(noted)

    # --- requests and replies ---------------------------------------------------------------------

    def _request(self, place: int | str, value: Mapping[str, Any], group: str) -> None:
        if isinstance(value.get("messages"), list):
            said = [s for message in value["messages"] for s in self._said(place, message)]
        else:
            said = self._items(value["input"])
        follows = str(value.get("previous_response_id") or "")
        draft = self._found.request(said, group=group, follows=follows)
        system = value.get("system") or value.get("instructions")
        if isinstance(system, list):
            texts = [str(b.get("text")) for b in system if isinstance(b, Mapping)]
            system = "\n\n".join(texts)
        if draft.know("system", system):
            self._told.tell("system prompts that differ from a conversation's first")
        if draft.know("tools", value.get("tools")):
            self._told.tell("lists of tools that differ from a conversation's first")
        draft.hint(model=value.get("model"))

    def _items(self, value: Any) -> list[Said]:
        if isinstance(value, str):
            return [({"role": "user", "content": value}, {})]
        said: list[Said] = []
        items = Items(lambda message, notes: said.append((message, dict(notes))), self._told)
        for item in value if isinstance(value, list) else ():
            if isinstance(item, Mapping):
                items.read(item)
        items.end()
        return said

    def _reply(self, value: Mapping[str, Any], group: str) -> None:
        if isinstance(value.get("choices"), list):
            said = self._choices(value["choices"])
        elif isinstance(value.get("output"), list):
            said = self._items(value["output"])
        else:
            said = list(self._blocks.read(value))
        notes = {"model": value.get("model"), "usage": usage_of(value.get("usage"))}
        known = {key: note for key, note in notes.items() if note}
        noted = [(m, {**n, **known} if m["role"] == "assistant" else n) for m, n in said]
        self._found.reply(noted, group=group, identity=str(value.get("id") or ""))

    def _choices(self, choices: list[Any]) -> list[Said]:
        messages = [c.get("message") for c in choices if isinstance(c, Mapping)]
        said = [m for m in messages if isinstance(m, Mapping)]
        if len(choices) > 1:
            self._told.tell("further choices of a reply", len(choices) - 1)
        if not said:
            self._told.tell("chunks of a streamed reply" if choices else "replies without a choice")
            return []
        kept = {k: v for k, v in said[0].items() if v not in (None, [], {}) or k == "content"}
        return [({"role": "assistant", **kept}, {})]
