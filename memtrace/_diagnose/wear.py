"""The symptoms that show in use: the cache, the loop, and what the provider bills."""

from __future__ import annotations

from itertools import pairwise

from ..decide.cache_advice import CacheAdvice
from ..findings import Cause, Finding, Remedy, Severity
from ..outlook import TurnsLeft
from . import figures, remedies, settings
from .case import Case, total
from .found import by_component, causes_of, finding

OFF_ABOVE = 0.25
"""Share by which a count may be off what was billed. Source: at a quarter a session at 80% of its
budget by its own count is at its end by the provider's."""

ENDANGERED = 0.80
"""Share of the budget that a prompt was billed from which on being off does harm."""

SOON_TURNS = 5
"""Turns before 80% from which on it is worth a word that memory fills up."""


def low_cache_hit_rate(case: Case) -> Finding | None:
    """The cache answers less than its alert."""
    profile, policy, session = case.profile, case.policy, case.session
    rate, threshold = profile.cache_hit_rate, policy.cache_hit_rate_alert
    if rate is None or profile.cache_lookups < policy.cache_min_lookups or rate >= threshold:
        return None
    advice, stats = session.cache.advise(), session.cache.stats
    held = session.cache.items
    size = total(held) / len(held) if held else 0.0
    lookups = profile.cache_lookups
    missed = {
        "evicted": round(advice.missed_evicted * lookups),
        "expired": round(advice.missed_expired * lookups),
        "asked for before it was put": round(advice.missed_first * lookups),
    }
    causes = sorted(missed.items(), key=lambda told: -told[1])
    return finding(
        case,
        "low_cache_hit_rate",
        "warning",
        f"the cache answered {rate:.0%} of {lookups} lookups",
        rate,
        threshold,
        {
            "lookups": lookups,
            "hits": stats.hits,
            "evictions": stats.evictions,
            "expirations": stats.expirations,
        },
        # Tokens that had to be made again, by the size of what is held.
        tuple(Cause(name, round(n * size), f"{n} lookups") for name, n in causes if n),
        _cache_remedies(case, advice, missed),
        watch=lambda: figures.hit_rate_since(session),
        direction="below",
    )


def _cache_remedies(case: Case, advice: CacheAdvice, missed: dict[str, int]) -> list[Remedy]:
    now, threshold = advice.now.setting, case.policy.cache_hit_rate_alert
    can: list[Remedy] = []
    for name, more in (
        ("longer_ttl", [r for r in advice.rows if r.setting.ttl_factor > now.ttl_factor]),
        ("larger_cache", [r for r in advice.rows if r.setting.limit_tokens > now.limit_tokens]),
    ):
        rows = [row for row in more if row.setting.eviction == now.eviction]
        good = [row for row in rows if row.hit_rate >= threshold + 0.02]
        # The least that suffices; else the most that there is.
        row = min(good, key=lambda r: (r.setting.limit_tokens, r.setting.ttl_factor), default=None)
        row = row or max(rows, key=lambda r: r.hit_rate, default=None)
        if row is None or row.hit_rate <= advice.now.hit_rate:
            continue
        limit, factor = row.setting.limit_tokens, row.setting.ttl_factor
        text = (
            f"let values live {factor:g} times as long, {row.hit_rate:.0%} would be answered"
            if name == "longer_ttl"
            else f"let it hold {limit:,} tokens, {row.hit_rate:.0%} would be answered"
        )
        args = (case.session, name, text, row.hit_rate, limit, factor)
        can.append(settings.set_cache(*args))
    can.append(settings.preload(case.session))
    other = [
        row
        for row in advice.rows
        if row.setting.limit_tokens == now.limit_tokens and row.setting.eviction != now.eviction
    ]
    text = ", ".join(
        f"Policy(cache_eviction={row.setting.eviction!r}) would have answered {row.hit_rate:.0%}"
        for row in other
    )
    can.append(remedies.advice("adjust_eviction", text or "let another value go first"))
    text = f"profile what is asked for, by session.cache.advise(): {advice.reason}"
    can.append(remedies.advice("profile_accesses", text))
    can.sort(key=lambda remedy: -(remedy.expected or 0.0))
    return can


def thrashing(case: Case) -> Finding | None:
    """More cleanups than runs."""
    measured = figures.cleanups(case)
    if measured is None or measured <= 1.0:
        return None
    session, policy, runs = case.session, case.policy, case.late_runs
    reports = [report for run in runs for report in run.reports if report.action == "cleanup"]
    freed = sum(report.tokens_freed for report in reports)
    came = freed + sum(sum(run.after) - sum(run.before) for run in runs)
    a_run = max(0.0, came / len(runs))
    # A pass is due each time what comes fills the room between where one stops and where one
    # begins.
    batch = a_run / (case.budget * max(0.01, policy.cleanup_above - 0.5))
    room = max(0.01, policy.cleanup_above - policy.cleanup_target)
    total_tokens = max(case.budget * 1.25, 2 * a_run / room)
    return finding(
        case,
        "thrashing",
        "warning",
        f"{measured:.1f} cleanups a run over the last {len(runs)} runs, which freed {freed:,} "
        "tokens to have them filled again",
        measured,
        1.0,
        {"runs": len(runs), "cleanups": len(reports), "freed": freed, "tokens_a_run": a_run},
        causes_of({f"outputs of {name}": items for name, items in case.by_tool.items()})
        or causes_of({"messages": list(case.history)}),
        [
            settings.one_batch(session, batch),
            settings.raise_budget(
                session, total_tokens, "more cleanups than runs", a_run / (total_tokens * room)
            ),
            settings.other_policy(
                session, "fewer_outputs", "keep two tool outputs whole", None, keep_tool_outputs=2
            ),
        ],
        watch=lambda: figures.cleanups_since(session),
    )


def estimate_off(case: Case) -> Finding | None:
    """What is counted is far from what the provider bills."""
    if not case.billed:
        return None
    measured, last = figures.off(case), case.billed[-1]
    if measured <= OFF_ABOVE:
        return None
    session, budget = case.session, case.budget
    unseen_tokens = session.record.unseen_tokens
    slope, unseen = _line(case)
    can = []
    if slope > 0 and abs(slope - 1) > 0.02:
        off = figures.miscount(last, slope, unseen_tokens)
        can.append(settings.calibrate(session, slope, off))
    missing = last.billed - last.counted - unseen_tokens
    if missing > 0:
        can.append(settings.lower_budget(session, missing, 0.0))
    if abs(unseen) > abs(slope - 1) * last.counted:
        can.reverse()  # most of it is what prompts carry beside memory
    endangered = last.billed > ENDANGERED * budget > last.counted
    severity: Severity = "warning" if endangered else "info"
    return finding(
        case,
        "estimate_off",
        severity,
        f"{last.counted:,} tokens were counted of a prompt for which {last.billed:,} were billed",
        measured,
        OFF_ABOVE,
        {"counted": last.counted, "billed": last.billed, "factor": slope, "beside": unseen},
        tuple(
            sorted(
                (
                    Cause("another tokenizer", round(abs(slope - 1) * last.counted)),
                    Cause(
                        f"prompts carry {'more' if unseen >= 0 else 'less'} than memory",
                        round(abs(unseen)),
                    ),
                ),
                key=lambda cause: -cause.tokens,
            )
        ),
        can,
        figures.off,
    )


def _line(case: Case) -> tuple[float, float]:
    """Billed as a multiple of counted, and what is billed beside it: by what grew, and the rest."""
    calls, last = case.billed, case.billed[-1]
    grew = [
        (b.counted - a.counted, b.billed - a.billed)
        for a, b in pairwise(calls)
        if b.counted > a.counted
    ]
    counted, billed = sum(c for c, _ in grew), sum(b for _, b in grew)
    if counted < 0.05 * max(1, last.counted) or billed <= 0:
        return (last.billed / last.counted if last.counted else 1.0), 0.0
    slope = min(max(billed / counted, 0.25), 4.0)
    return slope, last.billed - slope * last.counted


def broken_prompt_cache(case: Case) -> Finding | None:
    """The provider's prompt cache is broken by most calls."""
    session = case.session
    calls = figures.broken_calls(case.billed)
    measured = calls if calls is not None else figures.rewriting_runs(case)
    if measured is None or measured <= figures.HALF:
        return None
    billed = sum(call.billed for call in case.billed if call.cached is not None)
    again = sum(call.billed - (call.cached or 0) for call in case.billed if call.cached is not None)
    passes = [r for run in case.late_runs for r in run.reports if r.outcome != "declined"]
    rewritten = sum(r.tokens_before for r in passes if r.action in ("cleanup", "compress"))
    causes = [
        Cause("passes that rewrote the conversation", rewritten, f"{len(passes)} passes"),
        Cause("a prompt that begins otherwise each turn", again if not rewritten else 0),
    ]
    since = figures.broken_since if calls is not None else figures.rewriting_since
    return finding(
        case,
        "broken_prompt_cache",
        "warning",
        f"{measured:.0%} of the last calls could read less than half of their prompt from the "
        "provider's cache"
        if calls is not None
        else f"the conversation was rewritten in {measured:.0%} of the last runs",
        measured,
        figures.HALF,
        {"billed": billed, "read_again": again, "rewritten": rewritten},
        tuple(cause for cause in causes if cause.tokens),
        [
            settings.one_batch(session),
            settings.raise_budget(session, 1.5 * case.budget, "passes rewrite too often", None),
            remedies.advice(
                "stable_prefix",
                "put what changes each turn (the time, retrieved passages) behind what stays",
            ),
        ],
        watch=lambda: since(session),
    )


def _left(ahead: TurnsLeft) -> str:
    """In how many turns 80% is reached, in words; the bounds only where they say more."""
    turns = round(ahead.turns)
    if turns < 1:
        return "the next turn may reach 80% of the budget"
    count = "1 turn is" if turns == 1 else f"{turns:,} turns are"
    low, high = f"{ahead.low:,.0f}", f"{ahead.high:,.0f}"
    bounds = f" ({low} to {high})" if low != high else ""
    return f"about {count} left before 80% of the budget{bounds}"


def filling_up(case: Case) -> Finding | None:
    """The forecast says that passes begin within a few turns."""
    ahead = case.profile.forecast
    if ahead is None or not 0 < ahead.to_80.turns <= SOON_TURNS:
        return None
    left = ahead.to_80
    return finding(
        case,
        "filling_up",
        "info",
        _left(left),
        1 / left.turns,
        1 / SOON_TURNS,
        {
            "tokens_per_turn": ahead.tokens_per_turn,
            "turns_to_80": left.turns,
            "turns_to_90": ahead.to_90.turns,
            "turns_to_100": ahead.to_100.turns,
        },
        by_component(case),
        [remedies.compress(case.session, "compress_old", "shorter forms of old interactions", 0.0)],
        None,
    )
