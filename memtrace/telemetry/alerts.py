"""Telling of an alert: the log, the span it belongs to, the metric."""

from __future__ import annotations

import logging

from opentelemetry.trace import get_current_span

from ..values import Alert
from . import metrics, names, spans

logger = logging.getLogger("memtrace")


def tell(alert: Alert, whose: str, agent: str | None) -> None:
    """Log an alert, put it on the current span, and count it.

    Args:
        alert: What was crossed.
        whose: What it is about, for the log: a session's id, or ``a watched list``.
        agent: Name of the agent whose run it is, if any.
    """
    logger.warning("memtrace alert for %s: %s", whose, alert.message)
    span = get_current_span()
    if span.is_recording():
        spans.event(
            span,
            names.EVENT_THRESHOLD_CROSSED,
            {
                names.THRESHOLD_NAME: alert.threshold,
                names.THRESHOLD_VALUE: float(alert.value),
                names.THRESHOLD_OBSERVED: float(alert.observed),
                names.THRESHOLD_DIRECTION: alert.direction,
            },
        )
    series = [
        (names.THRESHOLD_NAME, alert.threshold),
        (names.THRESHOLD_SEVERITY, alert.severity),
    ]
    if agent is not None:
        series.append((names.AGENT_NAME, agent))
    metrics.count(names.METRIC_ALERTS, 1, tuple(series))
