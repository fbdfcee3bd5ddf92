"""When a pass pays: what it saves in the calls to come, against what must be read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memtrace import (
    ConfigurationError,
    Item,
    Layer,
    Policy,
    Session,
    compress_memory,
    managed_agent,
    trigger_cleanup,
)
from memtrace.decide.worth import calls_ahead, reread, worth
from memtrace.prices import PRICES, Price, price_of
from memtrace.testing import capture

PASSES = ("cleanup", "compress")
DEAR = Price(cached_read=0.01, cache_write=1.25)
"""Reading again costs so much more than a cached read that no pass pays."""
CHEAP = Price(cached_read=0.9)
"""A prompt cache that hardly helps: every pass pays."""


def item(name: str, tokens: int = 100, of: tuple[str, ...] = ()) -> Item:
    return Item(name, Layer.CONVERSATION_HISTORY, "user", name, tokens, derived_from=of)


def items(names: str) -> list[Item]:
    return [item(name) for name in names]


class TestReread:
    """How a provider reads a prompt that follows another."""

    def test_what_both_begin_with_is_read_from_the_cache(self) -> None:
        """Messages added at the end are new, all before them is kept."""
        read = reread(items("abc"), items("abcde"))

        assert (read.kept, read.lost, read.again, read.new) == (300, 0, 0, 200)
        assert not read.broken

    def test_from_the_first_change_on_all_is_read_again(self) -> None:
        """What stands behind a shorter form was in the cache, and is no more; new stays new."""
        view = [item("a"), item("b2", 10, of=("b",)), item("c"), item("d")]

        read = reread(items("abc"), view)

        assert (read.kept, read.lost, read.again, read.new) == (100, 200, 110, 100)
        assert read.broken

    def test_a_digest_stands_for_what_it_took_in(self) -> None:
        """A digest of a digest is read again too: it is no news."""
        digest = item("x", 20, of=("a", "b"))
        larger = item("y", 30, of=("a", "b", "c"))

        assert reread([digest, *items("cd")], [larger, *items("d")]).new == 0

    @given(st.lists(st.sampled_from("abcdef")), st.lists(st.sampled_from("abcdef")))
    def test_each_token_is_read_once(self, before: list[str], after: list[str]) -> None:
        """Kept, again and new sum to the prompt; kept and lost to the one before."""
        previous, view = items("".join(before)), items("".join(after))

        read = reread(previous, view)

        assert read.tokens == 100 * len(view)
        assert read.kept + read.lost == 100 * len(previous)


class TestWorth:
    """The net of a pass, in tokens at full price."""

    def test_saved_in_each_call_less_what_is_read_again(self) -> None:
        """300 saved at .1 in 20 calls more, 200 read again at 1 rather than .1, 30 saved now."""
        without = items("abcdef")
        changed = [item("a"), item("z", 100, of=("b", "c", "d", "e")), item("f")]

        value = worth(without, without, changed, 20, Price(cached_read=0.1))

        assert (value.saved_tokens, value.reread_tokens, value.calls) == (300, 200, 20)
        assert value.net_tokens == pytest.approx(300 * 0.1 * 20 + 300 * 0.1 - 200 * 0.9)
        assert value.pays

    def test_what_no_model_has_read_yet_costs_nothing_to_rewrite(self) -> None:
        """Only the part that was sent before would have been read at a share of the price."""
        without, changed = items("abc"), [*items("ab"), item("c2", 10, of=("c",))]

        assert worth(items("ab"), without, changed, 0, Price()).net_tokens == 90

    def test_what_the_provider_forgot_is_read_at_full_price_either_way(self) -> None:
        """Then a pass costs nothing, and saves at once."""
        without, changed = items("abc"), [item("a2", 10, of=("a",)), *items("bc")]

        assert not worth(without, without, changed, 0, Price()).pays
        assert worth(without, without, changed, 0, Price(), cached=False).net_tokens == 90

    def test_no_more_calls_are_expected_than_there_were(self) -> None:
        """Nor more than memory takes to fill up again, half of them."""
        assert calls_ahead(5, 10, 1000, 1000) == 5
        assert calls_ahead(500, 10, 1000, 1000) == 99
        assert calls_ahead(500, 10, 0, -1000) == 0

    def test_a_session_that_adds_nothing_never_fills_up(self) -> None:
        """Then its own past alone tells how long it goes on."""
        assert calls_ahead(7, 0.0, 1000, 1000) == 7


class TestPrices:
    """The table of price shares."""

    @pytest.mark.parametrize(
        ("name", "like"),
        [
            ("claude-sonnet-4-5", "claude"),
            ("us.anthropic.claude-haiku-4-5-v1:0", "claude"),
            ("openai/gpt-4o-mini", "gpt-4o"),
            ("GPT-4.1-nano", "gpt-4.1"),
            ("o3-mini-2025-01-31", "o3-mini"),
            ("gemini-2.0-flash", "gemini-2.0"),
            ("gemini-3-pro", "gemini"),
        ],
    )
    def test_the_last_and_longest_part_of_a_name_tells(self, name: str, like: str) -> None:
        """A provider's name before the model's does not hide it."""
        assert price_of(name) == PRICES[like]

    @pytest.mark.parametrize("name", [None, "", "my-model", "turbo1"])
    def test_a_model_that_is_not_listed_has_the_default(self, name: str | None) -> None:
        """Nor does a part within a word count."""
        assert price_of(name) == Price()

    @pytest.mark.parametrize(
        "prices", [0.1, (0.1, 1.0), Price(1.5), Price(0.1, -1), {"claude": 0.1}, {1: Price()}]
    )
    def test_prices_that_cannot_be_are_refused(self, prices: Any) -> None:
        """The message says what was given, and what would work."""
        with pytest.raises(ConfigurationError, match=r"Policy\.prices must be a Price\("):
            Policy(prices=prices)


# --- the loop -------------------------------------------------------------------------------------


def called(number: int, tokens: int) -> Iterator[dict[str, Any]]:
    name = f"call{number}"
    yield {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    }
    yield {"role": "tool", "tool_call_id": name, "content": f"line {number} of it\n" * tokens}


@managed_agent
def work(session: Session, calls: int, tokens: int = 60) -> None:
    """Call a model, and after each call a tool whose output enters the history."""
    for number in range(calls):
        session.messages()
        session.history.extend(called(number, tokens))


def worked(policy: Policy, calls: int = 40, budget: int = 6_000) -> Session:
    session = Session(token_budget=budget, policy=policy)
    session.history.append({"role": "user", "content": "Find out what is wrong."})
    work(session, calls)
    return session


def passes(session: Session) -> list[str]:
    return [r.outcome for r in session.reports if r.action in PASSES]


def test_a_pass_that_does_not_pay_is_declined_until_the_budget_forces_it() -> None:
    """
    No pass is made before the budget is nearly used up, and the report gives the figures.
    """
    policy = Policy(prices=DEAR)
    session = worked(policy)

    reports = [r for r in session.reports if r.action in PASSES]
    declined = [r for r in reports if r.outcome == "declined"]
    assert declined
    assert all(r.reason.startswith("it does not pay: ") for r in declined)
    made = [r for r in reports if r.items]
    assert made
    assert all(r.tokens_before > policy.budget_alert * session.token_budget for r in made)


def test_a_pass_that_pays_is_made_under_the_budget() -> None:
    """
    Where cached reads are no bargain, room is made as soon as the thresholds call for it.
    """
    session = worked(Policy(prices=CHEAP))

    made = [r for r in session.reports if r.items]
    assert made
    assert all(r.tokens_before <= session.token_budget for r in made)
    assert "declined" not in passes(session)
    assert "read again: +" in made[0].reason


def test_a_judged_pass_goes_on_to_the_deep_target() -> None:
    """
    What follows a change is read again in any case, so more of it is made shorter at once.
    """
    deep, shallow = (
        next(r for r in worked(Policy(prices=CHEAP, judge=judge)).reports if r.items)
        for judge in (True, False)
    )

    assert deep.tokens_after <= 0.55 * 6_000 < shallow.tokens_after


def test_without_the_judgement_thresholds_alone_decide() -> None:
    """
    No pass is declined for what it costs, and no report speaks of it.
    """
    session = worked(Policy(prices=DEAR, judge=False))

    assert "effective" in passes(session)
    assert not [r for r in session.reports if "read again" in r.reason]


@pytest.mark.parametrize("action", [trigger_cleanup, compress_memory])
def test_by_hand_nothing_is_judged(action: Any) -> None:
    """
    Whoever calls an action has decided: it stops at its target, and is never declined.
    """
    session = worked(Policy(prices=DEAR), calls=24, budget=8_000)

    report = action(session, 0.6)

    assert report.outcome == "effective"
    assert report.reason == "by hand"


def test_a_session_that_called_no_model_has_nothing_to_read_again() -> None:
    """
    What was never sent is in no cache: the thresholds decide.
    """
    session = Session(token_budget=1_000, policy=Policy(prices=DEAR))
    for number in range(8):
        session.history.extend(called(number, 20))

    session.messages()

    assert passes(session)[0] == "effective"


def test_after_a_pause_a_pass_is_free() -> None:
    """
    What the provider has forgotten is read at full price anyway: then a pass is made.
    """
    session = worked(Policy(prices=DEAR._replace(kept_s=300)), calls=24, budget=9_500)
    assert set(passes(session)) == {"declined"}
    session._shift += 301.0  # its clock is that much further
    session.history.append({"role": "user", "content": "And what else is wrong? " * 160})

    session.messages()

    assert passes(session)[-1] == "effective"


def test_a_provider_without_a_prompt_cache_is_known_by_its_bills() -> None:
    """
    Bills that tell of no cached token: every prompt is read at full price, so a pass pays.
    """
    session = Session(token_budget=6_000, policy=Policy(prices=DEAR))
    for _ in range(3):
        session.record_usage(1_000, counted_tokens=1_000, cached_tokens=0)
    session.history.append({"role": "user", "content": "Find out what is wrong."})

    work(session, 40)

    assert "declined" not in passes(session)


def test_the_model_that_was_billed_tells_the_prices() -> None:
    """
    ``record_usage(model=…)`` names the model, and the policy's table its prices.
    """
    policy = Policy(prices={"thrifty": DEAR, "plain": CHEAP})
    outcomes = []
    for model in ("thrifty-1", "plain-1"):
        session = Session(token_budget=6_000, policy=policy)
        session.history.append({"role": "user", "content": "Find out what is wrong."})
        session.record_usage(1_000, counted_tokens=1_000, model=model)
        work(session, 26)
        outcomes.append("declined" in passes(session))

    assert outcomes == [True, False]
    with pytest.raises(ConfigurationError, match="model must be a text"):
        session.record_usage(10, model=3)  # type: ignore[arg-type]


def test_the_span_and_the_metrics_tell_the_judgement() -> None:
    """
    Each judged pass says how it was decided, what it nets, and what is read again.
    """
    with capture() as telemetry:
        worked(Policy(prices=DEAR))

    spans = [s for s in telemetry.spans if "memtrace.action.decision" in s.attributes]
    decisions = {s.attributes["memtrace.action.decision"] for s in spans}
    assert decisions == {"declined", "forced"}
    forced = next(s for s in spans if s.attributes["memtrace.action.decision"] == "forced")
    assert forced.attributes["memtrace.prompt_cache.saved_tokens"] > 0
    assert forced.attributes["memtrace.prompt_cache.reread_tokens"] > 0
    assert isinstance(forced.attributes["memtrace.action.net_tokens"], float)
    assert forced.attributes["memtrace.prompt_cache.expected_calls"] >= 0
    counts = {
        point["attributes"]["memtrace.action.decision"]: point["value"]
        for point in telemetry.metrics["memtrace.judgements"]
    }
    assert sum(counts.values()) == len(spans)
    assert set(counts) == decisions
    (again,) = telemetry.metrics["memtrace.prompt_cache.reread_tokens"]
    assert again["value"] == sum(
        s.attributes["memtrace.prompt_cache.reread_tokens"]
        for s in spans
        if s.attributes["memtrace.action.decision"] == "forced"
    )
    (net,) = telemetry.metrics["memtrace.action.net_tokens"]
    assert net["attributes"]["memtrace.action.decision"] == "forced"
