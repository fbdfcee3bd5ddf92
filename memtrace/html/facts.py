"""What a report is made of: plain frozen values, gathered before anything is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ..findings import Finding
from ..layers import CacheStats
from ..outlook import Forecast
from ..policy import Policy
from ..replay import Sent
from ..values import ActionReport, LayerTokens, MemoryProfile, Point

if TYPE_CHECKING:
    from ..decide.cache_advice import CacheAdvice


class Sample(NamedTuple):
    """Memory at a moment.

    Args:
        at: Where on the axis: number of the message, or of the run (half of one: before it).
        run: Number of the run it is of, from 1.
        tokens: By layer, in layer order.
        budget: Tokens of the whole budget then.
    """

    at: float
    run: int
    tokens: LayerTokens
    budget: int


class Mark(NamedTuple):
    """An action, where it happened on the same axis, and in which run."""

    at: float
    run: int
    report: ActionReport


class Stretch(NamedTuple):
    """A run or a checkpoint on the timeline.

    Args:
        run: Its number, from 1.
        kind: ``agent`` or ``checkpoint``.
        name: Whose it was.
        start: Seconds since the epoch; of a recording the number of its first message.
        end: The same of its end.
        before: Tokens of all layers as it found them.
        after: The same as it left them.
        error: Type of what its body raised; None: nothing.
        freed: Tokens that actions gave back in it.
    """

    run: int
    kind: str
    name: str
    start: float
    end: float
    before: int
    after: int
    error: str | None
    freed: int


class Lookups(NamedTuple):
    """What the cache had answered, and not, when a snapshot was taken (seconds since the epoch)."""

    at: float
    hits: int
    misses: int


class Leaf(NamedTuple):
    """An item that memory holds. ``agent`` is empty where it is nobody's; ``said`` is a line."""

    layer: str
    agent: str
    id: str
    kind: str
    tokens: int
    pinned: bool
    said: str


class Excerpt(NamedTuple):
    """A text as far as it is shown, and how many characters of it are not."""

    text: str
    left_out: int


class Pair(NamedTuple):
    """What stands in memory for something longer, beside what it stands for.

    ``said`` is how that begins, in a line.
    """

    layer: str
    id: str
    kind: str
    stands_for: int
    tokens_before: int
    tokens_after: int
    said: str
    before: Excerpt
    after: Excerpt


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows.

    Args:
        title: The session's id.
        source: Where it comes from, in a few words.
        unit: What the axis counts: ``message`` or ``run``.
        dated: Whether the timeline is in seconds since the epoch, and not in messages.
        profile: Memory at the end.
        forecast: What is ahead; None: too few turns to tell. A profile's own is gone with its
            session.
        policy: The loop's constants, for the thresholds.
        samples: Memory over the run, at least two.
        marks: What actions did, those that declined left out.
        timeline: Runs and checkpoints, in order.
        leaves: What memory holds, the largest first.
        pairs: What was replaced, the one that gave back most first.
        unshown: How many more there are of those.
        points: The five monitoring points.
        cache: What happened to the cache.
        lookups: The cache's lookups at each snapshot, where they are known.
        advice: What other settings would have made of its lookups; None: too few.
        findings: What a diagnosis found, the worst first.
        findings_of: What was diagnosed, in a sentence.
        sent: Of a recording, what its model calls were sent.
    """

    title: str
    source: str
    unit: str
    dated: bool
    profile: MemoryProfile
    forecast: Forecast | None
    policy: Policy
    samples: Sequence[Sample]
    marks: Sequence[Mark]
    timeline: Sequence[Stretch]
    leaves: Sequence[Leaf]
    pairs: Sequence[Pair]
    unshown: int
    points: Sequence[Point]
    cache: CacheStats
    lookups: Sequence[Lookups] = ()
    advice: CacheAdvice | None = None
    findings: Sequence[Finding] = ()
    findings_of: str = ""
    sent: Sent | None = None

    @property
    def freed(self) -> int:
        """Tokens that actions gave back."""
        return sum(mark.report.tokens_freed for mark in self.marks)
