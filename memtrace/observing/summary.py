"""What all observed calls of a process carried, added up, for somebody who sees it first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..spantree import counted, printable
from .facts import KINDS, Observation

MAX_CALLS = 10_000
"""Calls and conversations told one by one; further ones are in the sums."""

_WIDTH = 14


@dataclass(slots=True)
class Conversation:
    """What is told of one conversation: its calls, and its tokens in the first and the last."""

    calls: int = 0
    first_tokens: int = 0
    last_tokens: int = 0

    @property
    def growth_tokens(self) -> float:
        """Tokens more from one call to the next, on average."""
        return (self.last_tokens - self.first_tokens) / max(1, self.calls - 1)


@dataclass
class Summary:
    """Sums over all calls. Safe from any thread."""

    calls: int = 0
    failed: int = 0
    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    duplicate_tokens: int = 0
    repeated_tokens: int = 0
    largest_tokens: int = 0
    counted_tokens: int = 0
    billed_tokens: int = 0
    cached_tokens: int | None = None
    exact: bool = True
    models: dict[str, int] = field(default_factory=dict)
    conversations: OrderedDict[str, Conversation] = field(default_factory=OrderedDict)
    rows: list[Observation] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def tokens(self) -> int:
        """Tokens that all calls carried."""
        return sum(self.kinds.values())

    def add(self, seen: Observation) -> None:
        """Add one call."""
        with self._lock:
            self.calls += 1
            self.failed += seen.error is not None
            for kind, tokens in seen.kinds.items():
                self.kinds[kind] += tokens
            self.duplicate_tokens += seen.duplicate_tokens
            self.repeated_tokens += seen.repeated_tokens
            self.largest_tokens = max(self.largest_tokens, seen.tokens)
            self.exact = self.exact and seen.exact
            self.models[seen.model] = self.models.get(seen.model, 0) + 1
            if seen.billed_ratio is not None:
                self.counted_tokens += seen.tokens
                self.billed_tokens += seen.usage.input_tokens or 0
            if seen.usage.cached_tokens is not None:
                self.cached_tokens = (self.cached_tokens or 0) + seen.usage.cached_tokens
            self._told(seen)

    def _told(self, seen: Observation) -> None:
        if len(self.rows) < MAX_CALLS:
            self.rows.append(seen)
        known = self.conversations.get(seen.conversation)
        if known is None:
            if len(self.conversations) >= MAX_CALLS:
                return
            known = self.conversations[seen.conversation] = Conversation()
            known.first_tokens = seen.tokens
        known.calls += 1
        known.last_tokens = seen.tokens

    def lines(self) -> Iterator[str]:
        """A few lines for a terminal, nothing of what was said in the calls.

        >>> print(*Summary().lines())
        memtrace: no model call was seen
        """
        if not self.calls:
            yield "memtrace: no model call was seen"
            return
        yield f"memtrace: {self._head()}"
        total = max(1, self.tokens)
        for kind, tokens in sorted(self.kinds.items(), key=lambda pair: -pair[1]):
            if tokens:
                yield _row(kind.replace("_", " "), tokens, f"{tokens / total:.0%}")
        if self.repeated_tokens:
            told = "as in the call before: what a prompt cache can serve"
            if self.cached_tokens is not None:
                told += f"; {self.cached_tokens:,} were read from one"
            share = f"{self.repeated_tokens / total:.0%}"
            yield _row("sent again", self.repeated_tokens, share, told)
        if self.duplicate_tokens:
            share = f"{self.duplicate_tokens / total:.0%}"
            yield _row("duplicates", self.duplicate_tokens, share, "the same text twice in a call")
        if self.billed_tokens:
            ratio = f"{self.billed_tokens / self.counted_tokens:.2f} of what is counted here"
            yield _row("billed", self.billed_tokens, "", ratio)
        yield from self._growth()

    def _head(self) -> str:
        calls = counted(self.calls, "model call")
        if self.failed:
            calls += f" ({self.failed:,} failed)"
        models = ", ".join(printable(model, 40) for model in list(self.models)[:3] if model)
        more = ", …" if len(self.models) > 3 else ""
        about = "" if self.exact else "about "
        return (
            f"{calls}{f' to {models}{more}' if models else ''} in "
            f"{counted(len(self.conversations), 'conversation')} carried "
            f"{about}{self.tokens:,} tokens, {self.largest_tokens:,} at most"
        )

    def _growth(self) -> Iterator[str]:
        longest = max(self.conversations.values(), key=lambda one: one.calls)
        if longest.calls > 1 and longest.growth_tokens >= 1:
            told = f"a call: {longest.first_tokens:,} to {longest.last_tokens:,} tokens in "
            yield _row(
                "growth", round(longest.growth_tokens), "", told + f"{longest.calls:,} calls"
            )

    def as_values(self) -> dict[str, Any]:
        """The same as plain values, every call in it."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "tokens": self.tokens,
            "kinds": dict(self.kinds),
            "layers": {
                "working_memory": self.kinds["system"] + self.kinds["tools"],
                "conversation_history": self.tokens - self.kinds["system"] - self.kinds["tools"],
            },
            "repeated_tokens": self.repeated_tokens,
            "duplicate_tokens": self.duplicate_tokens,
            "largest_tokens": self.largest_tokens,
            "billed_tokens": self.billed_tokens or None,
            "billed_ratio": self.billed_tokens / self.counted_tokens
            if self.billed_tokens
            else None,
            "cached_tokens": self.cached_tokens,
            "counting": "exact" if self.exact else "estimate",
            "models": dict(self.models),
            "conversations": [
                {"id": name, "calls": one.calls, "growth_tokens": round(one.growth_tokens)}
                for name, one in self.conversations.items()
            ],
            "rows": [_values(seen) for seen in self.rows],
        }


def _row(name: str, tokens: int, share: str, told: str = "") -> str:
    return f"  {name:<{_WIDTH}}{tokens:>12,}  {share:>4}  {told}".rstrip()


def _values(seen: Observation) -> dict[str, Any]:
    return {
        "model": seen.model,
        "conversation": seen.conversation,
        "turn": seen.turn,
        "messages": seen.messages,
        "tokens": seen.tokens,
        "kinds": seen.kinds,
        "repeated_tokens": seen.repeated_tokens,
        "new_tokens": seen.new_tokens,
        "growth_tokens": seen.growth_tokens,
        "duplicate_tokens": seen.duplicate_tokens,
        **seen.usage._asdict(),
        "error": seen.error,
    }
