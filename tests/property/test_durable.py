"""A session that is kept: whatever was done to it, what opens again is what was last kept."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memtrace import (
    Policy,
    Session,
    compress_memory,
    consolidate_memory,
    create_memory_snapshot,
    trigger_cleanup,
    verify,
)
from memtrace.counters import ApproximateCounter

KEYS = st.sampled_from(["a", "b", "c"])
WORDS = st.text(max_size=20) | st.integers(1, 60).map(lambda n: "read src/app.py 17 times. " * n)
STATES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def held(session: Session) -> Any:
    """All that a session holds, as plain data."""
    items = [
        [(i.id, i.kind, i.content, i.tokens, i.pinned, i.derived_from) for i in layer.items]
        for layer in (session.history, session.active_contexts, session.archived_contexts)
    ]
    received = [item.content for item in session.history._received]
    cached = {str(item.key): item.content for item in session.cache.items}
    states = [(agent.name, agent.state) for agent in session.agents]
    originals = {
        source: session.original(source)
        for layer in (session.history, session.archived_contexts)
        for item in layer.items
        for source in item.derived_from
    }
    return json.loads(json.dumps([items, received, cached, states, originals]))


class Kept(RuleBasedStateMachine):
    """One session in a store, and what it held at each of its snapshots."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = self.folder / "memory.db"
        self.session = self.opened()
        self.kept: dict[str, Any] = {}
        self.last: Any = None
        self.calls = 0

    def opened(self) -> Session:
        """The session as its store has it."""
        policy = Policy(keep_recent=2, keep_tool_outputs=1, keep_snapshots=4)
        return Session.open(
            "s", store=self.store, token_budget=2_000, policy=policy, counter=ApproximateCounter()
        )

    def teardown(self) -> None:
        """Nothing is left damaged, and nothing is left."""
        self.session.journal.store.close()
        if self.store.exists():
            assert verify(self.store).damages == ()
        shutil.rmtree(self.folder)

    # --- what is done -----------------------------------------------------------------------

    @initialize()
    def first(self) -> None:
        """A task."""
        self.session.history.append({"role": "user", "content": "do it"})

    @rule(content=WORDS, role=st.sampled_from(["user", "assistant"]))
    def say(self, content: str, role: str) -> None:
        """A message comes."""
        self.session.history.append({"role": role, "content": content})

    @rule(content=WORDS)
    def call(self, content: str) -> None:
        """A tool is called, and answers."""
        self.calls += 1
        call = {"id": f"c{self.calls}", "function": {"name": "read", "arguments": "{}"}}
        self.session.history.extend(
            [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": f"c{self.calls}", "content": content},
            ]
        )

    @rule(keep=st.floats(0, 1), content=WORDS)
    def sync(self, keep: float, content: str) -> None:
        """A framework sends its list, cut somewhere and continued."""
        received = [item.content for item in self.session.history._received]
        rest = {"role": "user", "content": content}
        self.session.history.sync([*received[: int(keep * len(received))], rest])

    @precondition(lambda self: len(self.session.history) > 0)
    @rule(place=st.integers(0, 100), content=WORDS)
    def replace(self, place: int, content: str) -> None:
        """The caller puts a message in another's place."""
        place %= len(self.session.history)
        self.session.history.replace(place, {"role": "user", "content": content})

    @precondition(lambda self: len(self.session.history) > 0)
    @rule()
    def pop(self) -> None:
        """The caller takes the last message back."""
        self.session.history.pop()

    @rule(key=KEYS, content=WORDS, pinned=st.booleans())
    def add(self, key: str, content: str, pinned: bool) -> None:
        """A context comes, or takes another's place."""
        self.session.active_contexts.add(content, key=key, pinned=pinned)

    @rule(key=KEYS, what=st.sampled_from(["touch", "remove"]))
    def use(self, key: str, what: str) -> None:
        """A context is used, or goes."""
        if self.session.active_contexts.get(key) is not None:
            getattr(self.session.active_contexts, what)(key)

    @rule(key=KEYS | st.integers() | st.tuples(KEYS, st.integers()), value=STATES)
    def cache(self, key: Any, value: Any) -> None:
        """A value is cached."""
        self.session.cache.put(key, value)

    @rule(key=KEYS)
    def uncache(self, key: str) -> None:
        """A value goes."""
        self.session.cache.remove(key)

    @rule(name=KEYS, state=STATES)
    def state(self, name: str, state: Any) -> None:
        """An agent's state changes."""
        self.session.agent(name).state = state

    @rule(name=KEYS)
    def leave(self, name: str) -> None:
        """An agent goes."""
        if name in self.session.agents:
            self.session.agents.remove(name)

    @rule(action=st.sampled_from([compress_memory, trigger_cleanup]), share=st.floats(0.1, 1))
    def reduce(self, action: Any, share: float) -> None:
        """Room is made."""
        action(self.session, share)

    @rule()
    def consolidate(self) -> None:
        """What no run uses is moved."""
        consolidate_memory(self.session)

    # --- keeping, and coming back -----------------------------------------------------------

    @rule()
    def snapshot(self) -> None:
        """Memory is kept."""
        create_memory_snapshot(self.session)
        self.last = held(self.session)
        self.kept[self.session.snapshots()[-1].id] = self.last

    @rule(which=st.integers(0, 10))
    def go_back(self, which: int) -> None:
        """Memory goes back to a snapshot, of this process or of one that is gone."""
        listed = self.session.snapshots()
        if listed:
            snapshot = listed[which % len(listed)]
            self.session.restore(snapshot)
            assert held(self.session) == self.kept[snapshot.id]

    @rule()
    def reopen(self) -> None:
        """The process is gone, and another opens the session."""
        self.session = self.opened()
        if self.last is None:
            assert len(self.session.history) == 0
            self.first()
        else:
            assert held(self.session) == self.last

    @invariant()
    def totals_are_sums(self) -> None:
        """What was counted as it came is what is counted again."""
        assert self.session.profile() == self.session.recount()


TestKept = Kept.TestCase
TestKept.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
