"""What a session's loop remembers of itself, and what it has set aside."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from .decide import LoopFacts
from .policy import Policy
from .values import ActionReport, Alert, Item, Outcome, TokenBudget

if TYPE_CHECKING:
    from .findings import Billed, BudgetChange


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Memory at a moment. Opaque but for its name and size.

    Args:
        id: Unique in its session.
        name: As given, or the checkpoint's.
        created_at: Seconds since the epoch.
        tokens: The session's total then.
        items: Number of items then.
        revision: Which one it is in the session's store; 0: it was taken in this process.
        state: What :meth:`Session.restore` needs.
    """

    id: str
    name: str
    created_at: float
    tokens: int
    items: int
    revision: int = 0
    state: Any = field(repr=False, default=None)


_KEPT_CALLS = 10
"""Model calls whose bills a snapshot keeps: enough to tell how far off a count is."""


class Record:
    """The loop's memory of itself. Changed under the session's lock.

    Attributes:
        acting: Held while a pass runs, so that two never work on one session together.
        acting_thread: Which thread holds it.
        originals: What was replaced or dropped, by id.
        snapshots: The last ones, oldest first.
        reports: What actions did lately, oldest first.
        unlogged: Reports that are in no row of the run log yet, oldest first.
        alerts: What fired lately, oldest first.
        crossed: Names of the thresholds that are crossed now.
        cleanups: How many cleanups this session had.
        runs: How many runs have ended.
        outer_runs: How many runs have begun while no other was open.
        restless: Whether anything ever happened, so that thresholds are worth looking at.
        budget_log: The last changes of the budget, oldest first.
        billed: What providers billed for the last model calls, oldest first.
        calls_billed: How many they billed for.
        model: Name of the model that was billed last, as far as that was made known.
        unseen_tokens: What a prompt carries beside memory, as far as that was made known.
        reviewed_at: Seconds since the epoch of the last retention review; None: there was none.
    """

    def __init__(self, policy: Policy) -> None:
        self.acting = threading.Lock()
        self.acting_thread: int | None = None
        self.originals: dict[str, Item] = {}
        self.snapshots: deque[Snapshot] = deque(maxlen=policy.keep_snapshots)
        self.reports: deque[ActionReport] = deque(maxlen=100)
        self.unlogged: deque[ActionReport] = deque(maxlen=100)
        self.alerts: deque[Alert] = deque(maxlen=100)
        self.crossed: frozenset[str] = frozenset()
        self.cleanups = 0
        self.budget_log: deque[BudgetChange] = deque(maxlen=100)
        self.billed: deque[Billed] = deque(maxlen=50)
        self.calls_billed = 0
        self.unseen_tokens = 0
        self.model: str | None = None
        self.reviewed_at: float | None = None
        self._patience = policy.ineffective_passes
        self._least_gain = policy.least_gain
        self._forced_above = policy.budget_alert
        self._ineffective = 0
        self._stopped: tuple[int, int] | None = None
        self._said = False
        self.restless = False
        self.runs = 0
        self.outer_runs = 0
        self._fresh: set[str] = set()
        self._fresh_in = 0
        self._window = policy.cleanup_window
        self._compressions: deque[tuple[int, int]] = deque(maxlen=policy.compression_window)
        self._cleaned_in: list[int] = []  # the run in which each late cleanup was

    def adopt(self, policy: Policy) -> None:
        """Go by other constants from now on."""
        self._patience = policy.ineffective_passes
        self._least_gain = policy.least_gain
        self._forced_above = policy.budget_alert
        self._window = policy.cleanup_window
        self._compressions = deque(self._compressions, maxlen=policy.compression_window)

    def kept(self) -> dict[str, Any]:
        """What a store keeps of this, beside the counters: plain data."""
        kept: dict[str, Any] = {
            "budget_log": [
                [c.at, _numbers(c.old), _numbers(c.new), c.reason] for c in self.budget_log
            ],
            "billed": [list(call) for call in islice(reversed(self.billed), _KEPT_CALLS)],
            "unseen": self.unseen_tokens,
            "model": self.model,
            "reviewed": self.reviewed_at,
            "compressions": [list(pair) for pair in self._compressions],
        }
        return {name: value for name, value in kept.items() if value}

    def take_back(self, kept: Any) -> None:
        """The same, as a store gave it back; what makes no sense is left out."""
        from .findings import Billed, BudgetChange

        try:
            for at, old, new, reason in kept.get("budget_log", ()):
                change = BudgetChange(float(at), TokenBudget(*old), TokenBudget(*new), str(reason))
                self.budget_log.append(change)
            self.billed.extend(Billed(*call) for call in reversed(kept.get("billed", ())))
            self.unseen_tokens = int(kept.get("unseen", 0))
            model = kept.get("model")
            self.model = None if model is None else str(model)
            reviewed = kept.get("reviewed")
            self.reviewed_at = None if reviewed is None else float(reviewed)
        except (AttributeError, TypeError, ValueError):
            return  # an older or damaged note is no reason to refuse the session

    def facts(self) -> LoopFacts:
        """What monitoring asks of the loop."""
        first = self.runs - self._window
        self._cleaned_in = [run for run in self._cleaned_in if run >= first]
        runs = min(self.runs, self._window)
        return LoopFacts(tuple(self._compressions), len(self._cleaned_in), runs)

    def reported(self, report: ActionReport) -> None:
        """An action did something."""
        self.restless = self.restless or report.action != "snapshot"
        self.reports.append(report)
        if report.action != "snapshot" or report.outcome != "effective":
            self.unlogged.append(report)  # that a checkpoint took one is what makes its row

    def take_reports(self) -> tuple[ActionReport, ...]:
        """Reports of the run that ends now, for the run log."""
        if not self.unlogged:
            return ()
        reports = tuple(self.unlogged)
        self.unlogged.clear()
        return reports

    def cleaned(self) -> None:
        """A cleanup ran."""
        self.cleanups += 1
        self._cleaned_in.append(self.runs)

    def compressed(self, before: int, after: int) -> None:
        """A compression turned so many tokens into so many."""
        self._compressions.append((before, after))

    def made(self, item_ids: Iterable[str]) -> None:
        """A pass of the present run made these items: shorter forms of others."""
        self._fresh = {*self.fresh(), *item_ids}
        self._fresh_in = self.outer_runs

    def fresh(self) -> frozenset[str]:
        """Ids of the items that passes of the present run made."""
        return frozenset(self._fresh) if self._fresh_in == self.outer_runs else frozenset()

    # --- stopping where it does not help ----------------------------------------------------

    def passed(self, outcome: Outcome, tokens_left: int, turns: int) -> bool:
        """A pass is over and left so many tokens. Tells whether to say that the loop stops.

        Args:
            outcome: Of its last action.
            turns: User turns in the history, ever.
        """
        if outcome in ("effective", "no_op"):
            self._ineffective, self._stopped, self._said = 0, None, False
            return False
        if outcome == "declined":
            # It would be declined again until memory has grown; that is no alarm.
            self._stopped = tokens_left, turns
            return False
        self._ineffective += 1
        if self._ineffective < self._patience:
            return False
        self._stopped = tokens_left, turns
        said, self._said = self._said, True
        return not said

    def stopped(self, tokens: int, budget: int, turns: int) -> bool:
        """Whether the loop is stopped, and memory has not changed enough since to try again.

        Enough is growth by the least gain, or above the line where a pass is no longer judged;
        above the budget any growth that took it there, and a new user turn, which leaves the one
        before it free to be made shorter.
        """
        if self._stopped is None:
            return False
        left, turns_then = self._stopped
        if tokens < left:
            return False
        if tokens > self._forced_above * budget >= left:
            return False
        if tokens > budget and (left <= budget or turns != turns_then):
            return False
        return tokens - left < self._least_gain * budget


def _numbers(budget: TokenBudget) -> list[float]:
    return [budget.total, *budget.shares.values()]
