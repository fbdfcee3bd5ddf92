"""Whatever is done to a session, its totals are the sum of its parts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memtrace import Session, TokenBudget, measure_tokens

KEYS = st.sampled_from("abcde")
TEXTS = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(TEXTS, values, max_size=3),
    max_leaves=8,
)
CALLS = st.builds(
    lambda name, arguments: {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "function": {"name": name, "arguments": arguments}}],
    },
    TEXTS,
    TEXTS,
)
RESULTS = st.builds(lambda text: {"role": "tool", "tool_call_id": "c1", "content": text}, TEXTS)
BLOCKS = st.builds(
    lambda texts: {"role": "user", "content": [{"type": "text", "text": t} for t in texts]},
    st.lists(TEXTS, max_size=3),
)
SAID = st.builds(
    lambda role, text: {"role": role, "content": text},
    st.sampled_from(["system", "user", "assistant"]),
    TEXTS,
)
MESSAGES = SAID | CALLS | RESULTS | BLOCKS


class Halves:
    """A counter that says that it is an estimate."""

    name, exact = "halves", False

    def count_text(self, text: str) -> int:
        return len(text) // 2


def snippet(session: Session) -> dict[str, Any]:
    """The profile as the documentation says that it may be computed."""
    profile: dict[str, Any] = {
        "working_memory": measure_tokens(session.active_contexts),
        "long_term_memory": measure_tokens(session.archived_contexts),
        "cache": measure_tokens(session.cache.items),
        "agent_states": sum(measure_tokens(a.state) for a in session.agents),
        "conversation_history": measure_tokens(session.history),
    }
    profile["total_tokens"] = sum(profile.values())
    profile["utilization_rate"] = profile["total_tokens"] / session.token_budget
    return profile


class AnySession(RuleBasedStateMachine):
    """Any operations in any order, on all layers; a small cache, so that it evicts."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1.7e9
        with pytest.MonkeyPatch.context() as patch:  # a clock that goes when it is told to
            patch.setattr("memtrace.memory.now", lambda: self.time)
            self.session = Session(token_budget=TokenBudget(1_000, cache=0.03))
        self.mirror: list[Any] = []  # what the history should hold

    # --- contexts ---------------------------------------------------------------------------

    @rule(key=KEYS | st.none(), content=JSON, pinned=st.booleans(), archived=st.booleans())
    def add_context(self, key: str | None, content: Any, pinned: bool, archived: bool) -> None:
        session = self.session
        layer = session.archived_contexts if archived else session.active_contexts
        assert layer.add(content, key=key, pinned=pinned).content is content

    @rule(key=KEYS)
    def touch_or_remove_context(self, key: str) -> None:
        contexts = self.session.active_contexts
        if key in contexts:
            contexts.touch(key)
            assert contexts.remove(key).key == key

    @rule(archived=st.booleans())
    def clear_contexts(self, archived: bool) -> None:
        (self.session.archived_contexts if archived else self.session.active_contexts).clear()

    # --- cache ------------------------------------------------------------------------------

    @rule(key=KEYS, value=JSON, ttl_s=st.none() | st.sampled_from([1e-9, 1.0, 5.0]))
    def put(self, key: str, value: Any, ttl_s: float | None) -> None:
        self.session.cache.put(key, value, ttl_s=ttl_s)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        self.time += seconds

    @rule(key=KEYS, forget=st.booleans())
    def get(self, key: str, forget: bool) -> None:
        self.session.cache.get(key)
        if forget:
            self.session.cache.remove(key)

    # --- agent states -----------------------------------------------------------------------

    @rule(name=KEYS, state=JSON)
    def set_state(self, name: str, state: Any) -> None:
        self.session.agent(name).state = state

    @rule(name=KEYS, key=KEYS, value=JSON)
    def change_state_in_place(self, name: str, key: str, value: Any) -> None:
        agent = self.session.agent(name)
        if not isinstance(agent.state, dict):
            agent.state = {}
        agent.state[key] = value

    @rule(name=KEYS)
    def forget_agent(self, name: str) -> None:
        if name in self.session.agents:
            self.session.agents.remove(name)

    # --- history ----------------------------------------------------------------------------

    @rule(messages=st.lists(MESSAGES, max_size=3))
    def append(self, messages: list[Any]) -> None:
        self.session.history.extend(messages[1:])
        for message in messages[:1]:
            self.session.history.append(message)
        self.mirror += [*messages[1:], *messages[:1]]

    @rule(keep=st.integers(0, 8), messages=st.lists(MESSAGES, max_size=3))
    def sync(self, keep: int, messages: list[Any]) -> None:
        self.mirror = [*self.mirror[:keep], *messages]
        self.session.history.sync(self.mirror)

    @precondition(lambda self: self.mirror)
    @rule(data=st.data(), message=MESSAGES, pop=st.booleans())
    def replace_or_pop(self, data: st.DataObject, message: Any, pop: bool) -> None:
        index = data.draw(st.integers(-len(self.mirror), len(self.mirror) - 1))
        if pop:
            # Of equal messages that were synced one after the other, the first is held.
            assert self.session.history.pop(index) == self.mirror.pop(index)
        else:
            self.session.history.replace(index, message)
            self.mirror[index] = message

    @rule()
    def clear_history(self) -> None:
        self.session.history.clear()
        self.mirror = []

    # --- what always holds ------------------------------------------------------------------

    @invariant()
    def totals_are_the_sum_of_the_parts(self) -> None:
        session = self.session
        profile = session.profile()
        by_item = [sum(item.tokens for item in layer.items) for layer in session.layers]
        assert list(profile.layer_tokens) == by_item
        assert profile.total_tokens == sum(by_item) == sum(list(profile.values())[:5])
        assert [usage.items for usage in profile.layers.values()] == [
            len(layer.items) for layer in session.layers
        ]
        assert all(tokens >= 0 for tokens in by_item)

    @invariant()
    def the_snippet_agrees(self) -> None:
        assert snippet(self.session) == self.session.profile()

    @invariant()
    def a_recount_changes_nothing(self) -> None:
        profile = self.session.profile()
        assert self.session.recount().layer_tokens == profile.layer_tokens

    @invariant()
    def the_cache_stays_within_its_allocation(self) -> None:
        cache = self.session.cache
        assert cache.tokens <= cache.limit_tokens == 30
        assert sorted(cache) == sorted(item.key for item in cache.items if item.key)

    @invariant()
    def the_history_is_what_was_given(self) -> None:
        messages = self.session.messages()
        assert len(messages) == len(self.mirror) == len(self.session.history)
        assert all(ours == theirs for ours, theirs in zip(messages, self.mirror, strict=True))


TestAnySession = AnySession.TestCase
TestAnySession.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


@given(st.lists(MESSAGES, max_size=12), st.lists(st.integers(0, 12), max_size=5))
def test_sync_equals_append(messages: list[Any], turns: list[int]) -> None:
    """
    A list that was synchronised at any of its lengths leaves what appending it would.
    """
    synced, appended = Session(), Session()
    for turn in sorted(turns):
        synced.history.sync(messages[:turn])
    synced.history.sync(messages)
    for message in messages:
        appended.history.append(message)

    assert synced.messages() == appended.messages()
    assert synced.history.tokens == appended.history.tokens == measure_tokens(messages)
    assert synced.profile().layer_tokens == appended.profile().layer_tokens


@given(st.lists(MESSAGES, max_size=8), st.lists(MESSAGES, max_size=8), st.integers(0, 8))
def test_sync_forgets_what_diverged(old: list[Any], new: list[Any], common: int) -> None:
    """
    After a divergence nothing of the old rest is left, in the messages or in the totals.
    """
    session = Session()
    session.history.sync(old)
    session.history.sync([*old[:common], *new])

    assert session.messages() == [*old[:common], *new]
    assert session.history.tokens == measure_tokens([*old[:common], *new])


@given(st.lists(MESSAGES, max_size=8), st.integers(1, 4_000), JSON)
def test_calibration_scales_every_layer(messages: list[Any], billed: int, value: Any) -> None:
    """
    Whatever a provider billed, totals stay the sum of the parts and equal to a recount.
    """
    session = Session(counter=Halves())
    session.history.extend(messages)
    session.active_contexts.add(value)
    session.cache.put("key", value)
    session.agent("planner").state = value
    session.messages()
    session.record_usage(billed)

    profile = session.profile()
    by_item = [sum(item.tokens for item in layer.items) for layer in session.layers]
    assert list(profile.layer_tokens) == by_item
    assert session.recount() == profile
