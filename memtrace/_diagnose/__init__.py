"""What is wrong with a session, and what to do about each symptom."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from ..findings import SEVERITIES, Finding
from ..session import Session
from ..values import TokenBudget
from .case import Case
from .reading import subject
from .sharing import dominating_agent, dominating_item, dominating_tool
from .symptoms import (
    budget_exhaustion,
    duplicates,
    heavy_start,
    high_working_memory,
    overdue_review,
    unreachable_target,
)
from .wear import (
    broken_prompt_cache,
    estimate_off,
    filling_up,
    low_cache_hit_rate,
    thrashing,
)

SYMPTOMS: tuple[Callable[[Case], Finding | None], ...] = (
    unreachable_target,
    thrashing,
    broken_prompt_cache,
    estimate_off,
    heavy_start,
    dominating_item,
    dominating_tool,
    dominating_agent,
    duplicates,
    budget_exhaustion,
    high_working_memory,
    low_cache_hit_rate,
    overdue_review,
    filling_up,
)
"""Every symptom, those first that bring others about: of two that are equally severe, the one
that is seen to first may cure the other."""


def diagnose(
    session: Session | str | os.PathLike[str],
    *,
    id: str | None = None,  # noqa: A002 (the name callers rely on)
    token_budget: int | TokenBudget | None = None,
) -> list[Finding]:
    """What is wrong with a session: symptoms, how each was measured, its causes and its remedies.

    Nothing is changed until a finding's :meth:`~Finding.apply` is called. A session of this
    process is looked at as it is; of a stored one the last snapshot, of a recorded one what it
    held at its end, had nothing been done about it. To keep what a remedy does to a stored
    session, open it with :meth:`Session.open`, diagnose that, and close it.

    Args:
        session: A session; the path of a recorded session (JSON Lines); or a store, as
            :meth:`Session.open` takes it.
        id: Which session of a store; None: the only one there is.
        token_budget: What a recorded or stored session is held against; None: the window it was
            recorded with, or the budget it was stored with.

    Returns:
        Findings, the worst first; of two equally severe, the one that brings the other about. Of
        severity ``info`` are those from which no harm comes yet.

    Raises:
        ConfigurationError: There is no session in it, several and no ``id``, or the recording
            cannot be read.
        StoreError: The store is not there, or cannot be read.

    >>> from memtrace import Session
    >>> session = Session(token_budget=1_000)
    >>> for n in range(6):
    ...     session.history.append({"role": "user", "content": "Is it still raining? " * 20})
    >>> [(finding.symptom, finding.severity) for finding in diagnose(session)]
    [('duplicates', 'warning')]
    """
    found = subject(session, id, token_budget)
    case = Case(found)
    findings = [finding for symptom in SYMPTOMS if (finding := symptom(case)) is not None]
    # Stable: of the equally severe, the order of the symptoms holds.
    return sorted(findings, key=_severity)


def _severity(finding: Any) -> int:
    return SEVERITIES.index(finding.severity)
