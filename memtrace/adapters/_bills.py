"""What a provider says that a model call was billed, and how a session is told of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..messages.blocks import field as held
from ..session import Session


class Bill(NamedTuple):
    """What an answer says of one model call, as it stands there; None: it does not say.

    Args:
        tokens: Prompt tokens, those read from the provider's prompt cache included.
        cached: Of these, read from that cache.
        model: The model's name.
    """

    tokens: Any = None
    cached: Any = None
    model: Any = None


def read(usage: Any, model: Any = None) -> Bill:
    """A bill from a usage in OpenAI's, Google's or Anthropic's words.

    Sources: the providers' API references.

    >>> read({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}, "gpt-4o")
    Bill(tokens=9, cached=4, model='gpt-4o')
    >>> read({"input_tokens": 2, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4})
    Bill(tokens=9, cached=4, model=None)
    """
    if usage is None:
        return Bill(model=model)
    if tokens := held(usage, "prompt_tokens"):
        return Bill(tokens, held(held(usage, "prompt_tokens_details"), "cached_tokens"), model)
    if tokens := held(usage, "prompt_token_count"):
        return Bill(tokens, held(usage, "cached_content_token_count"), model)
    if details := held(usage, "input_tokens_details"):
        return Bill(held(usage, "input_tokens"), held(details, "cached_tokens"), model)
    # Anthropic tells what it read from the cache, and what it wrote there, besides.
    cached = held(usage, "cache_read_input_tokens")
    parts = (held(usage, "input_tokens"), held(usage, "cache_creation_input_tokens"), cached)
    return Bill(sum(number(part) or 0 for part in parts), cached, model)


def record(session: Session, bill: Bill, counted: int | None) -> bool:
    """Tell a session what a call was billed; what makes no sense is left out.

    Args:
        session: Whose call it was.
        bill: What its answer says.
        counted: What memtrace counted for the prompt; None: the session's last view.

    Returns:
        False: the answer does not say what was billed, so that nothing was told.
    """
    tokens, cached = number(bill.tokens), number(bill.cached)
    if not tokens:
        return False
    session.record_usage(
        tokens,
        counted_tokens=counted,
        cached_tokens=None if cached is None or cached > tokens else cached,
        model=bill.model if isinstance(bill.model, str) else None,
    )
    return True


def number(value: Any) -> int | None:
    """A number of tokens; None: it is none."""
    return value if type(value) is int and value >= 0 else None
