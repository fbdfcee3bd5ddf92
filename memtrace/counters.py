"""What counts the tokens of a text: by an encoding, by estimate, or by a counter of your own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from . import config
from .errors import ConfigurationError
from .values import Counting
from .vocabulary import ONLINE_PREFIX, SHA256, CountFunction, count_function

WINDOW = 65_536
"""Characters within which a place is sought where a cut changes nothing. Also the most that is
counted in one go: tiktoken panics at a million spaces."""

FORCED = 8_192
"""Characters of a piece where there is no such place. tiktoken takes more than linear time in the
length of an unbroken run: a million emoji 1.5 times, random letters 2.2 times as long in pieces of
65,536 as in these."""

# Where a text may be cut without changing its count: before a space that follows a non-space,
# and after a newline that precedes a character that is neither space nor "/". No match of either
# encoding's pattern crosses these places (968,000 cuts, no mismatch).
_LAST_NATURAL_CUT = re.compile(r".+(?:(?<=\S)(?= )|(?<=\n)(?=[^\s/]))", re.DOTALL)

BYTES_PER_TOKEN = 2.8
"""Bytes of UTF-8 a token for the estimate without a vocabulary. Source: 2.5–3.0 characters a token
in 282 coding sessions, by what providers billed. Bytes rather than characters, so that Chinese or
emoji are not undercounted; prose in English (4.7) is overcounted, which is the safe side."""


@runtime_checkable
class Counter(Protocol):
    """Counts the tokens of texts. Bring your own: any object with these three will do.

    Attributes:
        name: The encoding's name.
        exact: Whether its counts are those of the model in use; False for an estimate.
    """

    @property
    def name(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    def count_text(self, text: str) -> int:
        """Tokens of a text, ≥ 0."""
        ...


def approximate(text: str) -> int:
    """Tokens of a text by estimate: its UTF-8 bytes / 2.8, rounded up. Linear, needs nothing.

    >>> approximate(""), approximate("hello"), approximate("你好")
    (0, 2, 3)
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return -(-size * 5 // 14)


@dataclass(frozen=True, slots=True)
class ApproximateCounter:
    """Counts by :func:`approximate`. Needs no vocabulary, and says that it is an estimate."""

    name: str = "approx"
    exact: bool = False

    @property
    def counting(self) -> Counting:
        """How it counts."""
        return Counting("estimate", self.name)

    def count_text(self, text: str) -> int:
        """Tokens of a text, by estimate."""
        return approximate(text)


class EncodingCounter:
    """Counts as ``tiktoken``'s ``encode_ordinary`` would, for any text, in linear time.

    Special-token text counts as ordinary text and lone surrogates as U+FFFD. Texts longer than
    65,536 characters are cut where that changes nothing; where there is no such place within
    65,536 characters, these are cut every 8,192, at up to 3 tokens a cut (observed on eight kinds
    of such text: at most 0.009% in all).

    Args:
        name: ``o200k_base``, ``cl100k_base``, or ``tiktoken:<encoding>`` to let tiktoken download.
        exact: False where the texts are for a model with another vocabulary.
    """

    __slots__ = ("_count", "_source", "exact", "name")

    def __init__(self, name: str, *, exact: bool = True) -> None:
        self.name = name.removeprefix(ONLINE_PREFIX)
        self.exact = exact
        self._source = name
        self._count: CountFunction | None = None

    def __repr__(self) -> str:
        return f"EncodingCounter({self._source!r}, exact={self.exact})"

    @property
    def counting(self) -> Counting:
        """How it counts."""
        return Counting("exact" if self.exact else "estimate", self.name)

    def load(self) -> CountFunction:
        """Load the vocabulary now (0.3 s, once a process) instead of at the first count.

        Raises:
            VocabularyError: It is not installed or damaged; the message says what to do.
        """
        self._count = count_function(self._source)
        return self._count

    def count_text(self, text: str) -> int:
        """Tokens of a text.

        Raises:
            VocabularyError: At the first count, if the vocabulary cannot be had.
        """
        count = self._count or self.load()
        try:
            if len(text) <= WINDOW:
                return count(text)
            return sum(map(count, pieces(text)))
        except UnicodeEncodeError:
            return self.count_text(_without_surrogates(text))
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of pyo3: no Exception, no base class
                raise
            return approximate(text)


def _without_surrogates(text: str) -> str:
    """Surrogate pairs joined to the characters they stand for, lone ones as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of at most 65,536 characters, cut where the count does not change.

    >>> [len(piece) for piece in pieces("word " * 20_000)]
    [65534, 34466]
    """
    start, end = 0, len(text)
    while end - start > WINDOW:
        if (cut := _natural_cut(text, start, start + WINDOW)) is not None:
            yield text[start:cut]
            start = cut
            continue
        for _ in range(WINDOW // FORCED):
            cut = _forced_cut(text, start + FORCED)
            yield text[start:cut]
            start = cut
    yield text[start:]


def _natural_cut(text: str, start: int, stop: int) -> int | None:
    """The last place in `start` < place ≤ `stop` where a cut changes nothing."""
    window = text[start : stop + 1]
    if (" " not in window and "\n" not in window) or window.isspace():
        return None  # the common unbroken run, told a hundred times as fast
    # One character more, so that a cut at the very end sees what it precedes.
    found = _LAST_NATURAL_CUT.match(text, start, stop + 1)
    return found.end() if found else None


def _forced_cut(text: str, cut: int) -> int:
    """The place itself, or the one before it where a surrogate pair would be parted."""
    parted = "\ud800" <= text[cut - 1] <= "\udbff" and "\udc00" <= text[cut] <= "\udfff"
    return cut - 1 if parted else cut


class MemoCounter:
    """A counter that remembers counts by a text's hash and length, keeping no text alive.

    For lists that are sent again whole each turn. When full, it forgets its oldest.

    Args:
        counter: What counts a text not seen before.
        size: Texts remembered, > 0; about 150 bytes each.
    """

    __slots__ = ("_counter", "_known", "_size")

    def __init__(self, counter: Counter, size: int = 16_384) -> None:
        if size <= 0:
            raise ConfigurationError(f"a memo's size must be above 0, got {size!r}")
        self._counter = counter
        self._size = size
        self._known: dict[tuple[int, int], int] = {}

    @property
    def name(self) -> str:
        """The wrapped counter's name."""
        return self._counter.name

    @property
    def exact(self) -> bool:
        """Whether the wrapped counter is exact."""
        return self._counter.exact

    @property
    def counting(self) -> Counting:
        """How it counts."""
        return counting_of(self._counter)

    def count_text(self, text: str) -> int:
        """Tokens of a text, counted once."""
        key = (hash(text), len(text))
        known = self._known.get(key)
        if known is not None:
            return known
        tokens = self._counter.count_text(text)
        if len(self._known) >= self._size:
            self._forget()
        self._known[key] = tokens
        return tokens

    def _forget(self) -> None:
        # A copy of the keys is one step under the GIL; another thread may have been here too.
        for key in list(self._known)[: max(1, self._size // 8)]:
            self._known.pop(key, None)


def counting_of(counter: Counter) -> Counting:
    """How a counter counts, for a profile: ``exact`` or ``estimate``, and its name."""
    return Counting("exact" if counter.exact else "estimate", counter.name)


_ALIASES = {"o200k_harmony": "o200k_base"}  # the same ranks; it differs by special tokens only
_ENCODING_LIKE = re.compile(r"\w*\d+k_\w+|\w+_base")
_counters: dict[str, Counter] = {}


def get_counter(name: str | None = None) -> Counter:
    """The counter for an encoding or a model; the same object each time. Loads nothing yet.

    Args:
        name: An encoding (``o200k_base``, ``cl100k_base``), ``approx`` for an estimate that needs
            no vocabulary, ``tiktoken:<encoding>`` to let tiktoken download, or a model. A model
            whose encoding is not one of these is counted with the default one, as an estimate.
            None: the configured encoding.

    Raises:
        ConfigurationError: The name reads like an encoding and is none.

    >>> get_counter("gpt-4o").name, get_counter("gpt-4o").exact
    ('o200k_base', True)
    >>> get_counter("claude-sonnet-4-5").exact
    False
    """
    if name is None:
        name = config.current.encoding
    counter = _counters.get(name)
    if counter is None:
        counter = _counters.setdefault(name, _new_counter(name))
    return counter


def default_counter() -> Counter:
    """The counter of the configured encoding (``memtrace.configure(encoding=…)``)."""
    return get_counter(None)


def _new_counter(name: str) -> Counter:
    known = _ALIASES.get(name, name)
    if known == "approx":
        return ApproximateCounter()
    if known in SHA256 or known.startswith(ONLINE_PREFIX):
        return EncodingCounter(known)
    if _ENCODING_LIKE.fullmatch(known):
        raise ConfigurationError(
            f"no vocabulary for an encoding named {name!r}; there are {', '.join(SHA256)}, "
            f"{ONLINE_PREFIX}<encoding> for one that tiktoken may download, approx for an "
            "estimate, or a model's name"
        )
    encoding = _encoding_of_model(name)
    if encoding is not None:
        return EncodingCounter(encoding)
    default = config.current.encoding
    if default == "approx":
        return ApproximateCounter()
    return EncodingCounter(default if default in SHA256 else "o200k_base", exact=False)


def _encoding_of_model(name: str) -> str | None:
    """The encoding of an OpenAI model that can be had offline, by tiktoken's own table."""
    from tiktoken.model import encoding_name_for_model

    model = name.rpartition("/")[2].removeprefix("openai:").removeprefix("azure:")
    try:
        encoding = encoding_name_for_model(model)
    except KeyError:
        return None
    encoding = _ALIASES.get(encoding, encoding)
    return encoding if encoding in SHA256 else None
