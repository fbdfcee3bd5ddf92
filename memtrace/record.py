"""What a session's loop remembers of itself, and what it has set aside."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .decide import LoopFacts
from .policy import Policy
from .values import ActionReport, Alert, Item


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Memory at a moment. Opaque but for its name and size.

    Args:
        id: Unique in its session.
        name: As given, or the checkpoint's.
        created_at: Seconds since the epoch.
        tokens: The session's total then.
        items: Number of items then.
        state: What :meth:`Session.restore` needs.
    """

    id: str
    name: str
    created_at: float
    tokens: int
    items: int
    state: Any = field(repr=False, default=None)


class Record:
    """The loop's memory of itself. Changed under the session's lock.

    Attributes:
        acting: Held while a pass runs, so that two never work on one session together.
        originals: What was replaced or dropped, by id.
        snapshots: The last ones, oldest first.
        reports: What actions did lately, oldest first.
        alerts: What fired lately, oldest first.
        cleanups: How many cleanups this session had.
        runs: How many runs have ended.
        restless: Whether anything ever happened, so that thresholds are worth looking at.
    """

    def __init__(self, policy: Policy) -> None:
        self.acting = threading.Lock()
        self.originals: dict[str, Item] = {}
        self.snapshots: deque[Snapshot] = deque(maxlen=policy.keep_snapshots)
        self.reports: deque[ActionReport] = deque(maxlen=100)
        self.alerts: deque[Alert] = deque(maxlen=100)
        self._crossed: frozenset[str] = frozenset()
        self.cleanups = 0
        self._patience = policy.ineffective_passes
        self._least_gain = policy.least_gain
        self._ineffective = 0
        self._stopped_at: int | None = None
        self.restless = False
        self.runs = 0
        self._window = policy.cleanup_window
        self._compressions: deque[tuple[int, int]] = deque(maxlen=policy.compression_window)
        self._cleaned_in: list[int] = []  # the run in which each late cleanup was

    @property
    def crossed(self) -> frozenset[str]:
        """Names of the thresholds that are crossed now."""
        return self._crossed

    @crossed.setter
    def crossed(self, names: frozenset[str]) -> None:
        self._crossed = names
        # What is crossed must be looked at again, or it would never be seen to be over.
        self.restless = self.restless or bool(names)

    def facts(self) -> LoopFacts:
        """What monitoring asks of the loop."""
        first = self.runs - self._window
        self._cleaned_in = [run for run in self._cleaned_in if run >= first]
        runs = min(self.runs, self._window)
        return LoopFacts(tuple(self._compressions), len(self._cleaned_in), runs)

    def reported(self, report: ActionReport) -> None:
        """An action did something."""
        self.restless = True
        self.reports.append(report)

    def cleaned(self) -> None:
        """A cleanup ran."""
        self.cleanups += 1
        self._cleaned_in.append(self.runs)

    def compressed(self, before: int, after: int) -> None:
        """A compression turned so many tokens into so many."""
        self._compressions.append((before, after))

    # --- stopping where it does not help ----------------------------------------------------

    def passed(self, effective: bool, tokens_left: int) -> bool:
        """A pass is over and left so many tokens. Tells whether the loop stops now."""
        if effective:
            self._ineffective = 0
            self._stopped_at = None
            return False
        self._ineffective += 1
        if self._ineffective < self._patience:
            return False
        first = self._stopped_at is None
        self._stopped_at = tokens_left
        return first

    def stopped(self, tokens: int, budget: int) -> bool:
        """Whether the loop is stopped, and memory has not grown enough since to try again.

        Above the budget any growth is enough, unless what could not be freed was above it
        already: then there is nothing to be won.
        """
        left = self._stopped_at
        if left is None or tokens < left:
            return False
        if left <= budget < tokens:
            return False
        return tokens - left < self._least_gain * budget
