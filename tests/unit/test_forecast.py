"""Forecasts: turns left before memory is full, and what they are made of."""

from __future__ import annotations

import gc
import json
import pickle
from math import inf
from pathlib import Path
from typing import Any

import pytest

from memtrace import MemoryProfile, Session, TokenBudget, compress_memory, managed_agent
from memtrace.decide.forecast import MOST, forecast
from memtrace.telemetry import names

BUDGET = 10_000


def reply(tokens: int) -> dict[str, Any]:
    return {"role": "assistant", "content": "word " * (tokens - 4)}


def ask(tokens: int) -> dict[str, Any]:
    return {"role": "user", "content": "word " * (tokens - 4)}


def talk(session: Session, turns: int, tokens: int = 100) -> None:
    for _ in range(turns):
        session.history.extend([ask(tokens // 2), reply(tokens // 2)])


# --- the function ---------------------------------------------------------------------------------


def test_even_turns_give_what_is_missing_over_a_turns_tokens() -> None:
    """
    Turns that all add the same leave what is missing / what one adds.
    """
    ahead = forecast(4_000, 10_000, [500] * 10)

    assert ahead is not None
    assert [ahead.to_80.turns, ahead.to_90.turns, ahead.to_100.turns] == [8, 10, 12]
    assert (ahead.tokens_per_turn, ahead.deviation, ahead.looked_at) == (500, 0, 10)


def test_the_spread_holds_the_number_and_widens_with_what_turns_vary() -> None:
    """
    Turns that vary more tell less.
    """
    even = forecast(4_000, 10_000, [450, 550] * 5)
    uneven = forecast(4_000, 10_000, [0, 1_000] * 5)

    assert even is not None
    assert uneven is not None
    assert even.to_80.low <= even.to_80.turns <= even.to_80.high
    assert uneven.to_80.low < even.to_80.low
    assert uneven.to_80.high > even.to_80.high


def test_what_is_reached_is_no_turn_away() -> None:
    """
    At 85% the 80% are behind, the 90% ahead.
    """
    ahead = forecast(8_500, 10_000, [250, 250, 250])

    assert ahead is not None
    assert ahead.to_80[1:] == (0, 0, 0)
    assert ahead.to_90.turns == 2


def test_memory_that_does_not_grow_is_never_full() -> None:
    """
    Turns that add nothing leave infinitely many.
    """
    ahead = forecast(1_000, 10_000, [0, 0, 0])

    assert ahead is not None
    assert ahead.to_80.turns == ahead.to_80.low == inf


def test_two_turns_say_nothing() -> None:
    """
    Fewer than three turns give no forecast; more than 64 are not looked at.
    """
    assert forecast(1_000, 10_000, [10, 10]) is None
    ahead = forecast(1_000, 10_000, [9_999] * 10 + [10] * MOST)
    assert ahead is not None
    assert (ahead.tokens_per_turn, ahead.looked_at) == (10, MOST)


# --- a session's ----------------------------------------------------------------------------------


def test_a_profile_has_the_forecast_of_its_session() -> None:
    """
    A turn is a reply with what came since the one before; the first one is left out.
    """
    session = Session(token_budget=BUDGET)
    session.history.append(ask(3_000))
    talk(session, 10)

    ahead = session.profile().forecast

    assert ahead is not None
    assert ahead.unit == "reply"
    assert ahead.looked_at == 9
    assert ahead.tokens_per_turn == pytest.approx(100, abs=2)
    assert ahead.to_80.turns == pytest.approx((8_000 - session.history.tokens) / 100, abs=1)


def test_what_was_compressed_counts_as_it_came() -> None:
    """
    A pass makes memory smaller, not the turns to come.
    """
    session = Session(token_budget=BUDGET)
    talk(session, 90)
    before = session.profile().forecast

    compress_memory(session, 0.5)

    after = session.profile().forecast
    assert before is not None
    assert after is not None
    assert after.tokens_per_turn == before.tokens_per_turn
    assert after.to_80.turns > before.to_80.turns == 0


def test_contexts_that_came_with_the_turns_count_too() -> None:
    """
    What replies bring to working memory is part of a turn; what was pinned is not.
    """
    session = Session(token_budget=BUDGET)
    session.active_contexts.add("word " * 500, key="before")
    for n in range(10):
        talk(session, 1)
        session.active_contexts.add("word " * 50, key=f"page-{n}")
        session.active_contexts.add(f"{n} " * 50, key="prompt", kind="system")

    ahead = session.profile().forecast

    assert ahead is not None
    assert ahead.tokens_per_turn == pytest.approx(155, abs=5)


def test_without_replies_a_turn_is_a_run() -> None:
    """
    An agent whose memory is contexts and state is forecast by its runs.
    """
    session = Session(token_budget=BUDGET)

    @managed_agent
    def work(session: Session, number: int) -> None:
        session.active_contexts.add("word " * 90, key=f"page-{number}")
        session.agent("worker").state = {"done": "x " * 10 * number}

    for number in range(8):
        work(session, number)

    ahead = session.profile().forecast
    assert ahead is not None
    assert (ahead.unit, ahead.looked_at) == ("run", 8)
    assert ahead.tokens_per_turn == pytest.approx(100, rel=0.1)


def test_a_stored_session_has_its_forecast_at_once(tmp_path: Path) -> None:
    """
    What a forecast is made of comes back with the items.
    """
    path = tmp_path / "memory.db"
    with Session.open("s", store=path, token_budget=BUDGET) as session:
        talk(session, 10)
        before = session.profile().forecast

    assert Session.open("s", store=path).profile().forecast == before


def test_profiles_of_nothing_have_no_forecast() -> None:
    """
    A profile that is no session's, or whose session is gone, has none; it keeps no session alive.
    """
    assert MemoryProfile(TokenBudget(100), (0, 0, 0, 0, 0)).forecast is None
    session = Session(token_budget=BUDGET)
    talk(session, 10)
    profile = session.profile()
    copied = pickle.loads(pickle.dumps(profile))
    del session
    gc.collect()

    assert profile.forecast is None
    assert copied == profile
    assert copied.forecast is None


def test_a_forecast_is_on_the_span_of_a_run_near_a_threshold(spans: Any) -> None:
    """
    The spans of runs that leave memory near a threshold say how many turns are left; others not.
    """
    session = Session(token_budget=BUDGET)

    @managed_agent
    def turn(session: Session, tokens: int) -> None:
        talk(session, 1, tokens)

    for tokens in [1_000, 100, 100, 100, *[1_000] * 7, 900]:
        turn(session, tokens)

    first, *_, last = spans.get_finished_spans()
    assert names.FORECAST_TOKENS not in (first.attributes or {})
    told = dict(last.attributes or {})
    assert told[names.FORECAST_TOKENS] == pytest.approx(730, rel=0.1)
    assert told[names.FORECAST_TURNS[0]] == 1
    assert told[names.FORECAST_LOW[2]] <= told[names.FORECAST_TURNS[2]]
    assert json.dumps(told)
