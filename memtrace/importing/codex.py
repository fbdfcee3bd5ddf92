"""Codex's rollouts: JSON Lines of Responses items, each in an envelope that says what it is.

Older ones begin with a line of facts and have the items bare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .drafts import Draft, Told
from .items import Items
from .sources import Source
from .texts import usage_of

NAME = "codex"

_ENVELOPES = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")


def is_codex(value: Mapping[str, Any]) -> bool:
    """Whether a line is one of a rollout."""
    if value.get("type") in _ENVELOPES and isinstance(value.get("payload"), Mapping):
        return True
    if "record_type" in value:
        return True
    return "type" not in value and {"id", "timestamp", "instructions"} <= set(value)


def read(source: Source, told: Told) -> list[Draft]:
    """The session of a rollout."""
    draft = Draft(source.path.stem, NAME, "coding_agent")
    stamp: dict[str, Any] = {}
    items = Items(lambda message, notes: draft.add(message, {**stamp, **notes}), told)
    for _, line in source:
        held = line.get("payload")
        payload: Mapping[str, Any] = held if isinstance(held, Mapping) else {}
        kind = line.get("type") if isinstance(held, Mapping) else ""
        if kind == "response_item":
            items.read(_stamped(payload, line, stamp, items))
        elif kind == "session_meta":
            _facts(draft, payload)
        elif kind == "turn_context":
            draft.hint(model=payload.get("model"))
        elif kind == "compacted":
            items.end()
            _compacted(draft, payload, told)
        elif kind == "event_msg" and payload.get("type") == "token_count":
            _billed(draft, items, payload.get("info"))
        elif kind:
            told.tell(_left_out(str(kind), payload))
        elif "record_type" in line:
            told.tell("lines of state")
        elif "type" not in line:
            _facts(draft, line)
        else:
            items.read(_stamped(line, line, stamp, items))
    items.end()
    return [draft]


def _stamped(
    item: Mapping[str, Any], line: Mapping[str, Any], stamp: dict[str, Any], items: Items
) -> Mapping[str, Any]:
    """The item; what is said next has this line's time."""
    if item.get("role") != "assistant" and not str(item.get("type")).endswith("_call"):
        items.end()  # with the time that the reply had
    if line.get("timestamp"):
        stamp["ts"] = line["timestamp"]
    return item


def _left_out(kind: str, payload: Mapping[str, Any]) -> str:
    return (
        f"lines of type {kind!r} ({payload.get('type')})"
        if kind == "event_msg"
        else (f"lines of type {kind!r}")
    )


def _facts(draft: Draft, facts: Mapping[str, Any]) -> None:
    if facts.get("id"):
        draft.header["session_id"] = str(facts["id"])
    base = facts.get("base_instructions")
    text = base.get("text") if isinstance(base, Mapping) else base
    draft.know("system", text or facts.get("instructions"))
    draft.hint(model=facts.get("model"))


def _compacted(draft: Draft, payload: Mapping[str, Any], told: Told) -> None:
    """The model went on from a summary: it is the user's message that comes next."""
    if payload.get("replacement_history"):
        told.tell("histories that a compaction put in place of the messages before it")
    draft.note_next(compact_boundary={"trigger": "codex", "pre_tokens": None})
    if payload.get("message"):
        draft.add({"role": "user", "content": str(payload["message"])}, {"compact_summary": True})


def _billed(draft: Draft, items: Items, info: Any) -> None:
    if not isinstance(info, Mapping):
        return
    window = info.get("model_context_window")
    if isinstance(window, int) and window > 0:
        draft.hint(context_window=window)
    if usage := usage_of(info.get("last_token_usage")):
        items.note(usage=usage)
