"""The values that flow through memtrace: all frozen, none with behaviour beyond reading itself.

Data flows one way: items -> layers -> profile -> plan -> actions -> reports -> telemetry.
Tokens are whole numbers; fractions (utilization, shares, rates) are floats where 1.0 means
"all of it"; times are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from . import allotting
from .errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self

    from .outlook import Forecast

    _Ahead = Callable[[int, int], Forecast | None] | None

DEFAULT_TOKEN_BUDGET = 200_000
"""Tokens of a session's budget where nothing else is said: the context window most current
models share."""


class Layer(str, Enum):
    """The five layers of an agent's memory, in the order in which they are always listed.

    A member is its own attribute value, so it can be used wherever the string can.

    >>> Layer.WORKING_MEMORY == "working_memory"
    True
    """

    WORKING_MEMORY = "working_memory"
    LONG_TERM_MEMORY = "long_term_memory"
    CACHE = "cache"
    AGENT_STATES = "agent_states"
    CONVERSATION_HISTORY = "conversation_history"

    def __str__(self) -> str:
        return self.value


LAYERS: tuple[Layer, ...] = tuple(Layer)
LAYER_NAMES: tuple[str, ...] = tuple(layer.value for layer in LAYERS)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing held in a layer. Frozen: a change is a new item in its place.

    Args:
        id: Unique within its session, and stable.
        layer: The layer that holds it.
        kind: What it is, in the field's words: ``document``, ``module``, ``result``, ``system``,
            ``user``, ``assistant``, ``tool``, ``cache``, ``state`` …
        content: The caller's own object, never copied and never changed.
        tokens: What it counts, ≥ 0, counted once when it entered.
        pinned: Never compressed, consolidated or dropped.
        priority: Higher stays longer among equally old items.
        created_at: Seconds since the epoch, on the session's clock.
        last_used_at: The same, of its last use.
        expires_at: The same, of its end; None where it has none.
        agent: Name of the agent that owns it, if any.
        run_id: Number of the run that owns or last touched it; None outside any run.
        derived_from: Ids of the items that this one stands for; empty for an original.
        key: The name its owner gave it, if any.
        facts: Of a message, what :func:`memtrace.messages.facts` read when it entered; None of
            anything else.
    """

    id: str
    layer: Layer
    kind: str
    content: Any
    tokens: int
    pinned: bool = False
    priority: int = 0
    created_at: float = 0.0
    last_used_at: float = 0.0
    expires_at: float | None = None
    agent: str | None = None
    run_id: int | None = None
    derived_from: tuple[str, ...] = ()
    key: str | None = None
    facts: Any = field(default=None, repr=False, compare=False)


@cache
def _thawed() -> Any:
    """A class of an item's fields that is not frozen: what is made with it becomes an item."""
    fields = [(name, Any) for name in Item.__dataclass_fields__]
    return make_dataclass("Thawed", fields, slots=True)


def made_item(values: Iterable[Any]) -> Item:
    """An item from the values of all its fields, in order: a quarter of the time of ``Item(...)``.

    A frozen class sets each field by a call. Sessions make items by the ten thousand.
    """
    item: Item = _thawed()(*values)
    item.__class__ = Item
    return item


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """How many tokens a session may hold, and how they are shared among its layers.

    Args:
        total: Tokens, > 0, for all layers together.
        working_memory: Share of the total, 0–1. The five shares sum to at most 1; the
            defaults (.40, .15, .10, .10, .25) sum to exactly 1.
        long_term_memory: The same for long-term memory.
        cache: The same for the cache.
        agent_states: The same for agent states.
        conversation_history: The same for the conversation; a soft limit: it may use what the
            others leave free.

    Raises:
        ConfigurationError: The total is no whole number above 0, a share is outside 0–1, or
            the shares sum to more than 1.

    >>> TokenBudget(100_000).limit("working_memory")
    40000
    """

    total: int = DEFAULT_TOKEN_BUDGET
    working_memory: float = 0.40
    long_term_memory: float = 0.15
    cache: float = 0.10
    agent_states: float = 0.10
    conversation_history: float = 0.25
    limits: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.total, bool) or not isinstance(self.total, int) or self.total <= 0:
            raise ConfigurationError(
                f"token budget must be a whole number of tokens above 0, got {self.total!r}; "
                "for example Session(token_budget=128_000)"
            )
        shares = self.shares
        for name, share in shares.items():
            if not isinstance(share, (int, float)) or not 0 <= share <= 1:
                raise ConfigurationError(
                    f"the {name} allocation must be a share from 0 to 1, got {share!r}"
                )
        whole = sum(shares.values())
        if whole > 1 + 1e-9:
            raise ConfigurationError(
                f"the five allocations sum to {whole:.3f}, and may sum to at most 1: "
                + ", ".join(f"{name}={share:g}" for name, share in shares.items())
            )
        limits = tuple(int(self.total * share + 1e-6) for share in shares.values())
        object.__setattr__(self, "limits", limits)

    @classmethod
    def of(cls, value: int | TokenBudget) -> TokenBudget:
        """A budget from a budget or from a plain number of tokens.

        >>> TokenBudget.of(1000).total
        1000
        """
        return value if isinstance(value, TokenBudget) else cls(value)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the total by layer name, every layer present, in layer order."""
        return {name: getattr(self, name) for name in LAYER_NAMES}

    def limit(self, layer: str | Layer) -> int:
        """Tokens allotted to a layer.

        Raises:
            ConfigurationError: There is no layer of that name.
        """
        return self.limits[layer_index(layer)]

    def rebalance(
        self,
        usage: Mapping[str, Any],
        *,
        step: float = allotting.STEP,
        least: float = allotting.LEAST,
        most: float = allotting.MOST,
    ) -> TokenBudget:
        """A budget of the same total whose allocations are nearer to what is used.

        Each goes ``step`` of the way to its layer's part of all that is used; their sum stays.
        :meth:`memtrace.Session.rebalance` has a session follow it.

        Args:
            usage: Tokens used by layer name: a :class:`MemoryProfile` is one, and so is any
                mapping. A layer that is missing uses nothing; other keys are passed over.
            step: How far to go, above 0 and up to 1.
            least: No allocation goes below this share, unless it is below already.
            most: No allocation goes above this share, unless it is above already.

        Raises:
            ConfigurationError: No layer is named, a figure is negative, or a bound cannot work.

        >>> budget = TokenBudget(100_000).rebalance({"working_memory": 30_000, "cache": 10_000})
        >>> budget.limit("working_memory"), budget.limit("cache"), budget.total
        (57500, 17500, 100000)
        """
        for name, bound in (("step", step), ("least", least), ("most", most)):
            if not isinstance(bound, (int, float)) or not 0 <= bound <= 1:
                raise ConfigurationError(f"rebalance: {name} must be from 0 to 1, got {bound!r}")
        used = {name: usage[name] for name in LAYER_NAMES if name in usage}
        for name, tokens in used.items():
            if not isinstance(tokens, (int, float)) or not 0 <= tokens < float("inf"):
                raise ConfigurationError(f"rebalance: {name} uses {tokens!r}; give tokens ≥ 0")
        if not used:
            raise ConfigurationError(
                "rebalance takes tokens by layer, for example session.profile() or "
                f"{{'working_memory': 30_000}}; got {usage!r}"
            )
        shares = allotting.moved(self.shares, used, step=step, least=least, most=most)
        return TokenBudget(self.total, **shares)


def layer_index(layer: str | Layer) -> int:
    """Position of a layer in :data:`LAYERS`.

    Raises:
        ConfigurationError: There is no layer of that name.

    >>> layer_index("cache")
    2
    """
    try:
        return LAYER_NAMES.index(layer)
    except ValueError:
        raise ConfigurationError(
            f"unknown layer {layer!r}; the layers are {', '.join(LAYER_NAMES)}"
        ) from None


LayerTokens = tuple[int, int, int, int, int]
"""Tokens by layer, in layer order: what a profile is made of."""


class Counting(NamedTuple):
    """How tokens were counted: ``exact`` or ``estimate``, and with which encoding."""

    quality: Literal["exact", "estimate"]
    encoding: str


class LayerUsage(NamedTuple):
    """What one layer holds: tokens, number of items, its limit in tokens, and tokens/limit."""

    tokens: int
    items: int
    limit: int
    utilization: float


def _share(part: float, whole: float) -> float:
    return part / whole if whole else (0.0 if not part else float("inf"))


class MemoryProfile(Mapping[str, "int | float"]):
    """What memory held at a moment, in tokens by layer. A frozen value, and a read-only mapping.

    As a mapping it has exactly seven keys: the five layers' tokens, ``total_tokens`` and
    ``utilization_rate`` (total / budget). The same names are attributes.

    Attributes:
        token_budget: Tokens of the budget it is held against.
        budget: That budget with its allocations.
        layers: :class:`LayerUsage` by layer name, every layer present.
        in_context_tokens: What a model call would carry: working memory, agent states, history.
        stored_tokens: What is kept aside: long-term memory and cache.
        cache_hit_rate: Hits / lookups, 0–1; None before any lookup.
        counting: How tokens were counted.
        pinned_tokens: What pinned items hold of working memory.

    >>> from memtrace import Session
    >>> profile = Session(token_budget=1000).profile()
    >>> profile["total_tokens"], profile.utilization_rate, len(profile)
    (0, 0.0, 7)
    """

    # One slot, filled once: a profile is taken twice on every managed call, and seven frozen
    # dataclass fields cost more than the measuring itself. What follows the eighth value, the
    # total, is no part of what the profile is: it says whom to ask for a forecast.
    __slots__ = ("_held",)
    _held: tuple[TokenBudget, LayerTokens, LayerTokens, int, int, Counting, int, int, _Ahead]

    KEYS = (*LAYER_NAMES, "total_tokens", "utilization_rate")

    def __init__(
        self,
        budget: TokenBudget,
        tokens: LayerTokens,
        items: LayerTokens = (0, 0, 0, 0, 0),
        cache_hits: int = 0,
        cache_misses: int = 0,
        counting: Counting = Counting("exact", "o200k_base"),  # noqa: B008 (immutable)
        pinned_tokens: int = 0,
        ahead: _Ahead = None,
    ) -> None:
        _fill(
            self,
            (
                budget,
                tokens,
                items,
                cache_hits,
                cache_misses,
                counting,
                pinned_tokens,
                sum(tokens),
                ahead,
            ),
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a MemoryProfile is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a MemoryProfile is frozen: cannot delete {name!r}")

    def __getitem__(self, key: str) -> int | float:
        if key == "total_tokens":
            return self._held[7]
        if key == "utilization_rate":
            return self.utilization_rate
        try:
            return self._held[1][LAYER_NAMES.index(key)]
        except ValueError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.KEYS)

    def __len__(self) -> int:
        return len(self.KEYS)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MemoryProfile):
            return self._held[:8] == other._held[:8]
        return Mapping.__eq__(self, other)

    def __hash__(self) -> int:
        return hash(self._held[:8])

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={n}" for name, n in zip(LAYER_NAMES, self._held[1], strict=True))
        return (
            f"MemoryProfile({parts}, total_tokens={self.total_tokens}, "
            f"token_budget={self.token_budget}, utilization_rate={self.utilization_rate:.4f})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from .tables import share, table

        rows = [
            (name.replace("_", " "), held.items, held.tokens, held.limit, share(held.utilization))
            for name, held in self.layers.items()
        ]
        items, whole = sum(row[1] for row in rows), share(self.utilization_rate)
        rows.append(("all", items, self.total_tokens, self.token_budget, whole))
        head = ["layer", "items", "tokens", "limit", "used"]
        return table(f"Memory: {self.total_tokens:,} tokens, {whole} of the budget", head, rows)

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        return type(self), self._held[:7]

    @property
    def working_memory(self) -> int:
        """Tokens of working memory."""
        return self._held[1][0]

    @property
    def long_term_memory(self) -> int:
        """Tokens of long-term memory."""
        return self._held[1][1]

    @property
    def cache(self) -> int:
        """Tokens of the cache."""
        return self._held[1][2]

    @property
    def agent_states(self) -> int:
        """Tokens of all agents' states."""
        return self._held[1][3]

    @property
    def conversation_history(self) -> int:
        """Tokens of the conversation."""
        return self._held[1][4]

    @property
    def total_tokens(self) -> int:
        """Tokens of all layers."""
        return self._held[7]

    @property
    def utilization_rate(self) -> float:
        """Total / budget; above 1 when over budget."""
        return self._held[7] / self._held[0].total

    @property
    def layer_tokens(self) -> LayerTokens:
        """Tokens by layer, in layer order."""
        return self._held[1]

    @property
    def token_budget(self) -> int:
        """Tokens of the whole budget."""
        return self._held[0].total

    @property
    def budget(self) -> TokenBudget:
        """The budget with its allocations."""
        return self._held[0]

    @property
    def layers(self) -> Mapping[str, LayerUsage]:
        """Usage by layer name, every layer present."""
        budget, tokens, items = self._held[:3]
        return MappingProxyType(
            {
                name: LayerUsage(held, count, limit, _share(held, limit))
                for name, held, count, limit in zip(
                    LAYER_NAMES, tokens, items, budget.limits, strict=True
                )
            }
        )

    @property
    def working_memory_utilization(self) -> float:
        """Working memory's tokens / its allocation."""
        return _share(self._held[1][0], self._held[0].limits[0])

    @property
    def in_context_tokens(self) -> int:
        """Working memory, agent states and history: what a model call would carry."""
        tokens = self._held[1]
        return tokens[0] + tokens[3] + tokens[4]

    @property
    def stored_tokens(self) -> int:
        """Long-term memory and cache: what is kept aside."""
        tokens = self._held[1]
        return tokens[1] + tokens[2]

    @property
    def cache_lookups(self) -> int:
        """Cache lookups so far."""
        return self._held[3] + self._held[4]

    @property
    def cache_hit_rate(self) -> float | None:
        """Hits / lookups; None before any lookup."""
        hits, misses = self._held[3:5]
        return hits / (hits + misses) if hits + misses else None

    @property
    def pinned_tokens(self) -> int:
        """Tokens of working memory's pinned items, which nothing can make fewer."""
        return self._held[6]

    @property
    def counting(self) -> Counting:
        """How tokens were counted."""
        return self._held[5]

    @property
    def forecast(self) -> Forecast | None:
        """Turns left before memory is full, by what the session's last turns added.

        Worked out when it is asked for. None: the session had fewer than three turns, is gone,
        or this is a profile of no session.

        >>> from memtrace import Session
        >>> session = Session(token_budget=10_000)
        >>> for turn in range(5):
        ...     session.history.append({"role": "user", "content": "word " * 96})
        ...     session.history.append({"role": "assistant", "content": "yes"})
        >>> ahead = session.profile().forecast
        >>> round(ahead.tokens_per_turn), ahead.to_80.low <= ahead.to_80.turns <= ahead.to_80.high
        (104, True)
        """
        ahead = self._held[8]
        return None if ahead is None else ahead(self._held[7], self._held[0].total)


_fill = MemoryProfile._held.__set__  # type: ignore[attr-defined]  # past the frozen __setattr__


Outcome = Literal["effective", "ineffective", "no_op", "declined", "failed"]
Stage = Literal[
    "before_run",
    "after_run",
    "error",
    "checkpoint",
    "cleanup",
    "consolidate",
    "update_cache",
    "compress",
    "archive",
    "threshold",
]
STAGES: tuple[str, ...] = Stage.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class ActionReport:
    """What one action did, measured again after it.

    Args:
        action: Name of the action: ``cleanup``, ``compress``, ``consolidate`` …
        outcome: ``effective`` (fewer tokens, and the target reached), ``ineffective`` (target
            not reached, see reason), ``no_op``, ``declined`` (never for a call by hand),
            ``failed``.
        tokens_before: The session's total before the action.
        tokens_after: The session's total, measured again after it.
        items: How many items it removed, replaced or moved.
        duration_s: Seconds it took.
        reason: Why it ran, or why it fell short, in a sentence.
    """

    action: str
    outcome: Outcome
    tokens_before: int
    tokens_after: int
    items: int = 0
    duration_s: float = 0.0
    reason: str = ""

    @property
    def tokens_freed(self) -> int:
        """Tokens before less tokens after; negative where memory grew meanwhile."""
        return self.tokens_before - self.tokens_after

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from .tables import table

        head = ["before", "after", "gave back", "items", "seconds", "because"]
        row = (self.tokens_before, self.tokens_after, self.tokens_freed, self.items)
        return table(f"{self.action}: {self.outcome}", head, [(*row, self.duration_s, self.reason)])


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """One row of a session's run log: what a run found, left and did.

    Args:
        run_id: Its number in the session.
        kind: ``agent`` or ``checkpoint``.
        name: Name of the agent or of the checkpoint.
        started_at: Seconds since the epoch.
        duration_s: Seconds from before its profile to after it.
        error: Type of what its body raised; None: nothing.
        token_budget: Tokens of the budget then.
        before: Tokens by layer as it found them.
        after: Tokens by layer as it left them.
        reports: What actions did meanwhile.
    """

    run_id: int
    kind: str
    name: str
    started_at: float
    duration_s: float
    error: str | None
    token_budget: int
    before: LayerTokens
    after: LayerTokens
    reports: tuple[ActionReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Action:
    """One step of a plan: what would run, down to where, and why.

    Args:
        name: ``cleanup`` or ``compress``.
        target: The share to get down to, 0–1: of the whole budget, and for ``compress`` of
            working memory's allocation too.
        reason: Why, with the measured figure.
    """

    name: Literal["cleanup", "compress"]
    target: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """One of the five monitoring points.

    Args:
        name: ``working_memory_utilization``, ``cache_hit_rate``, ``token_budget_usage``,
            ``compression_effectiveness`` or ``cleanup_frequency``.
        value: What was measured, 1.0 for all of it; None where there is too little to tell.
        threshold: Where an alert fires.
        direction: On which side of it: ``above`` or ``below``.
        crossed: Whether the value is past the threshold.
    """

    name: str
    value: float | None
    threshold: float
    direction: Literal["above", "below"]
    crossed: bool


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that was crossed. Fires on crossing, not while it stays crossed.

    Args:
        threshold: Name of the threshold, for instance ``token_budget_usage``.
        value: The threshold's value.
        observed: What was measured.
        direction: ``above`` or ``below`` the value.
        severity: ``warning`` or ``critical``.
        message: One sentence with the figures and what to do.
    """

    threshold: str
    value: float
    observed: float
    direction: Literal["above", "below"] = "above"
    severity: Literal["info", "warning", "critical"] = "warning"
    message: str = ""


@runtime_checkable
class SessionLike(Protocol):
    """What a hook may read of the session it is told about."""

    @property
    def id(self) -> str: ...
    @property
    def token_budget(self) -> int: ...
    def profile(self) -> MemoryProfile: ...


@dataclass(frozen=True, slots=True)
class Event:
    """The one value a hook is given.

    Args:
        stage: Where in the loop this happens.
        session: The session; None where only a caller's own list is observed.
        profile: Memory at this moment, where it was measured.
        report: What an action did, at the stages of actions.
        alert: What was crossed, at ``threshold``.
        agent: Name of the agent, or of the checkpoint.
        error: What the body raised, at ``error``.
    """

    stage: Stage
    session: SessionLike | None = None
    profile: MemoryProfile | None = None
    report: ActionReport | None = None
    alert: Alert | None = None
    agent: str | None = None
    error: BaseException | None = None


Hook = Callable[[Event], Any]
