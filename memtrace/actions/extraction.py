"""Extraction: of prose, the literal spans that hold most facts for their length.

A span is a whole sentence, or a clause of at least eight words; a clause begins and ends at
punctuation or before a function word. Spans are taken greedily by what they say for their length:
names, numbers and dates most, what was not said yet more than what was. Source: on recorded
dialogues such spans keep .69 of answer facts at a quarter of the tokens and .45 at a tenth, random
sentences .33 and .15; what is central to a text (LexRank, TextRank, TF-IDF) keeps no more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence

from .clauses import SPAN_CHARS, Choice, Names, Said, Span, choices, sentences
from .weights import Told

__all__ = ["Said", "Span", "extract", "extract_each", "spans"]

BLOCK_CHARS = 200_000
"""Characters of one text that are weighed together, so that memory stays bounded."""

_AGAIN = 0.5
"""Met n times before, a word says (n + 1) ** -_AGAIN of what it said at first."""

_SLACK = 1.1
"""A span is taken if no other is better by more than this. Where many say the same, all of them
wear off with each one taken; weighing all of them again brings nothing."""

_MISSES = 16
"""Spans in a row that no longer fit, after which there is no room."""


def extract(text: str, share: float) -> str:
    """The spans of a text that hold most facts, one a line, up to a share of its characters.

    Args:
        text: Any text.
        share: Of its characters, 0–1.

    >>> extract("It was nice. We met at 10:30 in Room 4b with Ann. It went on. Bye then.", 0.6)
    'We met at 10:30 in Room 4b with Ann.'
    """
    if share >= 1:
        return text
    kept: list[str] = []
    for start in range(0, len(text), BLOCK_CHARS):
        block = text[start : start + BLOCK_CHARS]
        kept += [block[s:e] for _, s, e in spans([Said(block)], int(len(block) * share))]
    return "\n".join(kept) if kept else text[: int(len(text) * share)]


def extract_each(said: Sequence[Said], room: int) -> list[str]:
    """The same for several texts that share their room: it goes where the facts are.

    Args:
        said: The texts.
        room: Characters for all of them together.

    Returns:
        For each text its spans, one a line; nothing where it holds none worth the room.

    >>> extract_each([Said("Hello there!"), Said("My sister Ann moved to Oslo in 2019.")], 40)
    ['', 'My sister Ann moved to Oslo in 2019.']
    """
    lines: list[list[str]] = [[] for _ in said]
    for source, start, end in spans(said, room):
        lines[source].append(said[source].text[start:end])
    return ["\n".join(kept) for kept in lines]


def spans(said: Sequence[Said], room: float, measure: Callable[[str], float] = len) -> list[Span]:
    """The spans that hold most facts, in the order in which they stand.

    Args:
        said: The texts they are taken from.
        room: What all of them may cost, each one more than it measures: its line's end.
        measure: What a span costs. Characters, unless it counts something else.
    """
    waiting = [(-part.weigh({}), index, part) for index, part in enumerate(_parts(said))]
    found: list[Span] = []
    for span in sorted(_taken(waiting, said, room, measure)):
        last = found[-1] if found else None
        if last and last.source == span.source:
            between = said[span.source].text[last.end : span.start]
            if "\n" not in between and not between.strip():
                found[-1] = last._replace(end=span.end)
                continue
        found.append(span)
    return found


def _taken(
    waiting: list[tuple[float, int, _Part]],
    said: Sequence[Said],
    room: float,
    measure: Callable[[str], float],
) -> Iterator[Span]:
    """The best span, then the best of what is left, as long as there is room."""
    heapq.heapify(waiting)
    met: dict[str, int] = {}
    repeated: set[str] = set()
    index, misses = len(waiting), 0
    while waiting and misses < _MISSES:
        _, order, part = heapq.heappop(waiting)
        if part.weigh(met) <= 0:
            continue
        if waiting and -part.worth * _SLACK > waiting[0][0]:
            heapq.heappush(waiting, (-part.worth, order, part))
            continue
        span = part.span
        text = said[span.source].text[span.start : span.end]
        if text in repeated:
            continue
        cost = measure(text) + 1
        if cost > room:
            misses += 1
            continue
        room, misses = room - cost, 0
        repeated.add(text)
        yield span
        for rest in part.take(met):
            if rest.weigh(met) > 0:
                heapq.heappush(waiting, (-rest.worth, index, rest))
                index += 1


_WEARS = [(times + 1) ** -_AGAIN for times in range(256)]


class _Part:
    """What is left of a sentence, and the best span in it."""

    __slots__ = ("_best", "_choices", "_high", "_low", "_source", "_words", "worth")

    def __init__(
        self, source: int, words: Sequence[tuple[str, float, float]], choices: list[Choice]
    ) -> None:
        self._source = source
        self._words = words
        self._choices = choices
        self._best = choices[0]
        self._low = choices[0][0]  # they stand in the order of their beginnings
        self._high = max([choice[1] for choice in choices])
        self.worth = 0.0

    @property
    def span(self) -> Span:
        """The best span, as it was last weighed."""
        return Span(self._source, self._best[2], self._best[3])

    def weigh(self, met: dict[str, int]) -> float:
        """Find the best span again, where words were met that many times. Returns its worth."""
        said, sums = 0.0, [0.0] * (self._low + 1)
        for key, weight, cue in self._words[self._low : self._high]:
            if weight:
                times = met.get(key, 0)
                said += weight * _WEARS[times if times < 255 else 255] if times else weight
            said += cue
            sums.append(said)
        best = 0.0
        for choice in self._choices:
            worth = (sums[choice[1]] - sums[choice[0]]) * choice[4]
            if worth > best:
                best, self._best = worth, choice
        self.worth = best
        return best

    def take(self, met: dict[str, int]) -> Iterator[_Part]:
        """Count the words of the best span as met. Returns what is left before and behind it."""
        first, end, begins, ends, rate = self._best
        for key, weight, _ in self._words[first:end]:
            if weight:
                met[key] = met.get(key, 0) + 1
        before = [choice for choice in self._choices if choice[1] <= first]
        behind = [choice for choice in self._choices if choice[0] >= end]
        # A rest that is no clause by itself may still be taken: it makes this span longer.
        factor = rate * (ends - begins + SPAN_CHARS)
        if not before and first > self._low:
            start = min(choice[2] for choice in self._choices)
            before = [(self._low, first, start, begins, factor / max(1, begins - start))]
        if not behind and end < self._high:
            stop = max(choice[3] for choice in self._choices)
            behind = [(end, self._high, ends, stop, factor / max(1, stop - ends))]
        for rest in (before, behind):
            if rest:
                yield _Part(self._source, self._words, rest)


def _parts(said: Sequence[Said]) -> Iterator[_Part]:
    known: dict[str, Told] = {}
    found = [part for source, text in enumerate(said) for part in sentences(source, text, known)]
    names = Names(found)
    for sentence in found:
        offered = choices(sentence, said[sentence.source].text)
        yield _Part(sentence.source, names.weighed(sentence.words), offered)
