"""Claude Code's transcripts: JSON Lines, one line a message, a block of a reply, or an event.

Messages stay in the order of the file. What a sub-agent said (a side chain) is a session of its
own. Lines of a reply that have one id are one message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .blocks import Blocks
from .drafts import Draft, Told
from .sources import Source
from .texts import usage_of

NAME = "claude-code"

_KNOWN = ("summary", "file-history-snapshot", "queue-operation", "progress", "attachment")


def is_claude_code(value: Mapping[str, Any]) -> bool:
    """Whether a line is one of such a transcript."""
    kind = value.get("type")
    if kind in ("user", "assistant") and isinstance(value.get("message"), Mapping):
        return True
    return isinstance(kind, str) and (
        "sessionId" in value or ("leafUuid" in value) or kind == "file-history-snapshot"
    )


class _Chain:
    """One chain of messages: the session itself, or a sub-agent."""

    def __init__(self, draft: Draft, told: Told) -> None:
        self.draft = draft
        self.blocks = Blocks(told)
        self.reply = ""  # id of the reply that the last message is
        self.billed: set[str] = set()


def read(source: Source, told: Told) -> list[Draft]:
    """The sessions of a transcript, that of the user first."""
    chains: dict[str, _Chain] = {}
    roots: dict[str, str] = {}
    for _, line in source:
        kind = line.get("type")
        message = line.get("message")
        if kind == "system" and line.get("subtype") == "compact_boundary":
            if "" in chains:
                chains[""].draft.note_next(compact_boundary=_boundary(line))
        elif kind not in ("user", "assistant") or not isinstance(message, Mapping):
            told.tell(_left_out(line))
        else:
            agent = _agent(line, roots)
            if agent not in chains:
                draft = Draft(_session_id(line, agent, source), NAME, "coding_agent")
                chains[agent] = _Chain(draft, told)
            _take(chains[agent], line, message)
    ordered = sorted(chains, key=bool)
    return [chains[agent].draft for agent in ordered]


def _left_out(line: Mapping[str, Any]) -> str:
    kind, subtype = line.get("type"), line.get("subtype")
    return f"lines of type {kind!r}" + (f" ({subtype})" if kind == "system" and subtype else "")


def _boundary(line: Mapping[str, Any]) -> dict[str, Any]:
    known = line.get("compactMetadata")
    known = known if isinstance(known, Mapping) else {}
    return {"trigger": known.get("trigger"), "pre_tokens": known.get("preTokens")}


def _agent(line: Mapping[str, Any], roots: dict[str, str]) -> str:
    """Which sub-agent a line is of; empty: none. Older transcripts tell by the chain alone."""
    if not line.get("isSidechain"):
        return ""
    if line.get("agentId"):
        return str(line["agentId"])
    own, parent = str(line.get("uuid")), str(line.get("parentUuid"))
    root = roots[own] = roots.get(parent, own)
    return root


def _session_id(line: Mapping[str, Any], agent: str, source: Source) -> str:
    name = str(line.get("sessionId") or source.path.stem)
    return f"{name}/{agent}" if agent else name


def _take(chain: _Chain, line: Mapping[str, Any], message: Mapping[str, Any]) -> None:
    notes = {"ts": line["timestamp"]} if line.get("timestamp") else {}
    if line.get("isMeta"):
        notes["meta"] = True
    if line.get("isCompactSummary"):
        notes["compact_summary"] = True
    draft = chain.draft
    if message.get("role") == "assistant":
        _reply(chain, message, notes)
        return
    chain.reply = ""
    for said, noted in chain.blocks.read(message):
        draft.add(said, {**notes, **noted})


def _reply(chain: _Chain, message: Mapping[str, Any], notes: dict[str, Any]) -> None:
    draft, identity = chain.draft, str(message.get("id") or "")
    model = message.get("model")
    if model == "<synthetic>":
        notes["synthetic"] = True
    elif model:
        notes["model"] = model
        draft.hint(model=model)
    usage = usage_of(message.get("usage"))
    again = bool(identity) and identity == chain.reply
    if usage and "synthetic" not in notes and (again or identity not in chain.billed):
        notes["usage"] = usage  # once a reply, though each of its lines has it
        chain.billed.add(identity)
    for said, noted in chain.blocks.read(message):
        if again and said["role"] == "assistant":
            _join(draft, said, {**notes, **noted})
        else:
            draft.add(said, {**notes, **noted})
    last = draft.last
    chain.reply = identity if last is not None and last.get("role") == "assistant" else ""


def _join(draft: Draft, more: Mapping[str, Any], notes: dict[str, Any]) -> None:
    """Add a further line of the reply that is the last message."""
    reply = draft.last
    assert reply is not None
    held = [part for part in (reply["content"], more["content"]) if part]
    if held:
        parts = [{"type": "text", "text": h} if isinstance(h, str) else h for h in held]
        flat = [p for part in parts for p in (part if isinstance(part, list) else [part])]
        reply["content"] = held[0] if len(held) == 1 else flat
    if calls := [*reply.get("tool_calls", ()), *more.get("tool_calls", ())]:
        reply["tool_calls"] = calls
        reply["content"] = reply["content"] or None
    draft.note(**notes)
