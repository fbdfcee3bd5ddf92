"""Retention without a database: rules, the log written anew, the count that the metric tells."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import memtrace
from memtrace import ConfigurationError, RetentionRules, Session, diagnose, reviewed
from memtrace.retaining.rewriting import held, settled, slim
from memtrace.retaining.rules import Going, sums, told
from memtrace.stores.keeping import Snapped, past
from memtrace.stores.reading import follow
from memtrace.stores.rows import Head, Row, decode_row
from memtrace.telemetry import reviews

CONTEXTS, CACHE, AGENTS, HISTORY = 0, 2, 3, 4


def item(name: str, at: float = 1.0, *, pinned: bool = False) -> Any:
    """An item as it is stored."""
    content = {"role": "user", "content": f"says {name}"}
    return (name, "user", content, 3, pinned, 0, at, at, None, None, None, (), None)


def push(name: str, at: float = 1.0) -> Row:
    return Row("push", HISTORY, item=item(name, at))


def log(*snapshots: tuple[float, list[Row]]) -> tuple[list[Snapped], Any]:
    """Snapshots taken at times, and what leads to each; they are not compared with any hash."""
    found, leading = [], {}
    rows: list[Row] = []
    for revision, (at, new) in enumerate(snapshots, 1):
        rows = [*(leading[new[0].place] if new and new[0].op == "goto" else rows), *new]
        leading[revision] = [row for row in rows if row.op != "goto"]
        head = Head(f"s{revision}", "", at, 0, 0, len(new), b"", {"ids": 7})
        found.append(Snapped(revision, head, new))
    return found, lambda revision: leading[revision]


def texts(rows: Any) -> list[str]:
    """What the items of a log written anew say."""
    decoded = [decode_row(payload) for _, place, payload, _ in rows if place]
    return [row.item[2]["content"] for row in decoded if row.item]


# --- rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [-1, "30", True, float("nan")])
def test_days_that_make_no_sense_are_refused(days: Any) -> None:
    """
    A number of days is told by its name when it cannot work.
    """
    with pytest.raises(ConfigurationError, match="recall_days takes days ≥ 0"):
        RetentionRules(recall_days=days)


def test_nothing_goes_by_default() -> None:
    """
    Every kind is kept for ever where no rule says otherwise.
    """
    rules = RetentionRules()
    assert all(rules.before(kind, 1e9) is None for kind in memtrace.retaining.KINDS)
    assert RetentionRules(cold_days=2).before("cold", 200_000.0) == 27_200.0


def test_a_plan_is_summed_by_kind() -> None:
    """
    Counts and bytes are added up by kind, in one order.
    """
    going = [
        Going("a", "originals", 3, 30, 1.0, 1, 2.0, 7),
        Going("a", "run_log", 2, 20, 1.0, 1, 2.0, 7),
        Going("b", "originals", 1, 5, 1.0, 1, 2.0, 8),
    ]
    assert sums(going) == {"run_log": (2, 20), "originals": (4, 35)}
    assert told(going).splitlines()[0].split() == ["run_log", "2", "20", "bytes"]
    assert told([]) == "nothing"


# --- the log written anew -------------------------------------------------------------------------


def test_what_is_held_follows_the_changes() -> None:
    """
    Shown messages, contexts and cached values are held; what was hidden, cut or dropped is not.
    """
    rows = [
        *(push(name) for name in "abcde"),
        Row("show", HISTORY, 0, item=item("digest")),
        Row("show", HISTORY, 1),
        Row("swap", HISTORY, 2, item=item("other")),
        Row("pop", HISTORY, 3),
        Row("push", HISTORY, item=item("f")),
        Row("cut", HISTORY, 4),
        Row("add", CONTEXTS, item=item("x")),
        Row("add", CONTEXTS, item=item("y")),
        Row("remove", CONTEXTS, key="x"),
        Row("put", CACHE, key="k", item=item("old")),
        Row("put", CACHE, key="k", item=item("new")),
    ]
    assert held(rows) == {"digest", "other", "e", "y", "new"}


def test_states_that_were_replaced_are_left_out() -> None:
    """
    Of agents' states and cached values the last is enough, in the order in which they came.
    """
    rows = [
        Row("state", AGENTS, key="one", extra=1),
        Row("state", AGENTS, key="two", extra=2),
        Row("state", AGENTS, key="one", extra=3),
        Row("put", CACHE, key="k", item=item("v")),
        Row("drop", CACHE, key="k"),
        push("a"),
    ]
    assert [(row.op, row.key, row.extra) for row in settled(rows)] == [
        ("push", None, None),
        ("state", "one", 3),
        ("state", "two", 2),
    ]


def test_old_snapshots_go_and_the_newest_stays() -> None:
    """
    The first that is kept becomes the beginning; a log of one is that of a new revision.
    """
    snapshots, leading = log((10.0, [push("a")]), (20.0, [push("b")]), (30.0, [push("c")]))

    two = slim(snapshots, leading, keep_from=15.0, let_go_before=None)
    one = slim(snapshots, leading, keep_from=99.0, let_go_before=None)

    assert two is not None
    assert one is not None
    assert (two.snapshots, two.revision, two.oldest_at) == (1, 4, 10.0)
    assert [row[:2] for row in two.rows] == [(2, 0), (2, 1), (2, 2), (2, 3), (3, 0), (3, 1), (4, 0)]
    assert (one.snapshots, one.revision) == (2, 4)
    assert texts(one.rows) == texts(two.rows) == ["says a", "says b", "says c"]
    assert slim(snapshots, leading, keep_from=5.0, let_go_before=None) is None


def test_what_is_written_anew_is_whole() -> None:
    """
    Every hash of the new log fits, also where a snapshot rests on one that goes.
    """
    back = [Row("goto", place=1), push("c")]
    snapshots, leading = log((10.0, [push("a")]), (20.0, [push("b")]), (30.0, back))

    slimmed = slim(snapshots, leading, keep_from=15.0, let_go_before=None)

    assert slimmed is not None
    found = past(slimmed.rows, "a", "store")
    assert found is not None
    assert [snapped.revision for snapped in found.snapshots] == [2, 3, 4]
    assert follow(row for row in slimmed.rows if row[1]).damages == {}
    names = [row.item[0] for row in found.leading(4) if row.item]
    assert names == ["a", "c"]


def test_items_are_let_go_of_where_nothing_holds_them() -> None:
    """
    Old, unpinned and held by no kept snapshot: such items keep their id and say nothing.
    """
    hidden = [Row("show", HISTORY, place) for place in range(3)]
    rows = [push("old"), Row("push", HISTORY, item=item("pin", pinned=True)), push("new", 50.0)]
    snapshots, leading = log((60.0, [*rows, push("shown"), *hidden]))

    slimmed = slim(snapshots, leading, keep_from=0.0, let_go_before=40.0)

    assert slimmed is not None
    assert (slimmed.items, slimmed.snapshots, slimmed.oldest_at) == (1, 0, 1.0)
    assert texts(slimmed.rows) == ["", "says pin", "says new", "says shown"]
    found = past(slimmed.rows, "a", "store")
    assert found is not None
    again = slim(found.snapshots, found.leading, keep_from=0.0, let_go_before=40.0)
    assert again is None


# --- reviews --------------------------------------------------------------------------------------


def test_the_metric_tells_what_was_counted_last() -> None:
    """
    A collection never counts itself: it has that done, and tells what is known.
    """
    counts = [3]
    reviews.follow("a test's store", lambda: counts[0])
    try:
        before = counted()
        assert before >= 3
        counts[0] = 5
        assert counted() == before
        reviews.stale("a test's store")
        assert counted() == before + 2
    finally:
        reviews.forget("a test's store")


def test_sessions_past_their_review_show_as_metric_and_finding(tmp_path: Path) -> None:
    """
    One that nobody reviewed is told of by the metric and by its diagnosis, until it is reviewed.
    """
    reader = InMemoryMetricReader()
    memtrace.configure(meter_provider=MeterProvider(metric_readers=[reader]))
    store = memtrace.SQLiteStore(tmp_path / "memory.db")
    policy = memtrace.Policy(retention_review_s=1e-6)
    with Session.open("a", store=store, policy=policy) as session:
        session.active_contexts.add("a document", key="doc")
    session = Session.open("a", store=store, policy=policy)
    session.policy = memtrace.Policy()
    session._shift += 100 * 86_400.0

    assert collected(reader) == 1
    assert "overdue_review" in [finding.symptom for finding in diagnose(session)]
    reviewed(store, "a", at=session.now())
    assert collected(reader) == 0
    assert "overdue_review" not in [finding.symptom for finding in diagnose(session)]
    del session, store
    gc.collect()


def counted() -> int:
    """What is told once all that is to be counted is."""
    for _ in range(2):  # a count that is under way knows nothing of what came meanwhile
        reviews.due()
        reviews.settle()
    return reviews.due() or 0


def collected(reader: InMemoryMetricReader) -> int:
    """What the metric says then."""
    counted()
    data: Any = reader.get_metrics_data()
    [metric] = [
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "memtrace.retention.review.due"
    ]
    return sum(point.value for point in metric.data.data_points)
