"""Orders of merit: two made into one, and one put right by what stands beside each hit."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from .corpus import Corpus
from .passages import Text, texts_of

H = TypeVar("H", bound=Hashable)

RRF = 60
"""The constant of reciprocal rank fusion. Source: Cormack, Clarke and Büttcher, SIGIR 2009."""

BESIDE, BESIDE_SHORT = 0.2, 0.4
"""What the better of a message's neighbours adds to its score, and to that of a short one. Source:
over recorded dialogues any share from .05 to .3 finds more than none; where messages are short,
neighbours' words at half their weight found most: an answer stands one turn from its question."""

SHORT = 48
"""Tokens up to which a message is short."""

ALONG = 0.3
"""What the next best passage of the same item adds."""

_LIFTING = 30
"""Of how many messages, the best ones, the neighbours are found with them."""


def fused(*orders: Sequence[H]) -> list[H]:
    """One order of several, by the sum of 1 / (60 + rank). Equal ones stay as the first has them.

    >>> fused(["a", "b", "c"], ["c", "a"])
    ['a', 'c', 'b']
    """
    scores: dict[H, float] = {}
    for order in orders:
        for rank, hit in enumerate(order, 1):
            scores[hit] = scores.get(hit, 0.0) + 1 / (RRF + rank)
    return sorted(scores, key=lambda hit: -scores[hit])


def ranked(scores: Mapping[Text, float], corpus: Corpus) -> list[Text]:
    """Texts by their own score, their item's next best one's, and its neighbours'.

    Args:
        scores: What a search gave each text that it found.
        corpus: Where they are from.
    """
    by_item: dict[str, list[float]] = {}
    for text, score in scores.items():
        by_item.setdefault(text.item, []).append(score)
    for found in by_item.values():
        found.sort(reverse=True)
    at = {corpus.places[i]: found[0] for i, found in by_item.items() if i in corpus.places}
    merits: dict[Text, float] = {}
    for text, score in scores.items():
        found = by_item[text.item]
        along = found[1 if score == found[0] else 0] if len(found) > 1 else 0.0
        place = corpus.places.get(text.item, -2)
        merits[text] = score + ALONG * along + _beside(place, at, corpus)
    for place in sorted(at, key=lambda place: -at[place])[:_LIFTING]:
        for beside in (place - 1, place + 1):
            item = None if beside in at else corpus.message(beside)
            if item is not None and item.tokens <= SHORT:
                merits[texts_of(item)[0]] = _beside(beside, at, corpus)
    return sorted(merits, key=lambda text: -merits[text])


def _beside(place: int, at: Mapping[int, float], corpus: Corpus) -> float:
    """What its neighbours add to a message."""
    best = max(at.get(place - 1, 0.0), at.get(place + 1, 0.0))
    if not best:
        return 0.0
    item = corpus.message(place)
    return best * (BESIDE_SHORT if item is not None and item.tokens <= SHORT else BESIDE)
