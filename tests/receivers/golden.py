"""What arrived: against what was handed over, and made the same from run to run."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

from otlp import Received

_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def compare(received: Received, told: dict[str, Any]) -> None:
    """Assert that all that a process says it handed over arrived, and nothing else did.

    Args:
        received: What a backend was sent.
        told: What the program `work` printed.
    """
    arrived, given = span_pairs(received, told)
    assert arrived == given
    points = {name: metric["points"] for name, metric in received.metrics.items()}
    assert json.loads(json.dumps(points)) == told["metrics"]


def compare_roughly(received: Received, told: dict[str, Any]) -> None:
    """The same of a relay that reads JSON not quite as OTLP has it: spans, and metrics by name.

    rotel 0.0.1 takes a fraction's last digit for another; and it does not read whole numbers of
    points, which are strings there: sums come out as 0, and histograms without their points.
    """
    arrived, given = (
        json.loads(json.dumps(spans), parse_float=lambda text: round(float(text), 12))
        for spans in span_pairs(received, told)
    )
    assert arrived == given
    assert received.metrics.keys() == told["metrics"].keys()


def span_pairs(received: Received, told: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Spans that arrived, and those that were handed over, in one form and order."""
    arrived = [as_handed_over(span) for span in received.spans]
    given = [{key: span[key] for key in arrived[0]} for span in told["spans"]]
    return sorted(arrived, key=_span_id), sorted(given, key=_span_id)


def _span_id(span: dict[str, Any]) -> str:
    found: str = span["context"]["span_id"]
    return found


def as_handed_over(span: dict[str, Any]) -> dict[str, Any]:
    """A received span in the form in which the SDK writes its own."""

    def moment(time_ns: int) -> str:
        when = datetime.fromtimestamp(time_ns / 1e9, tz=timezone.utc)
        return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    parent = span["parent_id"]
    context = {"trace_id": f"0x{span['trace_id']}", "span_id": f"0x{span['span_id']}"}
    status = {0: "UNSET", 1: "OK", 2: "ERROR"}[span["status"]]
    message = {"description": span["message"]} if span["message"] else {}
    return {
        "name": span["name"],
        "context": {**context, "trace_state": "[]"},
        "parent_id": f"0x{parent}" if parent else None,
        "start_time": moment(span["start_ns"]),
        "end_time": moment(span["end_ns"]),
        "status": {"status_code": status, **message},
        "attributes": span["attributes"],
        "events": [
            {
                "name": event["name"],
                "timestamp": moment(event["time_ns"]),
                "attributes": event["attributes"],
            }
            for event in span["events"]
        ],
    }


# --- the same from run to run: ids and times are left out, all else stays -----------------------


def spans(received: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Spans in the order in which they began, each with its parent's name."""
    ordered = sorted(received, key=lambda span: (span["start_ns"], -span["end_ns"]))
    names = {span["span_id"]: span["name"] for span in ordered}
    return [
        {
            "name": span["name"],
            "parent": names.get(span["parent_id"]),
            "kind": span["kind"],
            "status": span["status"],
            "message": span["message"],
            "attributes": stable(span["attributes"]),
            "events": [[e["name"], stable(e["attributes"])] for e in span["events"]],
        }
        for span in ordered
    ]


def stable(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes without what differs from run to run."""
    return {key: _stable(key, value) for key, value in attributes.items()}


def _stable(key: str, value: Any) -> Any:
    if key.endswith((".duration", ".duration_s")):
        return "<duration>"
    if key.endswith(".stacktrace"):
        return "<stacktrace>"
    return "<id>" if isinstance(value, str) and _ID.fullmatch(value) else value


def metrics(received: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Metrics; of those of time, how many points there were and the bounds they fell between."""
    return {
        name: {
            **{key: metric[key] for key in ("unit", "kind", "monotonic", "temporality")},
            "points": [_point(point, metric["unit"]) for point in metric["points"]],
        }
        for name, metric in sorted(received.items())
    }


def _point(point: dict[str, Any], unit: str) -> dict[str, Any]:
    timed = {"sum": "<seconds>", "buckets": len(point.get("buckets", ()))}
    return {**point, **timed} if unit == "s" else point
