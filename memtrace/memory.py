"""A session's state: five layers and their hooks, behind one lock.

Actions change it, the engine measures it; the loop itself stands above it.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from math import inf
from typing import TYPE_CHECKING, Any

from opentelemetry.context import create_key, get_value

from . import config
from .errors import ConfigurationError
from .hooks import Hooks
from .journal import Entrance, Journal
from .layers import Agents, Cache, Contexts, History, Totals, Wiring
from .policy import Policy
from .record import Record
from .telemetry import metrics
from .tokens import Calibration, Counter, default_counter, measure_tokens
from .values import (
    DEFAULT_TOKEN_BUDGET,
    Counting,
    Layer,
    LayerTokens,
    MemoryProfile,
    TokenBudget,
)

if TYPE_CHECKING:
    from .outlook import Forecast
    from .stores import Store

RUN = create_key("memtrace-run")
"""Where an OpenTelemetry context keeps the run that is current."""

_EPOCH = time.time() - time.monotonic()


_RESCALE_FROM = 0.02
"""Estimates are counted again when billed usage moves their factor by more than this share."""


def now() -> float:
    """Seconds since the epoch that never run backwards: setting the clock does not move them."""
    return _EPOCH + time.monotonic()


def current_run() -> Any:
    """The run whose body this is, or None."""
    return get_value(RUN)


def _ahead(ref: weakref.ref[Any]) -> Callable[[int, int], Forecast | None]:
    """What a session's profiles ask for a forecast: they may outlive it, and do not keep it."""

    def ahead(held_tokens: int, budget_tokens: int) -> Forecast | None:
        from .growth import foresee

        memory = ref()
        return None if memory is None else foresee(memory, held_tokens, budget_tokens)

    return ahead


def _journal(session: str, lock: Any, target: Any) -> Journal:
    """The journal of a session, and its store: opened now where one is given."""

    def opener() -> Store:
        from .stores import open_store

        return open_store(target)

    if target is None:
        return Journal(session, lock, opener, False)
    store = opener()
    return Journal(session, lock, lambda: store, store.durable)


def resolve_budget(given: int | TokenBudget | None, policy: Policy | None) -> TokenBudget:
    """The budget that holds: as given, else the policy's, the environment's, the default."""
    if given is not None:
        return TokenBudget.of(given)
    if policy is not None and policy.token_budget is not None:
        return TokenBudget(policy.token_budget)
    return TokenBudget(config.current.token_budget or DEFAULT_TOKEN_BUDGET)


class Memory:
    """Layers, budget, policy and hooks of one session.

    Attributes:
        id: Its id.
        budget: The budget with its allocations.
        policy: The loop's constants.
        hooks: Its hooks, by stage.

    Args:
        id: Any text; None: a new random one.
        token_budget: Tokens, or a :class:`TokenBudget`; None: the policy's, else
            ``MEMTRACE_TOKEN_BUDGET``, else 200,000.
        policy: The loop's constants; None: the defaults.
        counter: Counts tokens of text; None: the default encoding.
        store: Where it is kept: a path, an address such as ``sqlite:///memory.db``, a folder
            that ends in a slash, or a store; None: in this process alone.

    Raises:
        ConfigurationError: A value cannot work; the message says what would.
        StoreError: The store cannot be opened.
    """

    _packed_since: float | None = None  # when what it was read from was put away, if it was

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 (the name callers rely on)
        *,
        token_budget: int | TokenBudget | None = None,
        policy: Policy | None = None,
        counter: Counter | None = None,
        store: Any = None,
    ) -> None:
        if id is not None and (not isinstance(id, str) or not id):
            raise ConfigurationError(f"a session's id must be text, got {id!r}")
        self.id = id if id is not None else os.urandom(16).hex()
        self.policy = policy if policy is not None else Policy()
        self.budget = resolve_budget(token_budget, policy)
        self.lock = threading.RLock()
        self._counter = counter if counter is not None else default_counter()
        # Half a second once a process: here, where a span does not count it.
        getattr(self._counter, "load", lambda: None)()
        self._counting: Counting | None = None
        self._calibration = Calibration()
        self._sent_tokens = 0
        self.lines = self.policy.lines(self.budget)
        self._totals = Totals(self.budget.limits)
        self._ids = itertools.count(1)
        self._run_ids = itertools.count(1)
        self.record = Record(self.policy)
        self.record.restless = True  # until its first run has been looked at
        self.hooks = Hooks(self.policy.hook_slow_s, self.record.alerts.append)
        self.journal = _journal(self.id, self.lock, store)
        self.journal.released = self._release
        self.durable = self.journal.durable
        self.run_rows = self.journal.run_rows
        self._shift = 0.0
        self._closed = False
        self._open_runs: set[int] = set()
        self._last_runs: deque[int] = deque(maxlen=self.policy.keep_runs)
        self._make_layers(self.budget)
        if self.durable:
            self.journal.begin(())
        self._ahead = _ahead(weakref.ref(self))
        self._live: Any = None
        self._admit()
        _alive.add(self)
        if self.durable:
            self._kept()

    def _make_layers(self, budget: TokenBudget) -> None:
        working, stored, cache, agents, history = self._totals.tallies
        entrance = Entrance(self.id, self.policy.redactor)
        wiring = Wiring(
            self.lock,
            self._count,
            self.now,
            self._owner,
            self._new_id,
            self.journal.note,
            **({"admit": entrance.admit, "stored": entrance.stored} if self.durable else {}),
        )
        self._stored = wiring.stored
        self.active_contexts = Contexts(Layer.WORKING_MEMORY, wiring, working)
        self.archived_contexts = Contexts(Layer.LONG_TERM_MEMORY, wiring, stored)
        policy = self.policy
        self.cache = Cache(
            wiring, cache, budget.limit(Layer.CACHE), policy.much_used, policy.cache_eviction
        )
        self.agents = Agents(wiring, agents)
        self.history = History(wiring, history)
        self.layers = (
            self.active_contexts,
            self.archived_contexts,
            self.cache,
            self.agents,
            self.history,
        )

    def _kept(self) -> None:
        """It has a durable store."""

    # --- what layers are lent ---------------------------------------------------------------

    @property
    def counter(self) -> Counter:
        """What counts text."""
        return self._counter

    def _count(self, content: Any) -> int:
        tokens = measure_tokens(content, counter=self.counter)
        return tokens if self.counter.exact else round(tokens * self._calibration.factor)

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}{next(self._ids)}"

    def _owner(self) -> tuple[int | None, str | None]:
        run = current_run()
        while run is not None:
            if run.memory is self:
                return run.run_id, run.agent
            run = run.parent
        return None, None

    def _release(self, ids: Iterable[str]) -> None:
        """The store has these items: what was replaced of them need not be kept here too."""
        for item_id in ids:
            self.record.originals.pop(item_id, None)

    # --- measuring --------------------------------------------------------------------------

    @property
    def token_budget(self) -> int:
        """Tokens of the whole budget."""
        return self.budget.total

    @property
    def counting(self) -> Counting:
        """How tokens are counted."""
        if self._counting is None:
            counter = self.counter
            self._counting = Counting("exact" if counter.exact else "estimate", counter.name)
        return self._counting

    def profile(self) -> MemoryProfile:
        """What memory holds now. Reads running totals: independent of how much it holds."""
        with self.lock:
            tokens, _ = self._measure()
            working, stored, cache, agents, history = self._totals.tallies
            return MemoryProfile(
                self.budget,
                tokens,
                (working.items, stored.items, cache.items, agents.items, history.items),
                cache.hits,
                cache.misses,
                self.counting,
                working.pinned,
                self._ahead,
            )

    def recount(self) -> MemoryProfile:
        """Count every item again, put right what differs, and give the profile.

        Proves the running totals: it equals :meth:`profile` unless something changed a message
        or a context in place. Linear in what is held, and slow.
        """
        with self.lock:
            for layer in self.layers:
                layer._recount()
            return self.profile()

    # --- runs -------------------------------------------------------------------------------

    def open_run(self) -> tuple[int, LayerTokens, int, bool]:
        """A new run's number, memory as it was found, and whether it is under pressure."""
        if self._config is not config.current:
            self._admit()
        with self.lock:
            tokens, total = self._measure()  # first: where it fails, no run is open
            run_id = next(self._run_ids)
            if not self._open_runs:
                self.record.outer_runs += 1
            self._open_runs.add(run_id)
            lines = self.lines
            return run_id, tokens, total, tokens[0] > lines.working or total > lines.whole

    def close_run(self, run_id: int) -> tuple[LayerTokens, int, bool]:
        """End a run; gives memory as it is left, and whether it is restless.

        Most runs leave memory far from every threshold: telling that costs five comparisons,
        looking at each threshold costs as much as the run.
        """
        with self.lock:
            self._open_runs.discard(run_id)
            self._last_runs.append(run_id)
            record = self.record
            record.runs += 1
            tokens, total = self._measure()
            lines, cache = self.lines, self.cache
            restless = (
                tokens[0] > lines.restless_working
                or total > lines.restless
                or record.restless
                or (cache.restless and cache._uneasy(self.policy.cache_hit_rate_alert))
            )
            return tokens, total, restless

    def measure(self) -> LayerTokens:
        """Tokens by layer as they are now."""
        with self.lock:
            return self._measure()[0]

    def now(self) -> float:
        """Seconds since the epoch that never run backwards: setting the clock does not move
        them, nor does a restart after it was set."""
        return now() + self._shift

    def _measure(self) -> tuple[LayerTokens, int]:
        """Tokens by layer, brought up to date, and their sum. Called under the lock."""
        if self.cache._soonest is not inf:
            self.cache._sweep()
        self.agents._measure()
        # Not by `read_tokens`: this is on the path of every run, twice.
        working, stored, cache, agents, history = self._totals.tallies
        tokens = working.tokens, stored.tokens, cache.tokens, agents.tokens, history.tokens
        total = working.tokens + stored.tokens + cache.tokens + agents.tokens + history.tokens
        return tokens, total

    def count(self) -> int:
        """Number of items in all layers."""
        return sum(tally.items for tally in self._totals.tallies)

    def read_tokens(self) -> LayerTokens:
        """Tokens by layer as they were last brought up to date, without a lock."""
        working, stored, cache, agents, history = self._totals.tallies
        return working.tokens, stored.tokens, cache.tokens, agents.tokens, history.tokens

    def active_runs(self) -> frozenset[int]:
        """Numbers of the runs whose items are in use: the open ones, and the last few."""
        with self.lock:
            return frozenset(self._open_runs) | frozenset(self._last_runs)

    def _calibrate(self, counted_tokens: int, billed_tokens: int) -> None:
        """Scale every count by how far the estimate is off; an exact counter stays as it is."""
        if self.counter.exact or not counted_tokens:
            return
        with self.lock:
            before = self._calibration.factor
            # What was counted carries the present factor already.
            self._calibration = self._calibration.record(
                round(counted_tokens / before), billed_tokens
            )
            if abs(self._calibration.factor / before - 1) > _RESCALE_FROM:
                for layer in self.layers:
                    layer._recount()

    def _admit(self) -> None:
        """Be reported by the metrics of the present configuration, and by no others."""
        self._config = config.current
        live = metrics.ledger().live
        if live is not self._live:
            self._dismiss()
            self._live = live
            self._admitted = live.admit(self, self._totals)

    def _dismiss(self) -> None:
        if self._live is not None:
            self._live.dismiss(self._admitted)


_alive: weakref.WeakSet[Memory] = weakref.WeakSet()


def _after_fork() -> None:
    """Another thread of the parent may have held a lock, and is not here to let go of it."""
    for memory in list(_alive):
        locks: tuple[Any, ...] = (memory.lock, memory.record.acting)
        for lock in locks:
            lock._at_fork_reinit()  # as the standard library's logging does


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
