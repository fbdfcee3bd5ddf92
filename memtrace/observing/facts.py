"""What is known of one observed model call: frozen values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

KINDS = ("system", "tools", "user", "assistant", "tool_results")
"""What the tokens of a call are made of, in the order in which they are told."""


class Usage(NamedTuple):
    """What a provider says of one call; None where it does not say.

    Args:
        input_tokens: Billed for what was sent, those read from a prompt cache included.
        cached_tokens: Of these, read from the provider's prompt cache.
        output_tokens: Billed for the answer.
    """

    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None

    def merged(self, later: Usage) -> Usage:
        """With what a later event of the same stream says.

        >>> Usage(90, 80, 1).merged(Usage(output_tokens=20))
        Usage(input_tokens=90, cached_tokens=80, output_tokens=20)
        """
        kept = (mine if new is None else new for mine, new in zip(self, later, strict=True))
        return Usage(*kept)


UNTOLD = Usage()


class Request(NamedTuple):
    """What is read of a request.

    Args:
        model: The model's name; empty: none was given.
        tools: What the model is told of its tools; None or empty: there are none.
        system: A system prompt that stands beside the messages; likewise.
        messages: The conversation as it is sent.
        billed: What an answer, or an event of a stream, says was billed; None: nothing.
        partial: The server holds what came before, so that this is not all the model reads.
        readable: Whether the answer may be read: False where its body is the caller's.
    """

    model: str
    tools: Any
    system: Any
    messages: Sequence[Any]
    billed: Callable[[Any], Usage | None]
    partial: bool = False
    readable: bool = True


@dataclass(frozen=True, slots=True)
class Observation:
    """One model call, as it was seen.

    Args:
        model: The model's name; empty: none was given.
        conversation: The conversation it belongs to; ours, told by how its messages begin.
        turn: Which call of that conversation it is. Starts at 1.
        messages: How many messages it carried.
        kinds: Tokens by kind, every one of ``KINDS`` present.
        duplicate_tokens: Tokens of messages whose text stood in the same call before.
        repeated_tokens: Tokens of the longest beginning that the conversation's call before
            it had too, tools and system prompt first: what a prompt cache can serve.
        growth_tokens: Tokens more (or less) than that call; None: it is the first.
        partial: The server holds what came before, so that the model read more than this.
        exact: Whether the counts are exact for this model.
        usage: What the provider billed.
        error: The type of the exception that it ended with; None: it succeeded.
    """

    model: str
    conversation: str
    turn: int
    messages: int
    kinds: dict[str, int]
    duplicate_tokens: int
    repeated_tokens: int
    growth_tokens: int | None
    partial: bool = False
    exact: bool = True
    usage: Usage = UNTOLD
    error: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens that it carried, as counted here."""
        return sum(self.kinds.values())

    @property
    def new_tokens(self) -> int:
        """Tokens after the beginning that it has in common with the call before."""
        return self.tokens - self.repeated_tokens

    @property
    def working_tokens(self) -> int:
        """Of the layer of working memory: the system prompt and the tools."""
        return self.kinds["system"] + self.kinds["tools"]

    @property
    def history_tokens(self) -> int:
        """Of the layer of the conversation: everything else."""
        return self.tokens - self.working_tokens

    @property
    def billed_ratio(self) -> float | None:
        """Tokens billed for what was sent / tokens counted; None: they cannot be compared."""
        billed = self.usage.input_tokens
        return billed / self.tokens if billed and self.tokens and not self.partial else None
