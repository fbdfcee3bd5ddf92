"""Measuring a message list that its caller owns: nothing of it is changed, copied or kept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from .hooks import Hooks
from .memory import resolve_budget
from .policy import Policy
from .record import Record
from .tokens import MemoCounter, default_counter, measure_tokens
from .values import Counting, LayerTokens, MemoryProfile, TokenBudget


class Watch:
    """What all calls of one observed function share: budget, hooks, and a memo of counts.

    The memo remembers counts by a hash of the text, so that a list that grows from call to
    call is counted once without being kept alive.
    """

    def __init__(self, token_budget: int | TokenBudget | None, policy: Policy | None) -> None:
        self._given = token_budget
        self.policy = policy if policy is not None else Policy()
        if token_budget is not None:
            TokenBudget.of(token_budget)
        self.record = Record(self.policy)
        self.hooks = Hooks(self.policy.hook_slow_s, self.record.alerts.append)
        self._counter: MemoCounter | None = None
        self._ids = itertools.count(1)

    @property
    def budget(self) -> TokenBudget:
        """The budget to hold a list against, as configured now."""
        return resolve_budget(self._given, self.policy)

    @property
    def counter(self) -> MemoCounter:
        """The default counter with a memo; loaded at the first call, before its span starts."""
        if self._counter is None:
            counter = default_counter()
            getattr(counter, "load", lambda: None)()
            self._counter = MemoCounter(counter)
        return self._counter


class Watched:
    """One call's list, measured before and after."""

    id = None
    run_rows = journal = None
    durable = False

    def __init__(self, watch: Watch, messages: Sequence[Any]) -> None:
        self._watch = watch
        watch.counter  # noqa: B018 (loaded now)
        self._messages = messages
        self._tokens = self._items = 0
        self.budget = watch.budget
        self.lines = watch.policy.lines(self.budget)
        self.record = watch.record

    @property
    def hooks(self) -> Hooks:
        """Hooks for every session, which hear of observed lists too."""
        return self._watch.hooks

    def open_run(self) -> tuple[int, LayerTokens, int, bool]:
        """A number for the run, the list as it was found, and that nothing is to be done."""
        return next(self._watch._ids), self._measure(), self._tokens, False

    def close_run(self, run_id: int) -> tuple[LayerTokens, int, bool]:
        """The list as it is left, and whether it is over a threshold."""
        return self._measure(), self._tokens, self._tokens > self.lines.restless

    @property
    def policy(self) -> Policy:
        """The constants it is watched by."""
        return self._watch.policy

    def read_tokens(self) -> LayerTokens:
        """The list as it was last measured."""
        return (0, 0, 0, 0, self._tokens)

    def profile(self) -> MemoryProfile:
        """The list as it was last measured."""
        counter = self._watch.counter
        return MemoryProfile(
            self.budget,
            self.read_tokens(),
            (0, 0, 0, 0, self._items),
            counting=Counting("exact" if counter.exact else "estimate", counter.name),
        )

    def _measure(self) -> LayerTokens:
        # Each time as a whole, because the body may change a message in place (a streamed answer,
        # one more block); the memo makes that a look-up for each text.
        counter, messages = self._watch.counter, list(self._messages)
        self._items = len(messages)
        self._tokens = sum(measure_tokens(message, counter=counter) for message in messages)
        return self.read_tokens()
