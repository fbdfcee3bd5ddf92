"""How the clients name what is read of a request and of an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..messages.blocks import field
from .facts import Request, Usage

_RAW_HEADER = "X-Stainless-Raw-Response"
"""Set by ``with_raw_response`` (``raw``) and ``with_streaming_response`` (``stream``)."""


class Form(NamedTuple):
    """How the requests of one endpoint are laid out.

    Args:
        messages: The key of the conversation: a list, or one user's text.
        system: The key of a system prompt beside it; empty: it stands among the messages.
        billed: What an answer, or an event of a stream, says was billed.
        elsewhere: Keys that say that the server holds what came before.
    """

    messages: str
    system: str
    billed: Callable[[Any], Usage | None]
    elsewhere: tuple[str, ...] = ()


def read_posted(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
    """What ``client.request(cast_to, options)`` of `openai` or `anthropic` is about to send.

    Returns:
        None: it is no model call.
    """
    options = kwargs.get("options") or (args[1] if len(args) > 1 else None)
    path = str(getattr(options, "url", "")).partition("?")[0]
    form = _FORMS.get(path.removeprefix("/v1"))
    body = getattr(options, "json_data", None)
    if form is None or not isinstance(body, Mapping):
        return None
    headers = getattr(options, "headers", None)
    raw = headers.get(_RAW_HEADER) if isinstance(headers, Mapping) else None
    return Request(
        model=str(body.get("model") or ""),
        tools=body.get("tools"),
        system=body.get(form.system) if form.system else None,
        messages=_messages(body.get(form.messages)),
        billed=form.billed,
        partial=any(body.get(key) for key in form.elsewhere),
        readable=raw != "stream",
    )


def read_google(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Request | None:
    """What ``generate_content(model=, contents=, config=)`` of `google.genai` is about to send."""
    config, contents = kwargs.get("config"), kwargs.get("contents")
    return Request(
        model=str(kwargs.get("model") or ""),
        tools=field(config, "tools") if config is not None else None,
        system=field(config, "system_instruction") if config is not None else None,
        messages=_contents(contents),
        billed=google_billed,
        partial=config is not None and bool(field(config, "cached_content")),
        readable=not (config is not None and field(config, "should_return_http_response")),
    )


def _messages(given: Any) -> Sequence[Any]:
    if given is None:
        return ()
    held = given if isinstance(given, (list, tuple)) else (given,)
    return [{"role": "user", "content": one} if isinstance(one, str) else one for one in held]


def _contents(given: Any) -> Sequence[Any]:
    """Contents as plain data: the client takes text too, and sends the next call as objects."""
    held = given if isinstance(given, (list, tuple)) else (given,)
    return [
        {"parts": [{"text": one}], "role": "user"}
        if isinstance(one, str)
        else one.model_dump(exclude_none=True)
        if hasattr(one, "model_dump")
        else one
        for one in held
        if one is not None
    ]


# --- what was billed ------------------------------------------------------------------------------


def chat_billed(answer: Any) -> Usage | None:
    """Of a chat completion, or of one chunk of it."""
    return _openai(field(answer, "usage"), "prompt_tokens", "completion_tokens")


def response_billed(answer: Any) -> Usage | None:
    """Of a response, or of the event that holds it."""
    holder = field(answer, "response")
    usage = field(answer if holder is None else holder, "usage")
    return _openai(usage, "input_tokens", "output_tokens")


def _openai(usage: Any, sent: str, answered: str) -> Usage | None:
    if usage is None:
        return None
    cached = field(field(usage, f"{sent}_details"), "cached_tokens")
    return Usage(_number(field(usage, sent)), _number(cached), _number(field(usage, answered)))


def message_billed(answer: Any) -> Usage | None:
    """Of an Anthropic message, or of an event: the first has what was sent, a late one the rest."""
    holder = field(answer, "message")
    usage = field(answer if holder is None else holder, "usage")
    if usage is None:
        return None
    read = _number(field(usage, "cache_read_input_tokens"))
    sent = _number(field(usage, "input_tokens"))
    if sent is not None:
        sent += (read or 0) + (_number(field(usage, "cache_creation_input_tokens")) or 0)
    return Usage(sent, read, _number(field(usage, "output_tokens")))


def google_billed(answer: Any) -> Usage | None:
    """Of a Gemini response, or of one chunk of it."""
    usage = field(answer, "usage_metadata")
    if usage is None:
        return None
    return Usage(
        _number(field(usage, "prompt_token_count")),
        _number(field(usage, "cached_content_token_count")),
        _number(field(usage, "candidates_token_count")),
    )


def _number(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


_FORMS = {
    "/chat/completions": Form("messages", "", chat_billed),
    "/responses": Form(
        "input", "instructions", response_billed, ("previous_response_id", "conversation")
    ),
    "/messages": Form("messages", "system", message_billed),
}
