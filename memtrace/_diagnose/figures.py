"""The figure that each symptom is known by: of a session as it is, or of what happened since."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

from ..findings import Billed
from ..session import Session
from .case import Case

Figure = Callable[[Case], float]
Again = Callable[[], "float | None"]
Watch = Callable[[], Again]
"""Called as a remedy is about to be applied; gives what measures again, as often as wanted."""

HALF = 0.5


def held(session: Session, figure: Figure) -> Watch:
    """Of a figure of what memory holds: it is measured at once."""
    return lambda: lambda: figure(Case(session))


# --- what memory holds ----------------------------------------------------------------------------


def working_memory(case: Case) -> float:
    """Of its allocation."""
    return case.profile.working_memory_utilization


def whole(case: Case) -> float:
    """All layers, of the budget."""
    return case.profile.utilization_rate


def irreducible(case: Case) -> float:
    """What nothing makes shorter, of where a cleanup is to stop."""
    return case.irreducible / (case.budget * case.policy.cleanup_target)


def carried(case: Case) -> float:
    """What the session began with and carries still, of the budget."""
    return case.share(sum(item.tokens for item in case.carried))


def duplicates(case: Case) -> float:
    """Repeated contents, of what a model call would carry."""
    carried_tokens = case.profile.in_context_tokens
    return case.duplicate_tokens / carried_tokens if carried_tokens else 0.0


def unreviewed(case: Case) -> float:
    """Age of the oldest that was not reviewed, in review periods."""
    items = case.unreviewed
    return (case.now - items[0].created_at) / case.policy.retention_review_s if items else 0.0


def off(case: Case) -> float:
    """How far what was counted of the last prompt is from what was billed for it, of the latter."""
    if not case.billed:
        return 0.0
    return miscount(case.billed[-1], 1.0, case.session.record.unseen_tokens)


def miscount(call: Billed, factor: float, unseen_tokens: float) -> float:
    """The same of one call, were its count scaled, and something added to it."""
    if not call.billed:
        return 0.0
    return abs(call.counted * factor + unseen_tokens - call.billed) / call.billed


# --- what shows in use ----------------------------------------------------------------------------


def cleanups(case: Case) -> float | None:
    """Cleanups a run, over the last runs; None: there were too few runs."""
    runs = case.late_runs
    if len(runs) < case.policy.cleanup_window:
        return None
    return fmean(
        sum(r.action == "cleanup" and r.outcome != "declined" for r in run.reports) for run in runs
    )


def cleanups_since(session: Session) -> Again:
    """Cleanups a run, from now on."""
    record = session.record
    cleaned, runs = record.cleanups, record.runs
    return lambda: (
        (record.cleanups - cleaned) / (record.runs - runs) if record.runs > runs else None
    )


def hit_rate_since(session: Session) -> Again:
    """The cache's hit rate, from now on."""
    was = session.cache.stats

    def again() -> float | None:
        now = session.cache.stats
        hits, lookups = now.hits - was.hits, now.hits + now.misses - was.hits - was.misses
        return hits / lookups if lookups else None

    return again


def broken_calls(calls: tuple[Billed, ...]) -> float | None:
    """Share of model calls that read less than half of their prompt from the provider's cache.

    None: fewer than six calls said so. A session's first call can read nothing.
    """
    known = [call for call in calls if call.cached is not None and call.billed]
    if len(known) < LEAST_CALLS:
        return None
    return fmean((call.cached or 0) < HALF * call.billed for call in known)


LEAST_CALLS = 6


def broken_since(session: Session) -> Again:
    """The same of the calls from now on."""
    record = session.record
    before = record.calls_billed

    def again() -> float | None:
        new = min(record.calls_billed - before, len(record.billed))
        return broken_calls(tuple(record.billed)[len(record.billed) - new :]) if new else None

    return again


def rewriting_runs(case: Case) -> float | None:
    """Share of the last runs in which a pass rewrote the conversation; None: too few runs."""
    runs = case.late_runs
    if len(runs) < LEAST_CALLS:
        return None
    return fmean(
        any(r.action in ("cleanup", "compress") and r.outcome != "declined" for r in run.reports)
        for run in runs
    )


def rewriting_since(session: Session) -> Again:
    """The same, of the runs from now on."""
    before = session.record.runs

    def again() -> float | None:
        new = session.record.runs - before
        case = Case(session)
        late = case.runs[-new:] if new else ()
        if not late:
            return None
        passes = ("cleanup", "compress")
        return fmean(
            any(r.action in passes and r.outcome != "declined" for r in run.reports) for run in late
        )

    return again
