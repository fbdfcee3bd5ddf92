"""The symptoms of what memory holds: each a function from a case to a finding, or to nothing."""

from __future__ import annotations

from ..findings import Finding, Remedy, Severity
from ..values import Item
from . import figures, remedies, settings
from .case import Case, total
from .found import by_component, causes_of, finding

DUPLICATES_ABOVE = 0.10
"""Share of what a model call would carry. Source: in recorded coding sessions 2% were exact
duplicates; in one that loops 47%."""

CROWDED = 0.5
"""Share of the budget that memory holds from which on repeated contents do harm."""

ITEM_ABOVE, GROUP_ABOVE = 0.25, 0.40
"""Shares of the budget that one item, and one agent's or tool's items, may have. Source: at a
quarter four of them fill it; at .40 one agent or tool holds what working memory is allotted."""


def high_working_memory(case: Case) -> Finding | None:
    """Working memory above its alert."""
    measured, threshold = figures.working_memory(case), case.policy.working_memory_alert
    if measured <= threshold:
        return None
    profile = case.profile
    return finding(
        case,
        "high_working_memory",
        "warning",
        f"working memory holds {profile.working_memory:,} tokens, {measured:.0%} of its allocation",
        measured,
        threshold,
        {
            "tokens": profile.working_memory,
            "limit": profile.budget.limits[0],
            "pinned": profile.pinned_tokens,
            "inactive": total(case.inactive),
        },
        causes_of({i.key or i.id: [i] for i in case.contexts}),
        _for_working_memory(case),
        figures.working_memory,
    )


def _for_working_memory(case: Case) -> list[Remedy]:
    session, limit = case.session, max(1, case.profile.budget.limits[0])
    held, pinned = case.profile.working_memory, case.profile.pinned_tokens
    inactive, modules = case.inactive, [i for i in case.inactive if i.kind == "module"]
    without = (held - total(inactive)) / limit
    target = max(case.policy.compress_target, pinned / limit)
    can = [
        remedies.consolidate(
            session,
            "archive_completed",
            "move contexts that no recent run used to long-term memory, in short form",
            without,
        ),
        remedies.compress(
            session,
            "compress_inactive",
            "shorter forms, of inactive contexts first",
            target,
        ),
        settings.rebalance(session, "working_memory"),
        settings.other_policy(
            session,
            "consolidate_more",
            "consolidate after each run that leaves working memory above half of its allocation",
            None,
            consolidate_above=0.5,
        ),
    ]
    if modules:
        ids = {item.id for item in modules}
        text = f"take out {len(modules)} modules that no recent run used"
        after = (held - total(modules)) / limit
        can.insert(1, remedies.take_out(session, "unload_unused", text, ids, after))
    return can


def budget_exhaustion(case: Case) -> Finding | None:
    """The whole above its alert."""
    measured, threshold = figures.whole(case), case.policy.budget_alert
    if measured <= threshold:
        return None
    session, profile = case.session, case.profile
    least = max(case.policy.cleanup_target, case.share(case.irreducible))
    stored = case.session.archived_contexts.items
    can = [
        remedies.cleanup(
            session,
            "cleanup_by_component",
            "make room in each layer: expired and cached values, old outputs, inactive contexts",
            least,
        ),
        remedies.compress(session, "compress_old", "shorter forms of old interactions", least),
        remedies.shorter_history(session, least),
    ]
    if stored:
        text = "take what is least urgent out of long-term memory; originals stay in the store"
        ids = {item.id for item in stored if not item.pinned}
        after = measured - case.share(sum(i.tokens for i in stored if i.id in ids))
        can.append(remedies.take_out(session, "archive_noncritical", text, ids, after))
    return finding(
        case,
        "budget_exhaustion",
        "critical",
        f"memory holds {profile.total_tokens:,} tokens, {measured:.0%} of its budget",
        measured,
        threshold,
        {"tokens": profile.total_tokens, "budget": case.budget, "irreducible": case.irreducible},
        by_component(case),
        can,
        figures.whole,
    )


def unreachable_target(case: Case) -> Finding | None:
    """What nothing makes shorter is past where a cleanup is to stop."""
    measured = figures.irreducible(case)
    if measured <= 1.0:
        return None
    session, policy, target = case.session, case.policy, case.policy.cleanup_target
    pins = [item for item in case.kept["pinned contexts"] if item.kind not in _FIXED]
    pins.sort(key=lambda item: -item.tokens)
    can = []
    missing = case.irreducible - int(target * case.budget)
    chosen: list[Item] = []
    while pins and total(chosen) <= missing:
        chosen.append(pins.pop(0))
    if chosen:
        after = (case.irreducible - total(chosen)) / (target * case.budget)
        can.append(settings.unpin(session, chosen, after))
    needed = case.irreducible / target * 1.1
    reason = f"{case.irreducible:,} tokens cannot be made fewer"
    can.append(settings.raise_budget(session, needed, reason, 1 / 1.1))
    can.append(
        remedies.advice(
            "smaller_essentials",
            "shorten the system prompt, the tools' schemas or the task before they are given",
        )
    )
    severity: Severity = "critical" if case.irreducible > case.budget else "warning"
    return finding(
        case,
        "unreachable_target",
        severity,
        f"{case.irreducible:,} tokens stay whatever is done; a cleanup is to stop at "
        f"{int(policy.cleanup_target * case.budget)}",
        measured,
        1.0,
        {name: total(items) for name, items in case.kept.items() if items},
        causes_of(case.kept),
        can,
        figures.irreducible,
    )


_FIXED = ("system", "tools")


def heavy_start(case: Case) -> Finding | None:
    """More than essentials at the start, carried still."""
    measured, threshold = figures.carried(case), case.policy.first_profile_alert
    if measured <= threshold:
        return None
    carried = case.carried
    free = [i for i in carried if i.id in case.shortenable]
    after = measured - case.share(total(free))
    ids = {item.id for item in free}
    can = [
        remedies.shorten(
            case.session,
            "essentials_only",
            "move what the session began with and has not pinned to long-term memory, and show "
            "shorter forms of its messages",
            ids,
            after,
            case.policy.short_form_share,
        ),
        remedies.advice("load_later", "load documents and modules when they are first needed"),
    ]
    return finding(
        case,
        "heavy_start",
        "warning",
        f"the session began with {total(carried):,} tokens that it carries still, {measured:.0%} "
        "of its budget: initialize with essentials only",
        measured,
        threshold,
        {"tokens": total(carried), "items": len(carried)},
        causes_of({i.key or i.id: [i] for i in carried}),
        can,
        figures.carried,
    )


def duplicates(case: Case) -> Finding | None:
    """The same contents, several times."""
    measured = figures.duplicates(case)
    if measured <= DUPLICATES_ABOVE:
        return None
    tokens, groups = case.duplicate_tokens, case.duplicates
    ids = {item.id for group in groups for item in group[:-1]} & case.shortenable
    rest = sum(i.tokens for group in groups for i in group[:-1] if i.id not in ids)
    can = [
        remedies.shorten(
            case.session,
            "drop_repeats",
            "show a note in place of all but the last of equal contents",
            ids,
            rest / max(1, case.profile.in_context_tokens),
            0.0,
        ),
        remedies.advice("ask_once", "have the agent keep what it has read instead of asking again"),
    ]
    crowded = figures.whole(case) > CROWDED and case.share(tokens) > DUPLICATES_ABOVE
    severity: Severity = "warning" if crowded else "info"
    return finding(
        case,
        "duplicates",
        severity,
        f"{tokens:,} tokens are repeated contents, {measured:.0%} of what a model call carries",
        measured,
        DUPLICATES_ABOVE,
        {"tokens": tokens, "groups": len(groups)},
        causes_of({f"{len(g)} times {g[0].key or g[0].id}": g[:-1] for g in groups}),
        can,
        figures.duplicates,
    )


def overdue_review(case: Case) -> Finding | None:
    """Items that are past their retention review."""
    measured = figures.unreviewed(case)
    if measured <= 1.0:
        return None
    items = case.unreviewed
    days = (case.now - items[0].created_at) / 86_400
    ids = {item.id for item in items}
    can = [
        settings.reviewed(case.session),
        remedies.take_out(
            case.session,
            "remove_overdue",
            "take contexts and stored items that are past their review out of memory",
            ids,
            None,
        ),
    ]
    return finding(
        case,
        "overdue_review",
        "warning",
        f"{len(items)} items were not reviewed for {days:.0f} days; the policy's review is every "
        f"{case.policy.retention_review_s / 86_400:.0f}",
        measured,
        1.0,
        {"items": len(items), "tokens": total(items), "days": days},
        causes_of({str(layer): [i for i in items if i.layer is layer] for layer in _layers(items)}),
        can,
        figures.unreviewed,
    )


def _layers(items: list[Item]) -> set[object]:
    return {item.layer for item in items}
