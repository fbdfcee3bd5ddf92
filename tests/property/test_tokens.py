"""Properties of counting and rewriting that hold for any input."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import counters
from memtrace.counters import pieces
from memtrace.messages import facts, rewrite, rewrite_arguments, texts
from memtrace.tokens import MemoCounter, get_counter, measure_tokens
from memtrace.vocabulary import SHA256, offline_function, vocabulary_path

COUNTS = {name: offline_function(name, vocabulary_path(name)) for name in SHA256}

# What the encodings' patterns and our cuts turn on, beside text of any kind.
fragments = st.one_of(
    st.sampled_from(
        [" ", "  ", "\n", "\r\n", "\t", "/", "'s", "'", ".", "é", "的", "😀", "\u3000"]
    ),
    st.sampled_from(["\x1c", "\x85", "\u00a0", "ſ", "K", "123", "word", "Word", "<|endoftext|>"]),
    st.text(max_size=4),
)
any_text = st.lists(fragments, max_size=60).map("".join)
json_like: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from(
                "role content type text parts tool_calls id name input function".split()
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
words = st.text(min_size=1, max_size=12)
blocks = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, words),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, words),
    st.builds(
        lambda i, text: {"type": "tool_use", "id": i, "name": "read", "input": {"path": text}},
        words,
        words,
    ),
    st.builds(
        lambda i, text: {"type": "tool_result", "tool_use_id": i, "content": text}, words, words
    ),
)
messages = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant", "system"]),
    words | st.lists(blocks, max_size=4),
)


@pytest.mark.parametrize("name", SHA256)
@given(text=any_text)
def test_any_text_counts_as_encode_ordinary(name: str, text: str) -> None:
    """
    A counter gives what `len(encode_ordinary(text))` gives, whatever the text.
    """
    assert get_counter(name).count_text(text) == COUNTS[name](text)


@pytest.mark.parametrize("name", SHA256)
@given(text=any_text)
def test_a_natural_cut_changes_no_count(name: str, text: str) -> None:
    """
    Wherever a natural place is found, the two sides count what the whole counts.
    """
    cut = counters._natural_cut(text, 0, len(text) - 1) if len(text) > 1 else None
    if cut is not None:
        assert 0 < cut < len(text)
        count = COUNTS[name]
        assert count(text[:cut]) + count(text[cut:]) == count(text)


@given(unit=any_text.filter(bool), times=st.integers(1, 3))
def test_pieces_are_the_text(unit: str, times: int) -> None:
    """
    The pieces of a long text are in bounds and, put together, the text.
    """
    text = unit * (times * counters.WINDOW // len(unit) + 1)
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(0 < len(piece) <= counters.WINDOW for piece in cut)


@given(value=json_like)
def test_measuring_never_raises(value: Any) -> None:
    """
    Any JSON-like value, alone or as a message's content, counts ≥ 0 tokens.
    """
    for whole in (value, [value], {"role": "user", "content": value}, {"type": "text", "a": value}):
        assert measure_tokens(whole) >= 0
        facts(whole)


@given(history=st.lists(messages, max_size=5))
def test_a_list_is_the_sum_of_its_parts(history: list[Any]) -> None:
    """
    Messages count together what they count alone, and a memo changes nothing.
    """
    alone = [measure_tokens(message) for message in history]
    assert measure_tokens(history) == sum(alone)
    assert measure_tokens(history, counter=MemoCounter(get_counter("o200k_base"))) == sum(alone)
    counter = get_counter("o200k_base")
    spelled = [sum(counter.count_text(str(text)) for text in texts(m)) + 3 for m in history]
    assert spelled == alone


@given(message=messages, cut=st.integers(0, 5))
def test_rewriting_leaves_the_original_and_its_meaning(message: Any, cut: int) -> None:
    """
    A rewrite never touches what it was given, and keeps calls, results, role and signature.
    """
    before = copy.deepcopy(message)
    changed = rewrite(message, lambda text: text[:cut])
    shortened = rewrite_arguments(message, lambda text: text[:cut])
    assert message == before
    assert facts(changed) == facts(message)
    assert [call.id for call in facts(shortened).calls] == [c.id for c in facts(message).calls]
    assert type(changed) is type(shortened) is dict


@given(value=json_like)
def test_rewriting_odd_messages_never_raises(value: Any) -> None:
    """
    Whatever stands where a content or a call should, rewriting gives a message back.
    """
    for message in (
        {"role": "user", "content": value},
        {"role": "user", "content": [value]},
        {"role": "assistant", "tool_calls": [value]},
        {"type": "function_call", "arguments": value},
    ):
        assert type(rewrite(message, str.upper)) is dict
        assert type(rewrite_arguments(message, str.upper)) is dict
