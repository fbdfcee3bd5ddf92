"""What a cache's accesses say of other settings, and what is made of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import ConfigurationError, Policy, Session, managed_agent, update_cache
from memtrace.decide.cache_advice import CacheBounds, advise, settings_within
from memtrace.decide.cache_play import Accesses, CacheSetting, filled, play
from memtrace.decide.expectation import expected
from memtrace.layers import Cache, Tally, Wiring
from memtrace.layers import access as accesses_of


class Desk:
    """A clock that is set by hand, and ten tokens for every value."""

    def __init__(self) -> None:
        self.time = 1_000.0
        ids = itertools.count(1)
        self.wiring = Wiring(
            threading.RLock(),
            lambda content: 10,
            lambda: self.time,
            lambda: (None, None),
            lambda prefix: f"{prefix}{next(ids)}",
        )

    def cache(self, values: int, eviction: str = "lru") -> Cache:
        return Cache(self.wiring, Tally(), values * 10, 3, eviction)


def live(cache: Cache, keys: Iterable[object], ttl_s: float | None = None) -> Cache:
    """Look each key up, and put what is missed."""
    for key in keys:
        if cache.get(key) is None:
            cache.put(key, key, ttl_s=ttl_s)
    return cache


KEYS = st.lists(st.integers(0, 12), min_size=1, max_size=120)


@given(KEYS, st.integers(1, 14), st.sampled_from(["lru", "s3fifo"]))
def test_what_is_told_is_what_would_have_been(keys: list[int], values: int, eviction: str) -> None:
    """
    Where every access is remembered, a setting gives what it gives when it is lived through.
    """
    advice = live(Desk().cache(4), keys).advise()
    accesses = live(Desk().cache(4), keys)._accesses(1000)

    told = play(accesses, CacheSetting(values * 10, 1.0, eviction)).hit_rate

    assert told == pytest.approx(live(Desk().cache(values, eviction), keys).stats.hit_rate)
    assert advice.sampled == 1.0


@given(KEYS)
def test_rates_are_rates_and_grow_with_the_size(keys: list[int]) -> None:
    """
    Hit rates lie in 0–1, and a larger cache of the least recently used answers no less.
    """
    advice = live(Desk().cache(4), keys).advise()

    rows = sorted((advice.now, *advice.rows), key=lambda row: row.setting.limit_tokens)
    lru = [row.hit_rate for row in rows if row.setting.eviction == "lru"]
    assert all(0 <= row.hit_rate <= 1 and row.spread == 0 for row in rows)
    assert lru == sorted(lru)


@given(KEYS)
def test_advice_is_the_same_for_the_same_accesses(keys: list[int]) -> None:
    """
    Asked twice, and of two caches that lived through the same, advice is equal.
    """
    cache = live(Desk().cache(4), keys)

    assert cache.advise() == cache.advise() == live(Desk().cache(4), keys).advise()


def test_a_longer_life_is_told_where_values_expire() -> None:
    """
    A value that is asked for after its time is over would have been there had it lived longer.
    """
    desk = Desk()
    cache = desk.cache(10)
    for _ in range(100):
        live(cache, ["rate"], ttl_s=10)
        desk.time += 15

    advice = cache.advise()

    assert advice.now.hit_rate == 0
    assert advice.missed_expired == pytest.approx(0.99)
    assert advice.row(CacheSetting(100, 2.0)).hit_rate == pytest.approx(0.5)
    assert advice.recommended == CacheSetting(100, 4.0)
    assert "4 times the time to live given instead of 1" in advice.reason


def test_too_few_lookups_recommend_nothing() -> None:
    """
    Below 64 lookups the setting stays, and the reason says so.
    """
    advice = live(Desk().cache(2), [1, 2, 3] * 10).advise()

    assert advice.recommended == advice.now.setting
    assert "too few to tell" in advice.reason


def test_a_sample_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Past its most, a log keeps some keys alone, and still tells rates within their spread.
    """
    monkeypatch.setattr(accesses_of, "MOST", 2_000)
    keys = [f"key {(n * n) % 997 % (60 + n % 400)}" for n in range(12_000)]

    cache = live(Desk().cache(80), keys)
    advice = cache.advise()

    assert len(cache._log._keys) <= 2_000 + accesses_of.BATCH
    assert 0 < advice.sampled < 1
    for row in advice.rows:
        truth = live(
            Desk().cache(row.setting.limit_tokens // 10, row.setting.eviction), keys
        ).stats.hit_rate
        assert row.hit_rate == pytest.approx(truth, abs=max(0.15, 2 * row.spread))


def test_s3fifo_keeps_what_is_used_through_a_scan() -> None:
    """
    Keys asked for once, in a row, push out of an LRU what is used; S3-FIFO keeps it.
    """
    keys: list[object] = []
    for turn in range(40):
        keys += ["a", "b", "c"] * 3
        keys += [(turn, n) for n in range(12)]

    lru, s3fifo = (live(Desk().cache(10, name), keys).stats.hits for name in ("lru", "s3fifo"))

    assert s3fifo > lru


def test_settings_to_adapt_to_stay_within_bounds() -> None:
    """
    What is tried around a setting lies within the bounds, ends included.
    """
    bounds = CacheBounds(50, 250, 0.5, 2.0, ("lru",))

    tried = settings_within(CacheSetting(100), bounds)

    assert {setting.limit_tokens for setting in tried} == {50, 100, 200, 250}
    assert {setting.ttl_factor for setting in tried} == {0.5, 1.0, 2.0}


def go_round(session: Session, turns: int = 60) -> None:
    live(session.cache, [f"key {n}" for n in range(12)] * turns)


def test_a_cache_grows_by_its_advice_within_bounds() -> None:
    """
    With `adapt_cache` a cache too small for what comes round grows after a run, and the report
    says from what to what, and why; it never passes a quarter of the budget.
    """
    session = Session(token_budget=300, policy=Policy(adapt_cache=True))

    managed_agent(go_round)(session)

    (report,) = [r for r in session.reports if r.action == "update_cache"]
    assert session.cache.limit_tokens <= 75
    assert session.cache.limit_tokens > 30
    assert "adapted: of 720 lookups" in report.reason
    assert "tokens instead of 30" in report.reason


def test_a_cache_stays_as_it_is_where_nothing_is_better() -> None:
    """
    Adapted once, the same accesses change nothing more; without `adapt_cache` nothing ever does.
    """
    session = Session(token_budget=300, policy=Policy(adapt_cache=True))
    for _ in range(2):
        go_round(session)
        update_cache(session)
    settled = session.cache.limit_tokens
    for _ in range(3):
        go_round(session)
        update_cache(session)
    other = Session(token_budget=300)
    go_round(other)
    update_cache(other)

    assert session.cache.limit_tokens == settled
    assert other.cache.limit_tokens == 30


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"cache_eviction": "lfu"}, "Policy.cache_eviction must be 'lru' or 's3fifo', got 'lfu'"),
        ({"adapt_cache": 1}, "Policy.adapt_cache must be True or False, got 1"),
        ({"cache_least": 0.5}, r"Policy.cache_least \(0.5\) must not be above cache_most"),
        ({"cache_ttl_times": 0}, "Policy.cache_ttl_times must be a whole number"),
    ],
)
def test_settings_that_cannot_work_are_refused(constants: dict[str, object], message: str) -> None:
    """
    A wrong constant is named, with what was given.
    """
    with pytest.raises(ConfigurationError, match=message):
        Policy(**constants)  # type: ignore[arg-type]


def test_what_follows_and_what_comes_round_is_expected() -> None:
    """
    A key is expected after those it followed, or when it is due; others are not.
    """
    chain = ["plan", "rates", "noise"] * 4 + ["plan"]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(chain))}
    there = Accesses([numbers[name] for name in chain], [0] * len(chain), [0.0] * len(chain))

    assert expected(there, {numbers["rates"]}) == [numbers["rates"]]
    assert expected(there, {99}) == []


def test_a_value_that_nobody_asks_for_is_loaded_a_bounded_number_of_times() -> None:
    """
    A loaded value that leaves unasked for is not loaded again until it is asked for.
    """
    desk = Desk()
    cache = desk.cache(10)
    cache.loader("rates", ttl_s=10)(lambda: "made")

    for _ in range(20):
        cache._load_due()
        desk.time += 11
        cache._sweep()

    assert cache.stats.preloads == 1
    assert cache.stats.wasted == 1
    cache.get("rates")
    assert cache._load_due() == 1


def test_an_expected_value_is_loaded_before_its_time_is_over() -> None:
    """
    A value that is asked for each turn, and would be over by then, is made anew before: no turn
    misses it once that is known.
    """
    desk = Desk()
    cache = desk.cache(10)
    cache.loader("rates", ttl_s=15)(lambda: "made")
    found = []

    for turn in range(20):
        live(cache, ["plan"])
        found.append(cache.get("rates"))
        live(cache, [("noise", turn % 3)])
        cache._load_due()
        desk.time += 10

    assert found[4:] == ["made"] * 16
    assert cache.stats.wasted == 0


def test_accesses_recorded_elsewhere_are_advised_on() -> None:
    """
    Advice needs no cache: accesses that were recorded are enough.
    """
    keys = list(range(5)) * 30

    advice = advise(Accesses(keys, [filled(10)] * 150, [0.0] * 150), CacheSetting(20))

    assert advice.recommended == CacheSetting(80)
    assert advice.row(advice.recommended).hit_rate == pytest.approx(145 / 150)


def test_the_policy_says_who_leaves_first() -> None:
    """
    Policy(cache_eviction="s3fifo") is how a session's cache is emptied.
    """
    session = Session(policy=Policy(cache_eviction="s3fifo"))

    assert session.cache.advise().now.setting.eviction == "s3fifo"
