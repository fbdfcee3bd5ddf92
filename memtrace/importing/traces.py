"""Conversations out of traces: what spans of model calls say that they sent and received."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .conversations import Conversations, Said
from .drafts import Draft, Told
from .genai import from_event, from_flat, from_json, from_messages
from .sources import Source
from .spans import Span, spans
from .texts import usage_of

NAME = "trace"

_CALLS = ("chat", "text_completion", "generate_content", "completion")
_CONVERSATION = ("gen_ai.conversation.id", "gcp.vertex.agent.session_id", "session.id")


class _Call(NamedTuple):
    """What one span sent to a model, and what came back."""

    span: Span
    sent: list[Said]
    received: list[Said]

    @property
    def is_model_call(self) -> bool:
        """Whether it is a model call rather than what is around some."""
        attributes = self.span.attributes
        kind = attributes.get("gen_ai.operation.name") or attributes.get("llm.request.type")
        if kind is None:
            kind = str(attributes.get("openinference.span.kind", "chat")).replace("LLM", "chat")
        return kind in _CALLS


def read(source: Source, told: Told) -> list[Draft]:
    """The conversations of a trace, those first that began first.

    Raises:
        ConfigurationError: No span of it says what was sent.
    """
    found = list(spans(source))
    records: dict[str, list[Span]] = {}
    for record in found:
        if record.record:
            records.setdefault(record.id, []).append(record)
    every = [s for s in found if not s.record]
    known = {span.id for span in every}
    # Records whose span is not in the file stand for it.
    every += [
        Span(held[0].trace, span_id, held[0].start, {})
        for span_id, held in records.items()
        if span_id not in known
    ]
    calls = [_call(span, records.get(span.id, ()), told) for span in every]
    said = [call for call in calls if call.sent or call.received]
    if not said:
        source.refuse(
            f"{len(every):,} spans",
            "none says what a model was sent (gen_ai.input.messages, gen_ai.prompt.N or events); "
            "their recording may be switched off where the trace was made",
        )
    if others := len(every) - len(said):
        told.tell("spans without messages", others)
    calls = [call for call in said if call.is_model_call]
    if around := len(said) - len(calls) if calls else 0:
        told.tell("spans around model calls, whose messages are told by these", around)
        said = calls
    said.sort(key=lambda call: call.span.start)
    return _conversations(source, said, told)


def _call(span: Span, records: Any, told: Told) -> _Call:
    attributes = span.attributes
    sent = from_messages(attributes.get("gen_ai.input.messages", []), told)
    received = from_messages(attributes.get("gen_ai.output.messages", []), told, "assistant")
    sent = sent or from_flat(attributes, "in", told)
    received = received or from_flat(attributes, "out", told)
    in_events = not sent
    for name, body in _events(span, records):
        if "gen_ai.input.messages" in body or "gen_ai.output.messages" in body:
            inner = span._replace(attributes=body, events=())
            of_event = _call(inner, (), told)
            sent, received = sent or of_event.sent, received or of_event.received
            continue
        side, said = from_event(name, body, told)
        if not said:
            if name.startswith("gen_ai."):
                told.tell(f"events {name}")
        elif side == "in" and in_events:
            sent += said
        elif side == "out":
            received = received or said
    return _Call(span, sent, received)


def _events(span: Span, records: Any) -> list[tuple[str, Mapping[str, Any]]]:
    found = [*span.events, *(event for record in records for event in record.events)]
    listed = from_json(span.attributes.get("events"))
    listed = [e for e in listed if isinstance(e, Mapping)] if isinstance(listed, list) else []
    return [*found, *((str(event.get("event.name")), event) for event in listed)]


def _conversations(source: Source, calls: list[_Call], told: Told) -> list[Draft]:
    found = Conversations(source.path.stem, NAME, told)
    for span, sent, received in calls:
        attributes = span.attributes
        names = (str(attributes[name]) for name in _CONVERSATION if attributes.get(name))
        group = next(names, span.trace)
        draft = found.request(sent, group=group)
        model = attributes.get("gen_ai.response.model") or attributes.get("gen_ai.request.model")
        draft.hint(model=model or attributes.get("llm.model_name"))
        system = _text(attributes.get("gen_ai.system_instructions"), told)
        if draft.know("system", system):
            told.tell("system prompts that differ from a conversation's first")
        if draft.know("tools", _tools(attributes)):
            told.tell("lists of tools that differ from a conversation's first")
        notes = {"model": model, "usage": _usage(attributes)}
        known = {key: note for key, note in notes.items() if note}
        replied = [(m, {**n, **known} if m["role"] == "assistant" else n) for m, n in received]
        found.reply(replied, draft=draft, group=group)
    return found.drafts


def _text(value: Any, told: Told) -> str:
    """System instructions: a text, or parts."""
    value = from_json(value)
    if isinstance(value, list) and value:
        said = from_messages([{"role": "system", "parts": value}], told)
        contents = [message["content"] for message, _ in said]
        if contents and isinstance(contents[0], list):
            return "\n\n".join(str(part.get("text", "")) for part in contents[0])
        return str(contents[0]) if contents else ""
    return value if isinstance(value, str) else ""


_FUNCTION = re.compile(r"llm\.request\.functions\.(\d+)\.(name|description|parameters)")


def _tools(attributes: Mapping[str, Any]) -> Any:
    if listed := from_json(attributes.get("gen_ai.tool.definitions")):
        return listed
    functions: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if match := _FUNCTION.fullmatch(key):
            functions.setdefault(int(match[1]), {})[match[2]] = from_json(value)
    return [{"type": "function", "function": functions[n]} for n in sorted(functions)] or None


def _usage(attributes: Mapping[str, Any]) -> dict[str, int] | None:
    """What was billed; the conventions count what was cached among the input."""

    def number(*names: str) -> int:
        found = (attributes.get(name) for name in names)
        return next((v for v in found if isinstance(v, int) and not isinstance(v, bool)), 0)

    sent = number("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
    read = number("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
    written = number(
        "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"
    )
    if not sent:
        return None
    usage = usage_of(
        {
            "input_tokens": sent,
            "cached_input_tokens": read + written,
            "output_tokens": number("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
        }
    )
    return {**usage, "cache_read": read, "cache_write": written} if usage else None
