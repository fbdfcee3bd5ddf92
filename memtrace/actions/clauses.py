"""Sentences and clauses: what a text offers to an extract, and how rare its words are in it."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .weights import NAME, WORD, Told, told

LEAST_WORDS = 8
"""Words of a clause: with fewer it could not be understood by itself."""

MOST_WORDS = 24
"""Words up to which clauses are joined into one span; longer sentences are taken in parts."""

_PIECE_WORDS = 64
"""Words after which something without an end, like minified JSON, is parted."""

_LEAD = 0.8
"""By how much more a message's first sentence says than a late one. Source: what a message is
about stands at its beginning; between .5 and 1.2 the figures stay within a question or two."""
_LEAD_SENTENCES = 2.0

_ROLES = {"assistant": 0.7, "system": 0.3}
"""What others than users say holds fewer facts of this conversation for its length."""

_QUESTION = 0.6
"""A question asks for facts more than it holds any."""

_ENDS = 3
"""Ends that are tried for a clause, from its eighth word on."""

_CUT_CHARS = 2
"""Characters that a clause counts as longer for each end at which it is cut: for a few words more
a whole sentence is better to read."""

_LEAST_CHARS = 20
"""Characters that a sentence counts as long at least: an exclamation holds no fact."""

SPAN_CHARS = 6
"""Characters that a span costs beside its own: its line, its share of a frame."""

# Full-width signs are written by number: beside their narrow twins nobody could tell them apart.
# A full stop after a single letter or digit belongs to an abbreviation or a list's number.
_END = re.compile(
    r"(?:[!?…]|(?<!\b\w)\.)[.!?…]{0,9}[\"'”’)\]*]{0,9}(?=\s)|[\u3002\uff01\uff1f]+[」』”\uff09]{0,9}|\n+"
)
_ASKS = re.compile(r"[?\uff1f][\"'”’)\]*]{0,9}\s{0,9}$")
_BREAK = re.compile(r"[,;:—–()、|\uff0c\uff1b\uff1a]|--| - ")


class Said(NamedTuple):
    """A text, and who said it.

    Args:
        text: The text.
        role: ``user``, ``assistant``, ``system`` or any other.
    """

    text: str
    role: str = "user"


class Span(NamedTuple):
    """Where a span stands: in which of the texts, from which character to which."""

    source: int
    start: int
    end: int


Choice = tuple[int, int, int, int, float]
"""A span that may be taken: its first word, past its last, its first character, past its last, and
how much each bit that it says counts. A plain tuple: making these is a third of the work."""


class Sentence(NamedTuple):
    """A sentence of a text.

    Args:
        source: Which of the texts.
        start: Its first character.
        end: Past its last.
        factor: How much what it says counts.
        words: Where each begins and ends, and what it says.
    """

    source: int
    start: int
    end: int
    factor: float
    words: list[tuple[int, int, Told]]


def sentences(source: int, said: Said, known: dict[str, Told]) -> Iterator[Sentence]:
    """The sentences of a text, those without an end in pieces; ``known`` words are told again."""
    text, role = said
    place, start = 0, 0
    ends = [match.end() for match in _END.finditer(text)]
    for end in (*ends, len(text)):
        words: list[tuple[int, int, Told]] = []
        for match in WORD.finditer(text, start, end):
            word = match.group()
            what = known.get(word)
            if what is None:
                what = known[word] = told(word)
            words.append((match.start(), match.end(), what))
        if words:
            here = text[start:end]
            factor = _ROLES.get(role, 1.0) * (1 + _LEAD * math.exp(-place / _LEAD_SENTENCES))
            if _ASKS.search(here):
                factor *= _QUESTION
            first, last = end - len(here.lstrip()), start + len(here.rstrip())
            yield from _pieces(Sentence(source, first, last, factor, words))
            place += 1
        start = end


def _pieces(sentence: Sentence) -> Iterator[Sentence]:
    words = sentence.words
    if len(words) <= _PIECE_WORDS:
        yield sentence
        return
    starts = range(0, len(words) - LEAST_WORDS + 1, _PIECE_WORDS)  # the last takes a short rest
    for at in starts:
        part = words[at:] if at == starts[-1] else words[at : at + _PIECE_WORDS]
        yield sentence._replace(start=part[0][0], end=part[-1][1], words=part)


def choices(sentence: Sentence, text: str) -> list[Choice]:
    """The sentence as a whole, and its clauses, in the order of their beginnings."""
    _, start, end, factor, words = sentence
    count = len(words)
    found = [(0, count, start, end, factor / (SPAN_CHARS + max(_LEAST_CHARS, end - start)))]
    if count <= LEAST_WORDS:
        return found
    cuts = [0, *_cuts(words, text), count]
    longest = min(MOST_WORDS, count - 1)
    for index, first in enumerate(cuts):
        long_enough = bisect_left(cuts, first + LEAST_WORDS, index)
        for last in cuts[long_enough : long_enough + _ENDS]:
            if last - first <= longest:
                begins = words[first][0] if first else start
                ends = words[last - 1][1] if last < count else end
                cut = _CUT_CHARS * ((first > 0) + (last < count))
                rate = factor / (SPAN_CHARS + cut + ends - begins)
                found.append((first, last, begins, ends, rate))
    return found


def _cuts(words: list[tuple[int, int, Told]], text: str) -> Iterator[int]:
    """Before which words a clause may begin."""
    for place in range(1, len(words)):
        _, ended, before = words[place - 1]
        begins, _, word = words[place]
        apart = begins - ended > 1 and _BREAK.search(text, ended, begins)
        # What was decided, or must be done, stays with the word that tells so.
        if apart or ((word.starts or before.closes) and not before.cue):
            yield place


class Names:
    """Which words are names, and how rare each is, as far as the sentences tell."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        counts: Counter[str] = Counter()
        self._known: dict[int, tuple[str, float, float]] = {}
        self._small: set[str] = set()
        self._within: set[str] = set()
        capitals = others = 0
        for sentence in sentences:
            for place, (_, _, word) in enumerate(sentence.words):
                counts[word.key] += 1
                if not word.capital:
                    if word.weight == 1.0:
                        self._small.add(word.key)
                        others += 1
                elif place:
                    self._within.add(word.key)
                    capitals += 1
        # Where every noun or every word has a capital, a capital tells nothing.
        self._tells = capitals <= others
        total = sum(counts.values())
        self._rarity = {
            key: min(1.0, math.log1p(total / count) / math.log1p(total))
            for key, count in counts.items()
        }

    def weighed(self, words: list[tuple[int, int, Told]]) -> list[tuple[str, float, float]]:
        """Of each word its key, its weight, and its weight as a cue."""
        known, weighed = self._known, []
        for place, (_, _, word) in enumerate(words):
            # A word is told once, so the same one is the same object.
            found = known.get(id(word))
            if found is None or (place == 0 and word.capital):
                found = word.key, self._weight(word, place), word.cue
                if place or not word.capital:
                    known[id(word)] = found
            weighed.append(found)
        return weighed

    def _weight(self, word: Told, place: int) -> float:
        weight, key = word.weight, word.key
        if word.capital and self._tells and (place or key in self._within):
            weight *= NAME if key not in self._small else NAME * 0.6
        return weight * self._rarity[key] if weight else 0.0
