"""Diagnosis: a session built to show each symptom, and what its best remedy does."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memtrace import ConfigurationError, Finding, Policy, Session, diagnose, managed_agent
from memtrace._diagnose.wear import _left
from memtrace.outlook import TurnsLeft
from memtrace.replay import read_session

BUDGET = 10_000
WORDS = "rain wind snow hail fog frost thaw storm cloud sun dew mist ice gale calm heat".split()


def text(tokens: int, seed: int = 0) -> str:
    """About so many tokens of sentences that no other seed gives."""
    chosen = random.Random(seed)
    lines = []
    while tokens > 0:
        line = " ".join(chosen.choices(WORDS, k=10)) + f" {chosen.randrange(1000)}."
        lines.append(line.capitalize())
        tokens -= 13
    return "\n".join(lines)


def said(role: str, tokens: int, seed: int = 0) -> dict[str, Any]:
    return {"role": role, "content": text(tokens, seed)}


def called(number: int, tool: str, tokens: int) -> list[dict[str, Any]]:
    """A call of a tool, and its output."""
    call = {"id": f"c{number}", "type": "function", "function": {"name": tool, "arguments": "{}"}}
    output = {"role": "tool", "tool_call_id": f"c{number}", "content": text(tokens, number)}
    return [{"role": "assistant", "content": None, "tool_calls": [call]}, output]


@managed_agent
def turn(session: Session, *messages: Any) -> None:
    """A run that only takes in messages."""
    session.history.extend(messages)


def named(session: Session) -> list[str]:
    return [finding.symptom for finding in diagnose(session)]


# --- sessions that show one symptom each ----------------------------------------------------------


def crowded_working_memory() -> Session:
    session = Session(token_budget=BUDGET)
    for n in range(9):
        session.active_contexts.add(text(400, n), key=f"notes-{n}.md")
    return session


def exhausted() -> Session:
    session = Session(token_budget=BUDGET)
    for n in range(47):
        session.history.append(said("user" if n % 2 == 0 else "assistant", 205, n))
    return session


def pinned_full() -> Session:
    session = Session(token_budget=BUDGET)
    for n in range(12):
        session.active_contexts.add(text(200, n), key=f"rule-{n}", pinned=True)
    session.agent("planner").state = {"plan": text(5_000, 99)}
    return session


def thrashing() -> Session:
    """Each run brings two passes' worth."""
    policy = Policy(cleanup_target=0.8, compress_target=0.8, judge=False)
    session = Session(token_budget=BUDGET, policy=policy)

    @managed_agent
    def busy(session: Session, number: int) -> None:
        for step in range(8):
            session.history.extend(called(number * 10 + step, f"tool-{step}", 400))
            session.messages()

    session.history.append(said("user", 30, 1))
    for number in range(12):
        busy(session, number)
    return session


def begun_heavy() -> Session:
    session = Session(token_budget=BUDGET)
    for n in range(6):
        session.active_contexts.add(text(440, n), key=f"manual-{n}")
    turn(session, said("user", 20, 7), said("assistant", 20, 8))
    return session


def repeating() -> Session:
    session = Session(token_budget=BUDGET)
    for n in range(12):
        session.history.append(said("assistant", 500, n % 4))
    return session


def one_item() -> Session:
    session = Session(token_budget=BUDGET)
    session.history.append(said("user", 30, 1))
    session.history.extend(called(1, "read", 3_500))
    session.history.append(said("user", 30, 2))
    return session


def one_tool() -> Session:
    session = Session(token_budget=BUDGET)
    session.history.append(said("user", 30, 1))
    for n in range(12):
        session.history.extend(called(n, "grep", 420))
    session.history.extend(called(50, "read", 100))
    return session


def one_agent() -> Session:
    session = Session(token_budget=BUDGET)
    session.agent("writer").state = {"draft": text(100)}

    @managed_agent(name="reader")
    def reader(session: Session) -> None:
        for n in range(4):
            session.active_contexts.add(text(400, n), key=f"page-{n}")
            session.history.append(said("assistant", 700, n + 10))

    reader(session)
    return session


def miscounting() -> Session:
    """The provider bills twice what is counted."""
    session = Session(token_budget=BUDGET)
    for n in range(10):
        session.history.append(said("user" if n % 2 == 0 else "assistant", 450, n))
        counted = session.history.tokens
        session.record_usage(2 * counted, counted_tokens=counted)
    return session


class Provider:
    """Bills a prompt, and reads from its cache what begins as the last one did."""

    def __init__(self) -> None:
        self.last: list[Any] = []

    def call(self, session: Session) -> None:
        sent = session.messages()
        same = itertools.takewhile(lambda two: two[0] == two[1], zip(sent, self.last, strict=False))
        counted = [session._count(message) for message in sent]
        cached = sum(counted[: len(list(same))])
        self.last = sent
        session.record_usage(sum(counted), counted_tokens=sum(counted), cached_tokens=cached)


def talk(session: Session, provider: Provider, turns: range) -> None:
    for n in turns:
        turn(session, *called(n, f"tool-{n % 5}", 330))
        provider.call(session)


def rewritten() -> Session:
    """A policy so tight that each turn rewrites the conversation."""
    policy = Policy(
        compress_above=0.6, compress_target=0.59, cleanup_above=0.6, cleanup_target=0.59,
        least_gain=0.0001, judge=False,
    )  # fmt: skip
    session = Session(token_budget=BUDGET, policy=policy)
    session.history.append(said("user", 30, 1))
    talk(session, Provider(), range(60))
    return session


def missing_cache() -> Session:
    """A cache too small for what goes round in it."""
    session = Session(token_budget=BUDGET)
    ask(session, 200)
    return session


def ask(session: Session, times: int) -> None:
    for n in range(times):
        key = n % 12
        if session.cache.get(key) is None:
            session.cache.put(key, text(150, key))


def overdue() -> Session:
    session = Session(token_budget=BUDGET)
    session.active_contexts.add(text(100), key="old")
    session._shift = 100 * 86_400.0  # its clock is a hundred days further
    return session


SICK: dict[str, Callable[[], Session]] = {
    "high_working_memory": crowded_working_memory,
    "budget_exhaustion": exhausted,
    "unreachable_target": pinned_full,
    "thrashing": thrashing,
    "heavy_start": begun_heavy,
    "duplicates": repeating,
    "dominating_item": one_item,
    "dominating_tool": one_tool,
    "dominating_agent": one_agent,
    "estimate_off": miscounting,
    "broken_prompt_cache": rewritten,
    "low_cache_hit_rate": missing_cache,
    "overdue_review": overdue,
}


@pytest.mark.parametrize("symptom", SICK)
def test_a_session_that_shows_a_symptom_has_it_named_first(symptom: str) -> None:
    """
    The symptom that a session was built to show comes first, with its causes and its remedies.
    """
    finding = diagnose(SICK[symptom]())[0]

    assert finding.symptom == symptom
    assert finding.severity != "info"
    assert finding.causes
    assert [c.tokens for c in finding.causes] == sorted(c.tokens for c in finding.causes)[::-1]
    assert finding.remedies[0].applicable
    assert finding.excess > 1


@pytest.mark.parametrize(
    "symptom", sorted(set(SICK) - {"thrashing", "broken_prompt_cache", "low_cache_hit_rate"})
)
def test_the_best_remedy_cures(symptom: str) -> None:
    """
    What memory holds is measured right after the first remedy, and is under its threshold.
    """
    session = SICK[symptom]()

    applied = diagnose(session)[0].apply()

    assert applied.after is not None
    assert applied.cured, applied
    assert symptom not in named(session)


def test_a_thrashing_session_has_fewer_cleanups_than_runs_after_its_best_remedy() -> None:
    """
    What shows in use alone is measured over the runs that follow the remedy.
    """
    session = thrashing()

    applied = diagnose(session)[0].apply()

    assert applied.after is None
    assert applied.cured is None
    for number in range(100, 112):
        turn(session, *[m for n in range(8) for m in called(number * 10 + n, "tool", 400)])
        session.messages()
    assert applied.measure() is not None
    assert applied.cured


def test_a_prompt_cache_is_read_again_after_the_best_remedy() -> None:
    """
    Passes in batches leave what the provider has cached as it is, most of the turns.
    """
    session = rewritten()
    finding = diagnose(session)[0]

    applied = finding.apply()

    talk(session, Provider(), range(100, 140))
    assert applied.cured
    assert applied.measure() < finding.measured  # type: ignore[operator]


def test_a_cache_answers_enough_after_its_best_remedy() -> None:
    """
    The hit rate is that of the lookups after the remedy, whatever was missed before.
    """
    session = missing_cache()

    applied = diagnose(session)[0].apply()

    assert applied.remedy == "larger_cache"
    ask(session, 200)
    assert applied.cured


def test_values_that_expire_too_soon_are_given_longer_to_live() -> None:
    """
    Where misses come of times to live, the remedy is a longer one.
    """
    session = Session(token_budget=BUDGET)

    def ask_slowly() -> None:
        for _ in range(150):
            session._shift += 1.0  # a second goes by on its clock
            if session.cache.get("rates") is None:
                session.cache.put("rates", text(50), ttl_s=1.5)

    ask_slowly()
    finding = next(f for f in diagnose(session) if f.symptom == "low_cache_hit_rate")
    applied = finding.apply()

    assert applied.remedy == "longer_ttl"
    ask_slowly()
    assert applied.cured


# --- what a finding is ----------------------------------------------------------------------------


def test_diagnosing_changes_nothing() -> None:
    """
    Memory, reports and alerts are after a diagnosis what they were before it.
    """
    session = exhausted()
    before = session.profile(), session.reports, session.alerts, session.budget

    diagnose(session)

    assert (session.profile(), session.reports, session.alerts, session.budget) == before


def test_each_remedy_that_can_be_applied_says_what_it_did() -> None:
    """
    Every remedy of every symptom runs, and the tokens before and after it are measured.
    """
    for build in SICK.values():
        for n, remedy in enumerate(diagnose(build())[0].remedies):
            session = build()
            finding = diagnose(session)[0]
            if remedy.applicable:
                applied = finding.apply(finding.remedies[n])
                assert applied.remedy == remedy.name
                assert applied.tokens_after == session.profile().total_tokens
            else:
                with pytest.raises(ConfigurationError, match="can be applied"):
                    finding.apply(remedy.name)


def test_an_unknown_remedy_is_refused() -> None:
    """
    The error lists the remedies that there are.
    """
    finding = diagnose(exhausted())[0]

    with pytest.raises(ConfigurationError, match=r"'prayer'.*cleanup_by_component"):
        finding.apply("prayer")


def test_a_fresh_session_is_healthy() -> None:
    """
    An empty session has no findings, whatever is asked of it.
    """
    assert diagnose(Session()) == []


def test_a_session_that_fills_up_soon_is_told_of() -> None:
    """
    The forecast is a finding where few turns are left before 80%.
    """
    session = Session(token_budget=BUDGET)
    for n in range(10):
        session.history.extend([said("user", 300, n), said("assistant", 300, n + 100)])

    (finding,) = diagnose(session)

    assert (finding.symptom, finding.severity) == ("filling_up", "info")
    assert 3 <= finding.evidence["turns_to_80"] <= 5


@pytest.mark.parametrize(
    ("left", "told"),
    [
        ((0.3, 0.1, 0.9), "the next turn may reach 80% of the budget"),
        ((1.0, 1.0, 1.0), "about 1 turn is left before 80% of the budget"),
        ((1.2, 0.9, 3.4), "about 1 turn is left before 80% of the budget (1 to 3)"),
        ((4.6, 2.0, 9.1), "about 5 turns are left before 80% of the budget (2 to 9)"),
    ],
)
def test_turns_left_are_told_in_plain_words(left: tuple[float, float, float], told: str) -> None:
    """
    One turn is one turn, and bounds that say no more are left out.
    """
    assert _left(TurnsLeft(0.8, *left)) == told


def test_what_prompts_carry_beside_memory_lowers_the_budget() -> None:
    """
    Where billed and counted grow alike, the rest is a prompt that the session does not hold.
    """
    session = Session(token_budget=BUDGET)
    for n in range(10):
        session.history.append(said("user" if n % 2 == 0 else "assistant", 450, n))
        counted = session.history.tokens
        session.record_usage(counted + 4_000, counted_tokens=counted)

    finding = next(f for f in diagnose(session) if f.symptom == "estimate_off")
    applied = finding.apply()

    assert applied.remedy == "reserve"
    assert session.token_budget == BUDGET - 4_000
    assert session.budget_log[-1].reason == "prompts carry more than memory"
    assert applied.cured


def test_a_calibrated_session_counts_as_billed() -> None:
    """
    The remedy for another tokenizer makes every count what the provider bills.
    """
    session = miscounting()
    counted = session.history.tokens

    diagnose(session)[0].apply("calibrate")

    assert session.history.tokens == pytest.approx(2 * counted, rel=0.01)
    assert session.counting.quality == "estimate"


def test_the_first_profile_above_a_quarter_of_the_budget_is_told_to_hooks() -> None:
    """
    A hook at ``threshold`` hears of it once, at the end of the session's first run.
    """
    session = Session(token_budget=BUDGET)
    heard: list[Any] = []
    session.on("threshold")(lambda event: heard.append(event.alert))
    session.active_contexts.add(text(3_000), key="manual")

    turn(session)
    turn(session)

    (alert,) = heard
    assert (alert.threshold, alert.severity) == ("first_profile", "info")
    assert "essentials only" in alert.message


def test_a_small_first_profile_is_told_to_nobody() -> None:
    """
    Below a quarter of the budget there is nothing to say.
    """
    session = Session(token_budget=BUDGET)
    heard: list[Any] = []
    session.on("threshold")(heard.append)
    session.active_contexts.add(text(2_000), key="manual")

    turn(session)

    assert heard == []


# --- stored and recorded sessions -----------------------------------------------------------------


def test_a_stored_session_is_diagnosed_without_its_process(tmp_path: Path) -> None:
    """
    From its store alone the same is found, usage and run log included.
    """
    path = tmp_path / "memory.db"
    with Session.open("s", store=path, token_budget=BUDGET) as session:
        for n in range(10):
            turn(session, said("user", 400, n), said("assistant", 50, n + 50))
            counted = session.history.tokens
            session.record_usage(2 * counted, counted_tokens=counted)
        here = named(session)

    assert "estimate_off" in here
    assert [finding.symptom for finding in diagnose(path)] == here
    assert [finding.symptom for finding in diagnose(path, id="s")] == here


def test_a_thrashing_session_is_known_from_its_store(tmp_path: Path) -> None:
    """
    The run log says how often room was made, in whichever process.
    """
    path = tmp_path / "memory.db"
    policy = Policy(cleanup_target=0.8, compress_target=0.8, judge=False)
    with Session.open("s", store=path, token_budget=BUDGET, policy=policy) as session:
        session.history.append(said("user", 30, 1))

        @managed_agent
        def busy(session: Session, number: int) -> None:
            for step in range(8):
                session.history.extend(called(number * 10 + step, f"tool-{step}", 400))
                session.messages()

        for number in range(12):
            busy(session, number)

    assert "thrashing" in [finding.symptom for finding in diagnose(path)]


def test_a_store_with_several_sessions_needs_an_id(tmp_path: Path) -> None:
    """
    The error names the sessions that there are.
    """
    path = tmp_path / "memory.db"
    for name in ("a", "b"):
        Session.open(name, store=path).close()

    with pytest.raises(ConfigurationError, match=r"holds 2 sessions.*'a', 'b'"):
        diagnose(path)
    with pytest.raises(ConfigurationError, match="no session 'c'"):
        diagnose(path, id="c")
    assert diagnose(path, id="a") == []


def test_a_recorded_session_is_diagnosed_from_its_file(tmp_path: Path) -> None:
    """
    A recording is read whole, and held against the window it was recorded with.
    """
    path = tmp_path / "recorded.jsonl"
    header = {"session_id": "r", "budget_hint": {"context_window": 4_000}}
    messages = [said("user" if n % 2 == 0 else "assistant", 500, n) for n in range(8)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *messages]), "utf-8")

    assert diagnose(path)[0].symptom == "budget_exhaustion"
    assert diagnose(str(path), token_budget=100_000) == []


def test_a_diagnosed_file_leaves_no_trace(
    tmp_path: Path, spans: Any, metrics: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """
    What was recorded is past: no span, no alert and no metric tells of it again.
    """
    path = tmp_path / "recorded.jsonl"
    header = {"session_id": "r", "budget_hint": {"context_window": 4_000}}
    messages = [said("user" if n % 2 == 0 else "assistant", 500, n) for n in range(8)]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *messages]), "utf-8")

    found = diagnose(path)

    assert found
    assert spans.get_finished_spans() == ()
    assert caplog.records == []
    told = json.loads(metrics.get_metrics_data().to_json())["resource_metrics"]
    every = [m for r in told for scope in r["scope_metrics"] for m in scope["metrics"]]
    usage = [m for m in every if m["name"] == "memtrace.memory.usage"]
    assert [
        point["value"] for m in usage for point in m["data"]["data_points"] if point["value"]
    ] == []


def healthy() -> Iterator[Path]:
    from benchmarks._healthy import HEALTHY

    folder = os.environ.get("MEMTRACE_SESSIONS")
    if folder is not None:
        yield from (p for p in sorted(Path(folder).glob("*/*.jsonl")) if p.stem in HEALTHY)


def test_healthy_recorded_sessions_have_no_warnings() -> None:
    """
    The recorded sessions listed as healthy have no finding of severity warning or worse.
    """
    found: dict[str, list[Finding]] = {path.stem: diagnose(path) for path in healthy()}

    wrong = {
        name: [f.symptom for f in all_ if f.severity != "info"] for name, all_ in found.items()
    }
    assert {name: symptoms for name, symptoms in wrong.items() if symptoms} == {}


def test_healthy_sessions_are_those_that_meet_the_criterion() -> None:
    """
    The list is what its criterion gives, which knows no detector.
    """
    from benchmarks._healthy import meets

    assert [path.stem for path in healthy() if not meets(read_session(path))] == []
