"""What the loop did while the agents worked, as hooks are told of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..values import ActionReport, Alert, Event, MemoryProfile
from .bench import Workbench

ACTIONS = ("cleanup", "compress", "consolidate", "update_cache")
"""Stages at which an action reports."""


@dataclass(frozen=True, slots=True)
class Done:
    """An action that the loop ran by itself.

    Args:
        step: After which tool call it was; 0 before the first.
        agent: In whose run.
        report: What it did.
    """

    step: int
    agent: str
    report: ActionReport


@dataclass(frozen=True, slots=True)
class Rollback:
    """A step that failed, and left nothing behind in memory.

    Args:
        step: The tool call that failed.
        agent: Whose it was.
        checkpoint: Name of the checkpoint that memory went back to.
        error: What the tool said.
        tokens_before: Tokens of memory when it failed.
        tokens_after: Tokens of memory as it was on entering the checkpoint.
        items: How many items went.
    """

    step: int
    agent: str
    checkpoint: str
    error: str
    tokens_before: int
    tokens_after: int
    items: int


@dataclass(slots=True)
class Journal:
    """Hooks that write down what happens on a workbench.

    Args:
        bench: Whose session to listen to.
        done: Actions, in order.
        alerts: Alerts, in order.
        rollbacks: Rollbacks, in order.
        checkpoints: How many checkpoints were entered.
    """

    bench: Workbench
    done: list[Done] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    checkpoints: int = 0

    def __post_init__(self) -> None:
        session = self.bench.session
        for stage in ACTIONS:
            session.on(stage)(self._acted)
        session.on("threshold")(self._alerted)
        session.on("checkpoint")(self._entered)
        session.on("error")(self._failed)

    def _acted(self, event: Event) -> None:
        assert event.report is not None
        self.done.append(Done(len(self.bench.steps), event.agent or "", event.report))

    def _alerted(self, event: Event) -> None:
        assert event.alert is not None
        self.alerts.append(event.alert)

    def _entered(self, _event: Event) -> None:
        self.checkpoints += 1

    def _failed(self, event: Event) -> None:
        """A checkpoint was left by an error, and memory is back already."""
        if not isinstance(event.error, ChildProcessError) or event.profile is None:
            return
        step = self.bench.steps[-1]  # its profile is from before memory went back
        held, left = step.profile, event.profile
        items = _items(held) - _items(left)
        self.rollbacks.append(
            Rollback(
                step.number,
                step.agent,
                event.agent or "",
                str(event.error),
                held.total_tokens,
                left.total_tokens,
                items,
            )
        )


def _items(profile: MemoryProfile) -> int:
    return sum(usage.items for usage in profile.layers.values())
