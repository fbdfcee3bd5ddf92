"""The loop: what runs by itself, when, and until where.

profile -> plan -> act -> measure again -> report. The engine calls this around runs, and the
session before a model call; everything here is synchronous, and may run in a worker thread.

The actions are imported when the first one runs: they are half of memtrace, and most programs
import it long before a session is under pressure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from threading import get_ident
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import get_current_span

from .decide import LoopFacts, alerts, monitor, plan
from .hooks import schedule
from .memory import Memory
from .policy import Policy
from .telemetry import names, spans
from .telemetry.alerts import tell as tell_alert
from .values import Action, ActionReport, Alert, Event, LayerTokens, MemoryProfile, Stage

if TYPE_CHECKING:
    from .actions.keep import Kept
    from .actions.perform import Result, Tell

_PATIENCE_S = 10.0
"""Seconds a model call waits for a pass elsewhere: a hook there may be waiting for this thread."""

Act = Callable[..., ActionReport]


def untidy(memory: Memory, tokens: LayerTokens, policy: Policy) -> bool:
    """Whether these tokens, or the cache, call for work after a run."""
    lines = memory.lines if policy is memory.policy else policy.lines(memory.budget)
    return policy.acts and (
        tokens[0] > lines.consolidate or sum(tokens) > lines.budget or memory.cache._due
    )


def stopped(memory: Memory) -> bool:
    """Whether the loop has stopped for this session, and not enough has changed since."""
    tokens = sum(memory.measure())
    return memory.record.stopped(tokens, memory.token_budget, memory.history.user_turns)


def relieve(memory: Memory, policy: Policy, tell: Tell = schedule) -> list[ActionReport]:
    """One pass: run the plan, measuring after each action, until nothing is called for."""
    record = memory.record
    if stopped(memory):
        return []
    # Under the budget a pass that is under way elsewhere is enough. Above it, it is waited for:
    # what a model is sent must fit. A hook within a pass waits for nothing.
    over = sum(memory.measure()) > memory.token_budget
    if record.acting_thread == get_ident():
        return []
    if not record.acting.acquire(timeout=_PATIENCE_S if over else 0):
        return []
    record.acting_thread = get_ident()
    try:
        if not policy.acts:
            _tell_plan(plan(memory.profile(), policy))
            return []
        reports: list[ActionReport] = []
        while True:
            done = {report.action for report in reports}
            actions = [a for a in plan(memory.profile(), policy) if a.name not in done]
            if not actions:
                break
            reports.append(_act(memory, policy, actions[0], tell))
            if reports[-1].outcome in ("ineffective", "declined") and "cleanup" not in {
                *done,
                actions[0].name,
            }:
                whole = Action("cleanup", policy.cleanup_target, "compression fell short")
                reports.append(_act(memory, policy, whole, tell))
        _judge(memory, reports, tell)
        return reports
    finally:
        record.acting_thread = None
        record.acting.release()


def tidy(memory: Memory, policy: Policy, tell: Tell = schedule) -> None:
    """What runs after a run: consolidation, the cache, and a cleanup if it ended over budget."""
    from .actions import consolidate_memory, update_cache

    tokens = memory.measure()
    lines = policy.lines(memory.budget)
    if tokens[0] > lines.consolidate:
        _act_by_name(memory, policy, "consolidate", consolidate_memory, tell)
    if memory.cache._due or tokens[2]:
        _act_by_name(memory, policy, "update_cache", update_cache, tell)
    if sum(memory.measure()) > lines.budget and not stopped(memory):
        reason = "the run ended above the budget"
        report = _act(memory, policy, Action("cleanup", policy.cleanup_target, reason), tell)
        _judge(memory, [report], tell)


def enter_checkpoint(
    memory: Memory, policy: Policy, name: str, tell: Tell = schedule, *, waits: bool = True
) -> Kept:
    """What runs on entering a checkpoint: a snapshot, which is returned, then room is made.

    Args:
        memory: The session.
        policy: The loop's constants for it.
        name: The checkpoint's.
        tell: Takes what async hooks still have to do.
        waits: Whether to return only when the snapshot is durable, where the store is.

    Raises:
        StaleSessionError: The session was written elsewhere since it was opened here.
        StoreError: The store cannot take the snapshot.
    """
    actions = _actions()
    taken: list[Kept] = []
    actions.create_memory_snapshot(memory, name, tell=tell, taken=taken, waits=waits)
    if policy.acts:
        if memory.active_contexts.due or memory.cache.overdue:
            actions.cleanup_expired_items(memory, tell=tell)
        lines = memory.lines if policy is memory.policy else policy.lines(memory.budget)
        if lines.pressed(memory.read_tokens()):  # measured as the snapshot was taken
            relieve(memory, policy, tell)
    return taken[0]


@cache
def _actions() -> Any:
    from . import actions

    return actions


def keeps_briefly(memory: Memory) -> bool:
    """Whether keeping what memory is now takes so little that a thread would cost more."""
    return bool(_actions().keep.keeps_briefly(memory))


def watch_thresholds(memory: Memory, policy: Policy, tell: Tell = schedule) -> None:
    """Fire an alert for each monitoring point that is crossed now and was not before."""
    record = memory.record
    with memory.lock:
        points = monitor(memory.profile(), record.facts(), policy)
        fired = alerts(points, record.crossed)
        record.crossed = frozenset(point.name for point in points if point.crossed)
        record.restless = bool(record.crossed)
    for alert in fired:
        fire(memory, alert, tell)


def watch_list(profile: MemoryProfile, before: LayerTokens, policy: Policy) -> None:
    """The same for a list that its caller owns: crossed within this run."""
    from .actions.perform import running_agent

    was = MemoryProfile(profile.budget, before)
    crossed = {point.name for point in monitor(was, LoopFacts(), policy) if point.crossed}
    for alert in alerts(monitor(profile, LoopFacts(), policy), crossed):
        tell_alert(alert, "a watched list", running_agent())


def fire(memory: Memory, alert: Alert, tell: Tell = schedule) -> None:
    """Tell of an alert: the log, the span it belongs to, the metric, the hooks."""
    from .actions.perform import running_agent

    with memory.lock:
        memory.record.alerts.append(alert)
    tell_alert(alert, f"session {memory.id}", running_agent())
    if memory.hooks.of("threshold"):
        session: Any = memory
        pending = memory.hooks.emit(Event("threshold", session, memory.profile(), alert=alert))
        if pending:
            tell(pending)


# --- one action -----------------------------------------------------------------------------------


def _act(memory: Memory, policy: Policy, action: Action, tell: Tell) -> ActionReport:
    from .actions import compress_memory, trigger_cleanup

    replacement = policy.actions.get(action.name)
    if replacement is not None:
        return _replaced(
            memory, action.name, lambda: replacement(memory, target=action.target), tell, action
        )
    run: Act = trigger_cleanup if action.name == "cleanup" else compress_memory
    return run(
        memory,
        action.target,
        reason=action.reason,
        policy=policy,
        least_gain=policy.least_gain,
        tell=tell,
    )


def _act_by_name(memory: Memory, policy: Policy, name: str, run: Act, tell: Tell) -> ActionReport:
    replacement = policy.actions.get(name)
    if replacement is not None:
        return _replaced(memory, name, lambda: replacement(memory), tell)
    return run(memory, tell=tell)


def _replaced(
    memory: Memory, name: str, call: Callable[[], Any], tell: Tell, action: Action | None = None
) -> ActionReport:
    """Run a user's own action, measured and reported as memtrace's would be."""
    from .actions.perform import Result, perform

    def work() -> Result:
        said = call()
        items = said.items if isinstance(said, ActionReport) else 0
        reached = True
        if action is not None:
            reached = sum(memory.measure()) <= action.target * memory.token_budget
        reason = "replaced by the policy" if reached else "the policy's own action fell short"
        return Result(items=items, reached=reached, reason=reason)

    stage: Stage = name  # type: ignore[assignment]  # names of actions are stages
    return perform(memory, name, stage, work, tell=tell)


def _judge(memory: Memory, reports: list[ActionReport], tell: Tell) -> None:
    """Stop a loop that does not help, and say why."""
    if not reports:
        return
    last = reports[-1]
    if not memory.record.passed(last.outcome, last.tokens_after, memory.history.user_turns):
        return
    fire(
        memory,
        Alert(
            "unreachable_target",
            memory.token_budget * memory.policy.cleanup_target,
            last.tokens_after,
            message=f"the loop stops until something changes: {last.reason}",
        ),
        tell,
    )


def _tell_plan(actions: list[Action]) -> None:
    span = get_current_span()
    if actions and span.is_recording():
        span.set_attribute(names.PLAN_ACTIONS, [action.name for action in actions])
        for action in actions:
            spans.event(
                span,
                names.EVENT_PLANNED,
                {names.OPERATION: action.name, names.ACTION_REASON: action.reason},
            )
