"""Whatever happens to a session, in whatever order, its memory stays whole, valid and held."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from memtrace import (
    ActionReport,
    Event,
    Policy,
    Session,
    Snapshot,
    checkpoint,
    cleanup_expired_items,
    compress_memory,
    consolidate_memory,
    create_memory_snapshot,
    managed_agent,
    trigger_cleanup,
    update_cache,
)
from memtrace.actions.pairs import faults
from memtrace.messages import facts
from memtrace.values import STAGES

Message = dict[str, Any]

BUDGET = 4_000
MESSAGES_ONLY = ("cleanup", "compress", "consolidate", "cleanup_expired")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Hooks that fail are logged with their tracebacks: thousands of them here."""
    logger = logging.getLogger("memtrace")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)


class Quarters:
    """Four characters a token: quick, and exact by its own word."""

    name, exact = "quarters", True

    def count_text(self, text: str) -> int:
        return (len(text) + 3) // 4


class BrokenError(Exception):
    """What bodies and hooks raise."""


# --- messages -------------------------------------------------------------------------------------

SIZES = st.sampled_from([1, 5, 40, 200])
IDS = st.sampled_from(["c1", "c2", "c3"])
fresh = itertools.count()


def text(size: int) -> str:
    """A text of so many lines, by their number of a kind that some reducer works on."""
    number = next(fresh)
    lines = {
        0: [f"note_{number}/line_{n}.py was read and kept. " for n in range(size)],
        1: [f"{n}:{number} took {n} ms\n" for n in range(size)],
        2: ["\x1b[32mthe same again\x1b[0m  \n"] * size,
        3: [json.dumps({"note": number, "lines": list(range(size))}, indent=2)],
        4: ["QUJD1xyz/ab+" * size, f" is note_{number}."],
    }
    return "".join(lines[size % len(lines)])


def chat(ids: list[str], answered: list[str], size: int) -> list[Message]:
    calls = [
        {"id": i, "function": {"name": "read", "arguments": f'{{"n": {next(fresh) % 7}}}'}}
        for i in ids
    ]
    asked: Message = {"role": "assistant", "content": None, "tool_calls": calls}
    said = ({"role": "tool", "tool_call_id": i, "content": text(size)} for i in answered)
    return [asked, *said]


def items(ids: list[str], answered: list[str], size: int) -> list[Message]:
    thought = [{"type": "reasoning", "summary": [], "encrypted_content": "x" * 50}]
    calls = [
        {"type": "function_call", "call_id": i, "name": "read", "arguments": text(1)} for i in ids
    ]
    outputs = [
        {"type": "function_call_output", "call_id": i, "output": text(size)} for i in answered
    ]
    return [*thought, *calls, *outputs]


def blocks(ids: list[str], answered: list[str], size: int) -> list[Message]:
    thinking = {"type": "thinking", "thinking": text(2), "signature": "s"}
    uses = [{"type": "tool_use", "id": i, "name": "read", "input": {"text": text(1)}} for i in ids]
    results = [
        {"type": "tool_result", "tool_use_id": i, "content": [{"type": "text", "text": text(size)}]}
        for i in answered
    ]
    asked: Message = {"role": "assistant", "content": [thinking, *uses]}
    return [asked, {"role": "user", "content": results}] if results else [asked]


class Turn(NamedTuple):
    """What is appended together: words, or calls with all their results, or with fewer."""

    form: str
    size: int
    ids: list[str]
    answered: list[str]

    def messages(self) -> list[Message]:
        if self.form in ("user", "assistant", "system"):
            size = self.size if self.form == "assistant" else min(self.size, 20)
            return [{"role": self.form, "content": text(size)}]
        form = {"chat": chat, "items": items, "blocks": blocks}[self.form]
        return form(self.ids, self.answered, self.size)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    form = draw(st.sampled_from(["user", "assistant", "system", "chat", "items", "blocks"]))
    ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
    lost = draw(st.integers(0, 9))  # seldom, a call is not answered
    return Turn(form, draw(SIZES), ids, draw(st.permutations(ids))[: len(ids) - (lost == 0)])


def orphans(messages: list[Any]) -> list[str]:
    return [problem for problem in problems(messages) if problem.endswith("which nothing asked")]


def problems(messages: list[Any]) -> list[str]:
    return faults([facts(message) for message in messages])


class Loop(RuleBasedStateMachine):
    """A session, and what must be true of it whatever is done."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, Any] = {}  # every original that was ever seen, by id
        self.pinned: dict[str, Any] = {}
        self.snapshots: list[tuple[Snapshot, dict[str, Any]]] = []

    @initialize(keep=st.sampled_from([0, 2, 10]), outputs=st.sampled_from([0, 5]))
    def begin(self, keep: int, outputs: int) -> None:
        policy = Policy(keep_recent=keep, keep_tool_outputs=outputs)
        self.session = Session("s", token_budget=BUDGET, policy=policy, counter=Quarters())
        self.agent = managed_agent(name="agent")(self.body)
        self.session.history.append({"role": "user", "content": "Do it."})

    # --- what is watched around every step that may act -----------------------------------

    @contextmanager
    def kept(self) -> Iterator[None]:
        """System prompts, the first task and the latest user turn stay the same objects."""
        self.learn()
        session = self.session
        users, stay = [], []
        for item in session.history.items:
            kind = facts(item.content).kind
            if kind == "system":
                stay.append(item.content)
            elif kind == "user" and not item.derived_from:
                users.append(item.content)
        stay += [users[0], users[-1]] if users else []
        count = len(session.reports)
        yield
        shown = {id(message) for message in session.history.messages()}
        assert all(id(message) in shown for message in stay)
        for report in session.reports[count:]:
            self.check(report)

    def check(self, report: ActionReport) -> None:
        if report.action in MESSAGES_ONLY:
            assert report.tokens_after <= report.tokens_before
        assert report.outcome != "failed"

    def learn(self) -> None:
        for layer in (self.session.history, self.session.active_contexts):
            for item in layer.items:
                if not item.derived_from:
                    self.contents[item.id] = item.content

    def send(self) -> None:
        session = self.session
        with self.kept():
            session.messages()
        if session.profile().total_tokens > BUDGET:
            told = [r.reason for r in session.reports if r.action in ("cleanup", "compress")]
            assert told[-1].startswith("unreachable: ")

    def body(self, session: Session, steps: list[Any], fail: bool) -> None:
        for step in steps:
            if isinstance(step, Turn):
                session.history.extend(step.messages())
            elif step is None:
                self.send()
            else:
                with suppress(BrokenError):
                    self.run(*step)
        if fail:
            raise BrokenError

    def run(self, steps: list[Any], fail: bool) -> None:
        self.learn()
        self.agent(self.session, steps, fail)

    # --- what happens -------------------------------------------------------------------------

    STEPS = st.lists(st.one_of(turns(), st.none()), max_size=4)
    NESTED = st.lists(st.one_of(turns(), st.none(), st.tuples(STEPS, st.booleans())), max_size=5)

    @rule(turn=turns())
    def append(self, turn: Turn) -> None:
        self.session.history.extend(turn.messages())

    @rule()
    def ask_for_messages(self) -> None:
        self.send()

    @rule(steps=NESTED, fail=st.booleans())
    def run_agent(self, steps: list[Any], fail: bool) -> None:
        with suppress(BrokenError):
            self.run(steps, fail)

    @rule(steps=STEPS, fail=st.booleans(), rollback=st.booleans())
    def run_checkpoint(self, steps: list[Any], fail: bool, rollback: bool) -> None:
        session, before = self.session, self.session.history.messages()
        with suppress(BrokenError), checkpoint(session, rollback=rollback):
            self.body(session, steps, fail)
        if fail and rollback:
            shown = session.history.messages()
            assert len(shown) == len(before)
            assert all(a is b for a, b in zip(shown, before, strict=True))

    @rule(
        act=st.sampled_from([compress_memory, trigger_cleanup]),
        share=st.sampled_from([0.01, 0.2, 0.5, 0.7, 1.0]),
    )
    def make_room(self, act: Any, share: float) -> None:
        session = self.session
        before = session.profile(), session.history.messages()
        under = before[0].utilization_rate <= share
        with self.kept():
            report = act(session, share)
        if under and act is trigger_cleanup:
            assert report.outcome == "no_op"
        if under:
            shown = session.history.messages()
            assert all(a is b for a, b in zip(shown, before[1], strict=True))
        if report.outcome == "effective":
            assert session.profile().utilization_rate <= share
        assert session.profile().total_tokens <= before[0].total_tokens

    @rule(act=st.sampled_from([consolidate_memory, update_cache, cleanup_expired_items]))
    def tidy(self, act: Any) -> None:
        with self.kept():
            act(self.session)

    @rule(size=SIZES, pinned=st.integers(0, 5), uses=st.integers(0, 3), key=IDS)
    def add_context(self, size: int, pinned: int, uses: int, key: str) -> None:
        contexts, pin = self.session.active_contexts, pinned == 0 and size <= 5
        held = contexts.get(key)
        if held is not None:
            self.pinned.pop(held.id, None)
        item = contexts.add(text(size), key=key, pinned=pin)
        if pin:
            self.pinned[item.id] = item.content
        for _ in range(uses):
            contexts.touch(key)

    @rule(key=IDS, size=SIZES)
    def put(self, key: str, size: int) -> None:
        self.session.cache.put(key, text(size))
        self.session.cache.get(key)

    @rule(name=IDS, size=st.integers(0, 5))
    def change_state(self, name: str, size: int) -> None:
        self.session.agent(name).state = {"notes": text(size)}

    @rule()
    def snapshot(self) -> None:
        create_memory_snapshot(self.session)
        snapshot = self.session.latest_snapshot
        assert snapshot is not None
        self.snapshots.append((snapshot, dict(self.pinned)))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        snapshot, pinned = data.draw(st.sampled_from(self.snapshots))
        self.session.restore(snapshot)
        self.pinned = dict(pinned)
        assert self.session.profile().total_tokens == snapshot.tokens

    @rule(stage=st.sampled_from(STAGES))
    def hook_that_fails(self, stage: str) -> None:
        @self.session.on(stage)
        def broken(event: Event) -> None:
            raise BrokenError

    @rule()
    def pop(self) -> None:
        held = self.session.history.items
        if len(held) > 1 and not held[-1].derived_from and not facts(held[-1].content).results:
            self.learn()
            self.session.history.pop()

    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        history = self.session.history
        plain = [
            n
            for n, m in enumerate(history)
            if m.get("role") == "assistant" and isinstance(m.get("content"), str)
        ]
        if plain:
            self.learn()
            said = {"role": "assistant", "content": text(3)}
            history.replace(data.draw(st.sampled_from(plain)), said)

    @rule(data=st.data(), turn=turns())
    def sync(self, data: st.DataObject, turn: Turn) -> None:
        """A framework sends its list whole: as it was, cut, or with an old result changed."""
        self.learn()
        received = [item.content for item in self.session.history._received]
        keep = data.draw(st.sampled_from([len(received), *range(1, len(received) + 1)]))
        rest = received[keep:]
        if rest and "tool_call_id" in rest[0]:
            rest[0] = {**rest[0], "content": "[trimmed by its owner]"}
        elif rest:
            rest = turn.messages()
        self.session.history.sync([*received[:keep], *rest])

    # --- what must be true --------------------------------------------------------------------

    @invariant()
    def totals_are_sums(self) -> None:
        """Every total is the sum of its parts, and what counting everything again gives."""
        session = self.session
        profile = session.profile()
        for layer in session.layers:
            assert layer.tokens == sum(item.tokens for item in layer.items)
            assert len(layer) == len(layer.items)
        assert profile.total_tokens == sum(profile.layer_tokens)
        assert profile == session.recount()

    @invariant()
    def pairs_are_whole(self) -> None:
        """What is shown is as valid as what was received."""
        history = self.session.history
        received, shown = [item.content for item in history._received], history.messages()
        if not problems(received):
            assert problems(shown) == []
        if not orphans(received):
            assert orphans(shown) == []

    @invariant()
    def pins_are_the_same(self) -> None:
        """Every pinned context is there, the same object."""
        held = {item.id: item.content for item in self.session.active_contexts.items}
        assert all(held.get(item_id) is content for item_id, content in self.pinned.items())

    @invariant()
    def originals_are_reachable(self) -> None:
        """Whatever stands for something gives back what it stands for, as it was."""
        session = self.session
        self.learn()
        for layer in (session.history, session.archived_contexts):
            for item in layer.items:
                sources = [session.original(source) for source in item.derived_from]
                for source, content in zip(item.derived_from, sources, strict=True):
                    # What came in and went within one step was never seen here.
                    assert content == self.contents.get(source, content)
                if sources:
                    original = session.original(item.id)
                    given = [original] if len(sources) == 1 else original
                    assert given == sources


TestLoop = Loop.TestCase
TestLoop.settings = settings(
    max_examples=200,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
