"""What a profile calls for under a policy."""

from __future__ import annotations

from ..policy import Policy
from ..values import Action, MemoryProfile


def plan(profile: MemoryProfile, policy: Policy | None = None) -> list[Action]:
    """What the loop would do about a profile before a model is called, in order.

    Pure: it can be tried on a recorded profile without touching a session. The loop runs the
    first action, measures, and plans again without it: so a later one runs only if it is still
    called for.

    Args:
        profile: Memory as it is.
        policy: The constants; None: the defaults.

    Returns:
        At most a cleanup, then a compression; nothing where memory is under its thresholds.

    >>> from memtrace import TokenBudget
    >>> full = MemoryProfile(TokenBudget(1000), (300, 0, 0, 0, 600))
    >>> [action.name for action in plan(full)]
    ['cleanup']
    """
    policy = policy if policy is not None else Policy()
    whole, working = profile.utilization_rate, profile.working_memory_utilization
    # What is pinned stays: where pins alone are past the target, a pass could not reach it.
    reachable = profile.pinned_tokens <= policy.compress_target * profile.budget.limits[0]
    actions: list[Action] = []
    if whole > policy.cleanup_above:
        reason = f"{whole:.0%} of the budget is above {policy.cleanup_above:.0%}"
        actions.append(Action("cleanup", policy.cleanup_target, reason))
    if working > policy.compress_above and reachable:
        reason = f"working memory at {working:.0%} is above {policy.compress_above:.0%}"
        actions.append(Action("compress", policy.compress_target, reason))
    elif whole > policy.compress_above and not actions:
        reason = f"{whole:.0%} of the budget is above {policy.compress_above:.0%}"
        actions.append(Action("compress", policy.compress_target, reason))
    return actions
