"""What holds for any text: spans stand in it, fit their room, and come out the same again."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from memtrace.actions.clauses import LEAST_WORDS
from memtrace.actions.extraction import Said, extract, spans
from memtrace.actions.weights import WORD

WORDS = st.sampled_from(
    "the Anna 42 met. and, in Oslo (2019) TODO: 我们决定。 大阪で 『本』 부산에서 c'est "
    "décidé! src/a.py why? perché … \n - |".split(" ")
)
TEXT = st.one_of(st.text(max_size=300), st.lists(WORDS, max_size=80).map(" ".join))


@given(st.lists(TEXT, max_size=5), st.integers(0, 600))
def test_spans_are_literal_apart_and_within_their_room(texts: list[str], room: int) -> None:
    """Spans stand in their texts in order, never overlap, and cost no more than there is."""
    found = spans([Said(text) for text in texts], room)
    assert sum(end - start + 1 for _, start, end in found) <= room
    assert found == sorted(found)
    for one, other in pairwise(found):
        assert one.source < other.source or one.end <= other.start
    for source, start, end in found:
        part = texts[source][start:end]
        assert part
        assert part == part.strip()


@given(TEXT, st.floats(0, 1))
def test_an_extract_is_never_longer_and_always_the_same(text: str, share: float) -> None:
    """It keeps to its share, and a second time gives the same."""
    kept = extract(text, share)
    assert len(kept) <= int(len(text) * share) or share >= 1
    assert extract(text, share) == kept
    assert extract(kept, 1) == kept


@given(st.lists(WORDS, min_size=30, max_size=80).map(" ".join))
def test_a_clause_has_eight_words(text: str) -> None:
    """What is no whole sentence has at least eight words."""
    for _, start, end in spans([Said(text)], len(text) // 2):
        before, behind = text[:start].rstrip(" "), text[end:].lstrip(" ")
        whole = (not before or before[-1] in ".!?…。\n)") and (
            not behind or behind[0] == "\n" or text[end - 1] in ".!?…。)"
        )
        assert whole or len(WORD.findall(text, start, end)) >= LEAST_WORDS
