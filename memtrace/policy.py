"""The policy: every constant of the loop, with its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from . import policy_checks
from .redaction import redact_secrets
from .values import LayerTokens, TokenBudget

REPLACEABLE = policy_checks.REPLACEABLE

Prices = tuple[float, float, float]
"""A :class:`~memtrace.prices.Price`, or its three figures."""


class Lines(NamedTuple):
    """A policy's thresholds in tokens, so that looking costs a comparison."""

    whole: int
    working: int
    consolidate: int
    budget: int
    restless: int
    restless_working: int

    def pressed(self, tokens: LayerTokens) -> bool:
        """Whether tokens call for a pass before a model is called."""
        return tokens[0] > self.working or sum(tokens) > self.whole


@dataclass(frozen=True, slots=True)
class Policy:
    """Every constant of the loop. Shares are 0–1, times are seconds.

    Args:
        token_budget: Tokens, where a session or an observed list names none. None: the
            environment's ``MEMTRACE_TOKEN_BUDGET``, else 200,000.
        acts: False: measure, alert and report the plan, and change nothing.
        compress_above: Pressure: working memory above this share of its allocation, or the
            whole above this share of the budget. Source: the threshold table of the design.
        compress_target: Where a compression stops, of the same two. Source: the same; the
            distance of a tenth between the two is what keeps passes seldom.
        cleanup_above: The whole above this share of the budget before a model is called: cleanup.
            Source: the same.
        cleanup_target: Where a cleanup stops. Source: the same.
        consolidate_above: Working memory above this share of its allocation after a run: what no
            recent run used is consolidated. Source: the target; below it nothing is removed.
        keep_runs: Items of this many last runs are active. Source: a follow-up question seldom
            reaches back past two runs.
        keep_recent: This many last messages are active. Source: five calls with their results.
        keep_tool_outputs: This many last tool outputs stay whole in the first place. Source: with
            five kept, masking the older saved 52–60% of the tokens sent over recorded coding
            sessions.
        stub_share: Share of a tool output, or of a long argument of a call, that the names in its
            stub may take: those in sight nowhere else. Source: at a quarter .997 of the names that
            later steps of recorded coding agents used stayed in sight.
        short_form_share: Share of a context's tokens, or of an inactive message's prose, that its
            short form may keep. Source: at a
            quarter, extraction that favours names and numbers keeps .65 of answer facts.
        digest_share: Share of the budget that the digests of dropped turns may hold. Source: at a
            budget of 32,000 tokens .10 kept .978 of the names that recorded coding agents used in
            sight, .05 kept .970.
        cap_share: Share of the budget that a single huge output is capped to at least, when the
            last messages alone are past the target, or nothing else suffices.
        much_used: A context touched this often is consolidated whole.
        working_memory_alert: Alert above this share of working memory's allocation.
        budget_alert: Alert above this share of the budget.
        first_profile_alert: Tell where a session's first run finds more than this share of the
            budget: it should begin with essentials only. Source: recorded coding sessions carried
            13–22% of a window of 200,000 as system prompt and tools.
        rebalance: Move the budget's allocations toward what is used, after runs that leave memory
            near a threshold; each change is noted in :attr:`Session.budget_log`.
        cache_hit_rate_alert: Alert below this hit rate, after ``cache_min_lookups`` lookups.
        cache_min_lookups: See there.
        cache_eviction: Who leaves a full cache first: ``lru`` or ``s3fifo``. Source: over five
            recorded access traces S3-FIFO answered up to 90 points more where keys come round in
            turn, at most .9 fewer elsewhere; ``session.cache.advise()`` tells for a session.
        adapt_cache: True: the cache's size and times to live follow its advice, within bounds.
        cache_least: Share of the budget that an adapted cache may hold at most, at its smallest.
            Source: half its default allocation.
        cache_most: The same at its largest. Source: what history's default allocation is.
        cache_ttl_times: An adapted time to live is at most this many times the one given, and at
            least that part of it. Source: two doublings, as far as advice looks.
        compression_ratio_alert: Alert where compressed/original over the last
            ``compression_window`` compressions is above this.
        compression_window: See there.
        cleanup_window: Alert where there were more cleanups than runs over this many last runs.
        ineffective_passes: This many in a row stop the loop until something changes.
        least_gain: A pass that would free less than this share of the budget is declined, unless
            memory is over budget; and memory must have grown by as much before a loop that
            stopped tries again. Source: rewriting a view breaks the provider's prompt cache;
            over recorded coding sessions at half their size .08 kept .90 of the view common to
            consecutive model calls, .05 kept .89. It does not hold for working memory, whose
            contexts are not part of that view.
        judge: Reckon whether a pass pays: what it saves in the calls to come, against what the
            provider must read again at full price. One that does not is declined until memory is
            above ``budget_alert``, and one that is made goes on to ``deep_target``. False: passes
            go by thresholds alone. Source: over recorded coding sessions at half their size the
            tokens sent cost .80 with it of what they cost without.
        deep_target: Share of the budget that a judged pass goes on to, with what is not among the
            last messages: what follows a change is read again whether it is long or short.
            Source: at .50 a pass leaves as much room as it keeps; the names that later steps of
            recorded coding agents used stayed in sight as before (.98).
        prices: What a prompt's tokens cost: a :class:`~memtrace.prices.Price` for all models, or
            by what a model's name contains. None: the table :data:`~memtrace.prices.PRICES`, by
            the name that :meth:`Session.record_usage` was told.
        keep_snapshots: Snapshots kept in memory for rollback.
        redactor: What a text of a session with a durable store goes through as it enters: given
            it, returns it without secrets. None: secrets are stored as they are.
        embed: Gives a vector for each of a list of texts, so that :meth:`Session.recall` finds by
            meaning too; it may be async. None: by words alone.
        summarizer: Gives a text for the messages that a digest is to stand for, and for contexts
            that are consolidated: ``summarizer(messages, previous)``, where ``previous`` is its
            summary so far, which is to be extended. It may be async. It is called on a thread of
            its own, an async one there on a loop of its own; from :meth:`Session.messages` on an
            event loop it is not called. What it fails to give, or gives too late, empty, larger
            than what memtrace keeps by itself, or without the names still spoken of, is not used.
            None: memtrace extracts.
        summarizer_timeout_s: Seconds that one pass waits for its summarizer in all. Source: a
            model writes a thousand tokens in less.
        hook_slow_s: A hook slower than this is measured, named in an alert, and not killed.
        archive_after_s: Idle time after which a session is put away. Source: a working day.
        retention_review_s: Time after which what is kept is due for review. Source: a quarter.
        actions: Replacements by name (``cleanup``, ``compress``, ``consolidate``,
            ``update_cache``): callables that take the session, and ``target`` for the first two.

    Raises:
        ConfigurationError: A value is outside its range; the message names it.

    >>> Policy(keep_runs=5).keep_runs
    5
    """

    token_budget: int | None = None
    acts: bool = True
    compress_above: float = 0.80
    compress_target: float = 0.70
    cleanup_above: float = 0.85
    cleanup_target: float = 0.70
    consolidate_above: float = 0.70
    keep_runs: int = 3
    keep_recent: int = 10
    keep_tool_outputs: int = 5
    stub_share: float = 0.25
    short_form_share: float = 0.25
    digest_share: float = 0.10
    cap_share: float = 0.05
    much_used: int = 3
    working_memory_alert: float = 0.80
    budget_alert: float = 0.90
    first_profile_alert: float = 0.25
    rebalance: bool = False
    cache_hit_rate_alert: float = 0.60
    cache_min_lookups: int = 20
    cache_eviction: str = "lru"
    adapt_cache: bool = False
    cache_least: float = 0.05
    cache_most: float = 0.25
    cache_ttl_times: int = 4
    compression_ratio_alert: float = 0.90
    compression_window: int = 10
    cleanup_window: int = 10
    ineffective_passes: int = 2
    least_gain: float = 0.08
    judge: bool = True
    deep_target: float = 0.50
    prices: Mapping[str, Prices] | Prices | None = None
    keep_snapshots: int = 10
    redactor: Callable[[str], str] | None = redact_secrets
    embed: Callable[[list[str]], Any] | None = None
    summarizer: Callable[[list[Any], str], Any] | None = None
    summarizer_timeout_s: float = 30.0
    hook_slow_s: float = 1.0
    archive_after_s: float = 86_400.0
    retention_review_s: float = 7_776_000.0
    actions: Mapping[str, Callable[..., Any]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        policy_checks.check(self)

    def lines(self, budget: TokenBudget) -> Lines:
        """Where this policy's thresholds lie in a budget's tokens."""
        working = budget.limits[0]
        whole = min(self.compress_above, self.cleanup_above)
        return Lines(
            whole=int(budget.total * whole),
            working=int(working * self.compress_above),
            consolidate=int(working * self.consolidate_above),
            budget=budget.total,
            restless=int(budget.total * min(1.0, self.budget_alert)),
            restless_working=int(working * min(self.consolidate_above, self.working_memory_alert)),
        )

    @classmethod
    def observe(cls, **constants: Any) -> Policy:
        """A policy that measures, alerts and reports the plan, and changes nothing.

        >>> Policy.observe().acts
        False
        """
        return cls(**{**constants, "acts": False})

    @classmethod
    def from_file(cls, path: str | Path) -> Policy:
        """A policy whose constants are the keys of a TOML file; those it leaves out are as here.

        Raises:
            ConfigurationError: The file cannot be read, or a constant cannot work as it stands
                there; the message names the line, and what would.
        """
        from .policy_file import read_policy

        return read_policy(path, cls).policy

    def but(self, **constants: Any) -> Policy:
        """The same policy with some constants changed."""
        return replace(self, **constants)


POLICY_FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Policy))
