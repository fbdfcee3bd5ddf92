"""How many tokens anything counts: text, messages, items, layers, any JSON-like value.

What counts text is in :mod:`memtrace.counters`; what a message is made of, in
:mod:`memtrace.messages`. Nothing here raises but memtrace's own errors.
"""

from __future__ import annotations

import logging
import operator
import threading
from collections import deque
from collections.abc import Iterable, Iterator, ValuesView
from dataclasses import dataclass
from typing import Any, NamedTuple

from .counters import (
    ApproximateCounter,
    Counter,
    EncodingCounter,
    MemoCounter,
    approximate,
    counting_of,
    default_counter,
    get_counter,
)
from .errors import MemtraceError
from .messages import Binary, is_message, texts
from .messages.compact import compact_json
from .values import Item

__all__ = [
    "MESSAGE_FRAME_TOKENS",
    "ApproximateCounter",
    "Calibration",
    "Count",
    "Counter",
    "EncodingCounter",
    "MemoCounter",
    "approximate",
    "binary_tokens",
    "count",
    "counting_of",
    "default_counter",
    "get_counter",
    "measure_tokens",
]

logger = logging.getLogger("memtrace")

MESSAGE_FRAME_TOKENS = 3
"""Tokens of a message's frame. Source: ``tokens_per_message`` of OpenAI's cookbook, "How to count
tokens with tiktoken", for its current chat models."""

IMAGE_TOKENS = 765
"""Tokens of an image of unknown size. Source: OpenAI's vision guide, 1024 × 1024 at high detail
(85 + 4 tiles × 170). Anthropic's width × height / 750 gives 1,398; Google's fewest is 258."""

_BYTES_PER_TOKEN = {"audio": 500, "video": 1_000, "document": 50, "binary": 50}
"""Bytes a token of other binary. Sources: Google bills 32 tokens a second of audio (16 kB as MP3)
and 263 of video (250 kB); Anthropic 1,500–3,000 a page of PDF, taken as 75 kB."""

_LINK_TOKENS = {"audio": 1_000, "video": 8_000, "document": 1_500, "binary": 1_500}
"""Tokens where only a link or an id is known: half a minute of audio or video, one page."""


class Count(NamedTuple):
    """Tokens, and whether they are exact: no estimate had a part in them."""

    tokens: int
    exact: bool


def measure_tokens(x: object, *, counter: Counter | None = None) -> int:
    """Tokens of a text, a message, an item, a layer, or any JSON-like value. Never below 0.

    Text counts as tiktoken's ``encode_ordinary`` counts it, whatever it contains. A message
    counts its content, names and tool-call arguments, plus 3 for its frame. A list of messages
    or items is the sum of its parts, and an empty one 0; any other value counts as its compact
    JSON, so that None is ``null``. Images and other binary count by a documented estimate.

    Args:
        x: What to count; it is not changed.
        counter: What counts text; None: the configured encoding's.

    Raises:
        VocabularyError: The encoding's vocabulary is not installed.

    >>> measure_tokens("hello world"), measure_tokens({"role": "user", "content": "hello world"})
    (2, 5)
    >>> measure_tokens({"path": "a.py"}) == measure_tokens('{"path":"a.py"}')
    True
    """
    return count(x, counter=counter).tokens


def count(x: object, *, counter: Counter | None = None) -> Count:
    """As :func:`measure_tokens`, and whether the count is exact.

    >>> count(["see", bytes(1000)]).exact
    False
    """
    if counter is None:
        counter = default_counter()
    try:
        if isinstance(x, str):
            return _count_text(x, counter)
        if isinstance(x, Item):
            return Count(x.tokens, _exact(counter))
        tokens = _running_total(x)
        if tokens is not None:
            return Count(tokens, _exact(counter))
        if is_message(x):
            return _total(texts(x), counter, MESSAGE_FRAME_TOKENS)
        held = _held(x)
    except MemtraceError:
        raise
    except Exception:
        held = None  # it cannot even be asked what it is: counted as whatever can be read of it
    if held is None:
        return _count_json(x, counter)
    counts = [count(part, counter=counter) for part in held]
    return Count(sum(c.tokens for c in counts), _exact(counter) and all(c.exact for c in counts))


def _exact(counter: Counter) -> bool:
    return getattr(counter, "exact", False) is True


def _running_total(x: Any) -> int | None:
    """What a layer says it holds; None for anything else."""
    if type(x) in _NO_LAYERS:
        return None
    tokens = getattr(x, "tokens", None)
    return tokens if type(tokens) is int and hasattr(x, "items") else None


_NO_LAYERS = frozenset({dict, list, tuple, int, float, bool, type(None), bytes, set})


def _held(x: object) -> list[Any] | None:
    """The messages or items of a sequence that holds nothing else; None for any other value."""
    if not isinstance(x, (list, tuple, deque, ValuesView)):
        return None
    held = list(x)
    return held if all(isinstance(part, Item) or is_message(part) for part in held) else None


def _count_json(x: object, counter: Counter) -> Count:
    text, binaries, exact = compact_json(x)
    if type(x) in (bytes, bytearray, memoryview):
        text = ""  # binary itself, not a value with binary in it
    tokens, counted_exactly = _total(_chain(text, binaries), counter, 0)
    return Count(tokens, counted_exactly and exact)


def _chain(text: str, binaries: Iterable[Binary]) -> Iterator[str | Binary]:
    yield text
    yield from binaries


def _total(parts: Iterable[str | Binary], counter: Counter, tokens: int) -> Count:
    exact = _exact(counter)
    for part in parts:
        if isinstance(part, str):
            counted = _count_text(part, counter)
            tokens += counted.tokens
            exact = exact and counted.exact
        else:
            tokens += binary_tokens(part)
            exact = False
    return Count(tokens, exact)


def binary_tokens(binary: Binary) -> int:
    """Tokens of an image or other binary: always an estimate, never tokenised.

    >>> binary_tokens(Binary("image", 2_000_000)), binary_tokens(Binary("document", 300_000))
    (765, 6000)
    """
    per_token = _BYTES_PER_TOKEN.get(binary.kind)
    if per_token is None:
        return IMAGE_TOKENS
    return -(-binary.size_bytes // per_token) or _LINK_TOKENS[binary.kind]


def _count_text(text: str, counter: Counter) -> Count:
    if type(text) is not str:
        text = str.__str__(text)  # a subclass may have made its own len() or slices
    try:
        tokens = operator.index(counter.count_text(text))
        if tokens >= 0:
            return Count(tokens, _exact(counter))
        problem = f"it counted {tokens!r}"
    except MemtraceError:
        raise
    except Exception as error:
        problem = repr(error)
    _warn_once(counter, problem)
    return Count(approximate(text), False)


_warned: set[str] = set()
_warning = threading.Lock()


def _warn_once(counter: Counter, problem: str) -> None:
    kind = type(counter).__qualname__
    with _warning:
        if kind in _warned:
            return
        _warned.add(kind)
    logger.warning("memtrace counts by estimate where the counter %s failed: %s", kind, problem)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a provider billed against what was counted, weighted by tokens. A frozen value.

    Args:
        counted: Tokens counted so far.
        billed: Tokens billed for the same, each record held within a factor of 4.

    >>> Calibration().record(100, 130).record(300, 390).factor
    1.3
    """

    counted: int = 0
    billed: int = 0

    @property
    def factor(self) -> float:
        """Billed / counted, 0.25–4; 1 before any record. An estimate is multiplied by it."""
        return self.billed / self.counted if self.counted else 1.0

    def record(self, counted_tokens: int, billed_tokens: int) -> Calibration:
        """The calibration with one more bill; the same one if either figure is not above 0."""
        if counted_tokens <= 0 or billed_tokens <= 0:
            return self
        bounded = min(max(billed_tokens, -(-counted_tokens // 4)), counted_tokens * 4)
        return Calibration(self.counted + counted_tokens, self.billed + bounded)
