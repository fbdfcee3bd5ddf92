"""What metrics say of all sessions is what a walk over each of them would find."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import memtrace
from memtrace import Session, config
from memtrace.layers import Totals
from memtrace.telemetry.living import Living, Sums
from memtrace.values import LAYER_NAMES

LAYERS = range(5)
PLACES = st.integers(0, 99)
TOKENS = st.integers(0, 1_000)


class Owner:
    """What lives as long as a session does."""

    def __init__(self, limit: int = 100) -> None:
        self.totals = Totals([limit] * 5)


def walked(owners: list[Owner], added: list[int], hits: int, misses: int) -> Sums:
    """The sums by looking at every session, and what was added by those that are gone too."""
    totals = [owner.totals for owner in owners]
    held = [sum(t.tallies[layer].tokens for t in totals) for layer in LAYERS]
    limits = [sum(t.limits[layer] for t in totals) for layer in LAYERS]
    return Sums(len(owners), held, limits, added, hits, misses)


class AnyTelling(RuleBasedStateMachine):
    """Sessions come, change, move, go, and are read in any order; two ledgers, as two providers."""

    def __init__(self) -> None:
        super().__init__()
        self.ledgers = [Living(), Living()]
        self.owners: list[list[Owner]] = [[], []]
        self.added = [[0] * 5, [0] * 5]
        self.lookups = [[0, 0], [0, 0]]
        self.refs: dict[Owner, Any] = {}

    def take(self, which: int, place: int) -> Owner:
        return self.owners[which][place % len(self.owners[which])]

    @rule(which=st.integers(0, 1), held=TOKENS, limit=TOKENS)
    def come(self, which: int, held: int, limit: int) -> None:
        owner = Owner(limit)
        owner.totals.tallies[2].enter(held)  # before it was admitted: held, but not added
        self.refs[owner] = self.ledgers[which].admit(owner, owner.totals)
        self.owners[which].append(owner)

    @precondition(lambda self: self.owners[0])
    @rule(place=PLACES, layer=st.sampled_from(LAYERS), tokens=TOKENS)
    def enter(self, place: int, layer: int, tokens: int) -> None:
        self.take(0, place).totals.tallies[layer].enter(tokens)
        self.added[0][layer] += tokens

    @precondition(lambda self: self.owners[0])
    @rule(place=PLACES, layer=st.sampled_from(LAYERS), tokens=TOKENS)
    def leave(self, place: int, layer: int, tokens: int) -> None:
        self.take(0, place).totals.tallies[layer].leave(tokens)

    @precondition(lambda self: self.owners[0])
    @rule(place=PLACES, hit=st.booleans())
    def look_up(self, place: int, hit: bool) -> None:
        tally = self.take(0, place).totals.tallies[2]
        tally.hits, tally.misses = tally.hits + hit, tally.misses + (not hit)
        self.lookups[0][not hit] += 1

    @precondition(lambda self: self.owners[0])
    @rule(place=PLACES, limit=TOKENS)
    def allot(self, place: int, limit: int) -> None:
        self.take(0, place).totals.limits = [limit] * 5

    @precondition(lambda self: self.owners[0])
    @rule(place=PLACES)
    def move(self, place: int) -> None:
        """Its application set other providers; what is done from then on is theirs."""
        owner = self.take(0, place)
        self.ledgers[0].dismiss(self.refs[owner])
        self.refs[owner] = self.ledgers[1].admit(owner, owner.totals)
        self.owners[0].remove(owner)
        self.owners[1].append(owner)

    @precondition(lambda self: self.owners[0])
    @rule(place=PLACES)
    def go(self, place: int) -> None:
        owner = self.take(0, place)
        self.owners[0].remove(owner)
        del self.refs[owner]

    @rule()
    def fork(self) -> None:
        """A child starts empty: what it inherits is its parent's to report."""
        self.ledgers[0].clear()
        for owner in self.owners[0]:
            del self.refs[owner]
        self.owners[0].clear()
        self.added[0], self.lookups[0] = [0] * 5, [0, 0]

    @rule()
    def swap(self) -> None:
        for pair in (self.ledgers, self.owners, self.added, self.lookups):
            pair.reverse()  # type: ignore[attr-defined]

    @rule(which=st.integers(0, 1))
    def read(self, which: int) -> None:
        expected = walked(self.owners[which], self.added[which], *self.lookups[which])
        assert self.ledgers[which].read() == expected

    def teardown(self) -> None:
        self.read(0)
        self.read(1)


TestAnyTelling = AnyTelling.TestCase
TestAnyTelling.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


class Hasty(Totals):
    """Totals that change while they are read: limits are read after tokens held."""

    def __init__(self) -> None:
        super().__init__([100] * 5)
        self.to_come = 0

    @property
    def limits(self) -> list[int]:  # type: ignore[override]
        tokens, self.to_come = self.to_come, 0
        if tokens:
            self.tallies[0].enter(tokens)
        return [100] * 5


def test_change_while_a_session_is_read_is_in_the_next_sums() -> None:
    """
    A layer that changes after its tokens were read, and before its session is done with, is
    told of once more: nothing is left out for good, and nothing is counted twice.
    """
    living, owner, totals = Living(), Owner(), Hasty()
    living.admit(owner, totals)
    totals.to_come = 7
    totals.tallies[1].enter(1)
    assert living.read().tokens[:2] == [0, 1]
    assert living.read().tokens[:2] == [7, 1]
    assert living.read().added[:2] == [7, 1]


def test_a_settled_layer_tells_once() -> None:
    """Ten thousand changes between two collections are told of once, and not by each."""
    totals, told = Totals([100] * 5), []
    totals.watch(lambda: told.append(1))
    totals.settle()
    for _ in range(1_000):
        totals.tallies[4].enter(1)
    totals.settle()
    totals.tallies[4].leave(1)
    assert len(told) == 2


def test_threads_that_change_sessions_while_they_are_read() -> None:
    """Whatever threads did while another read the sums, the last reading is exact."""
    living, owners, stop = Living(), [Owner() for _ in range(8)], threading.Event()
    refs = [living.admit(owner, owner.totals) for owner in owners]
    seen: list[int] = []

    def change(owner: Owner) -> None:
        for _ in range(3_000):
            owner.totals.tallies[4].enter(2)
            owner.totals.tallies[4].leave(1)

    def look() -> None:
        while not stop.is_set():
            seen.append(sum(living.read().added))

    threads = [threading.Thread(target=change, args=(owner,)) for owner in owners]
    reader = threading.Thread(target=look)
    reader.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    reader.join()
    assert living.read() == walked(owners, [0, 0, 0, 0, 48_000], 0, 0)
    assert seen == sorted(seen), "what was added shrank"
    assert len(refs) == 8


# --- real sessions, through the metrics API -------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        PLACES,
        st.sampled_from(
            "append pop clear add remove put get state budget recount snapshot collect new".split()
        ),
        st.text(max_size=8),
    ),
    max_size=25,
)


def step(session: Session, what: str, text: str) -> None:
    """One thing that a session's user may do."""
    if what == "append":
        session.history.append({"role": "user", "content": text})
    elif what == "pop" and len(session.history):
        session.history.pop()
    elif what == "clear":
        session.history.clear()
    elif what == "add":
        session.active_contexts.add(text, key="one", pinned=text > "m")
    elif what == "remove" and session.active_contexts.get("one"):
        session.active_contexts.remove("one")
    elif what == "put":
        session.cache.put(text[:1], text)
    elif what == "get":
        session.cache.get(text[:1])
    elif what == "state":
        session.agent("a").state = {"text": text}
    elif what == "budget":
        session.rebalance({"working_memory": 10 * len(text) + 1})
    elif what == "recount":
        session.recount()
    elif what == "snapshot":
        session.restore(memtrace.create_memory_snapshot(session) and session.snapshots()[-1])


@pytest.fixture
def restored() -> Iterator[None]:
    """What is configured here is not for the tests that follow."""
    before = config.current
    yield
    memtrace.configure(tracer_provider=before.tracer_provider, meter_provider=before.meter_provider)


def levels(reader: InMemoryMetricReader, name: str) -> dict[str, int]:
    """Values of an instrument by layer."""
    data: Any = reader.get_metrics_data()
    return {
        point.attributes["memtrace.layer.name"]: point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    }


@pytest.mark.usefixtures("restored")
@given(steps=STEPS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_gauges_are_the_sums_of_profiles(steps: list[tuple[int, str, str]]) -> None:
    """Whatever is done to sessions between collections, the gauges are their profiles' sums."""
    reader = InMemoryMetricReader()
    memtrace.configure(meter_provider=MeterProvider([reader], shutdown_on_exit=False))
    sessions = [Session(token_budget=1_000), Session()]
    for place, what, text in steps:
        if what == "collect":
            reader.collect()
        elif what == "new":
            sessions.append(Session())
        else:
            step(sessions[place % len(sessions)], what, text)
    profiles = [session.profile() for session in sessions]
    assert levels(reader, "memtrace.memory.usage") == {
        name: sum(profile[name] for profile in profiles) for name in LAYER_NAMES
    }
    assert levels(reader, "memtrace.memory.limit") == {
        name: sum(s.budget.limits[i] for s in sessions) for i, name in enumerate(LAYER_NAMES)
    }
