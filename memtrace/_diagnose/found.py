"""Making a finding of what a symptom measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from ..findings import Cause, Finding, Remedy, Severity
from ..spantree import counted
from ..values import LAYER_NAMES, Item
from .case import Case, total
from .figures import Figure, Watch, held
from .remedies import best_first

_TOLD = 5
"""Causes that a finding lists, at most."""


def finding(
    case: Case,
    symptom: str,
    severity: Severity,
    message: str,
    measured: float,
    threshold: float,
    evidence: Mapping[str, float],
    causes: tuple[Cause, ...],
    remedies: Iterable[Remedy],
    figure: Figure | None = None,
    *,
    watch: Watch | None = None,
    direction: Literal["above", "below"] = "above",
) -> Finding:
    """A finding, its remedies the best first.

    Args:
        case: What was looked at.
        symptom: As in :class:`Finding`, and so are those that follow.
        severity: See there.
        message: See there.
        measured: See there.
        threshold: See there.
        evidence: See there.
        causes: See there.
        remedies: In the order in which they do the least harm.
        figure: What measures it again, where it is a figure of what memory holds.
        watch: What measures it again, where it shows in use.
        direction: See there.
    """
    session = case.session
    return Finding(
        symptom,
        severity,
        message,
        measured,
        threshold,
        direction,
        dict(evidence),
        causes,
        tuple(best_first(remedies, threshold, direction == "below")),
        watch if watch is not None else (None if figure is None else held(session, figure)),
        lambda: sum(session.measure()),
    )


def causes_of(groups: Mapping[str, list[Item]]) -> tuple[Cause, ...]:
    """Groups of items as causes, the one with the most tokens first."""
    ranked = sorted(groups.items(), key=lambda named: -total(named[1]))
    return tuple(
        Cause(name, total(items), counted(len(items), f"{items[0].kind} item"))
        for name, items in ranked[:_TOLD]
        if items
    )


def by_component(case: Case) -> tuple[Cause, ...]:
    """The layers as causes, the one with the most tokens first."""
    layers = case.profile.layers
    ranked = sorted(LAYER_NAMES, key=lambda name: -layers[name].tokens)
    return tuple(
        Cause(name, layers[name].tokens, counted(layers[name].items, "item"))
        for name in ranked
        if layers[name].tokens
    )
