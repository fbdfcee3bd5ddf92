"""What a provider's answer says was billed, as adapters tell it to a session."""

from __future__ import annotations

from typing import Any

import pytest

from memtrace import Session
from memtrace.adapters._bills import Bill, read, record

OPENAI = {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 4}}
CHAT = {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}
GOOGLE = {"prompt_token_count": 9, "cached_content_token_count": 4}
ANTHROPIC = {
    "input_tokens": 2,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 4,
}


@pytest.mark.parametrize("usage", [OPENAI, CHAT, GOOGLE, ANTHROPIC])
def test_each_providers_words_say_the_same(usage: Any) -> None:
    """
    The whole prompt is billed, whether a provider counts what it had cached in it or besides.
    """
    assert read(usage, "some-model") == Bill(9, 4, "some-model")


@pytest.mark.parametrize(
    "usage",
    [{"prompt_tokens": 9}, {**CHAT, "prompt_tokens_details": None}, {"input_tokens": 9}],
)
def test_a_provider_that_does_not_say_what_was_cached(usage: Any) -> None:
    """
    Unknown is not zero: zeros say that a provider has no cache.
    """
    assert read(usage) == Bill(9, None, None)


@pytest.mark.parametrize("odd", ["4", -4, 4.5, True, 10, [4], object()])
def test_odd_cached_tokens_are_unknown(odd: Any) -> None:
    """
    What is no number of tokens, or more than were billed, is left out; the rest is told.
    """
    session = Session()
    assert record(session, Bill(9, odd, object()), 9)
    assert list(session.record.billed) == [(9, 9, None)]
    assert session.record.model is None


@pytest.mark.parametrize(
    "usage", [None, 3, "9", {}, {"prompt_tokens": "9"}, {"input_tokens": None}]
)
def test_without_a_bill_nothing_is_told(usage: Any) -> None:
    """
    A usage that is missing, or of an unknown form, raises nothing.
    """
    session = Session()
    assert not record(session, read(usage, "some-model"), 9)
    assert not session.record.billed


def test_the_models_name_stays_where_an_answer_has_none() -> None:
    """
    An answer's empty name is none: the one before holds.
    """
    session = Session()
    for name in ("some-model", "", None):
        record(session, Bill(9, 4, name), 9)
    assert session.record.model == "some-model"
