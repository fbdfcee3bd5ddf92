"""Reading a session for a report: what it holds, what was replaced, what its loop remembers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from ..errors import MemtraceError
from ..findings import Finding
from ..replay import Sent
from ..session import Session
from ..spantree import printable
from ..tokens import measure_tokens
from ..values import ActionReport, Item, LoggedRun, MemoryProfile
from .excerpts import excerpt, text_of
from .facts import Leaf, Lookups, Mark, Pair, Report, Sample, Stretch

PAIRS_BYTES = 500_000
"""Bytes of all texts before and after, as they stand in the page: a quarter of what it may have."""

PAIRS = 200
"""Replaced items that are looked at, at most: the last ones. Each is measured again."""

LEAVES = 400
"""Items that are listed by themselves; smaller ones are taken together, by layer and agent."""

_SAID = 120


def of_session(
    session: Session,
    findings: Sequence[Finding] = (),
    source: str = "",
    lookups: Sequence[Lookups] = (),
) -> Report:
    """A report on a session: its run log, and memory as it is. Nothing is changed.

    Args:
        session: Of this process, or opened from its store.
        findings: What :func:`memtrace.diagnose` gave for it.
        source: Where it comes from, in a few words.
        lookups: Of a stored session, its cache's lookups at each snapshot, in order: a session
            that is opened again begins to count anew.

    Raises:
        StoreError: Its store cannot be read.

    >>> from memtrace import Session
    >>> of_session(Session("support-42")).title
    'support-42'
    """
    runs = session.run_log()
    return gathered(
        session,
        source=source or "session of this process",
        unit="run",
        samples=[*_samples(runs), _now(session, len(runs) + 1)],
        marks=_marks(runs),
        timeline=[_stretch(number, run) for number, run in enumerate(runs, 1)],
        findings=findings,
        findings_of="Of the session as it is.",
        dated=True,
        lookups=lookups,
    )


def gathered(
    session: Session,
    *,
    source: str,
    unit: str,
    samples: Sequence[Sample],
    marks: Sequence[Mark],
    timeline: Sequence[Stretch],
    findings: Sequence[Finding],
    findings_of: str,
    dated: bool,
    sent: Sent | None = None,
    lookups: Sequence[Lookups] = (),
) -> Report:
    """A report of what was noted of the past, and of what the session holds now."""
    pairs, unshown = _pairs(session)
    profile = session.profile()
    counts = profile.cache_lookups > 0
    if lookups and not counts:
        profile = _with_lookups(profile, lookups[-1])
    return Report(
        title=session.id,
        source=source,
        unit=unit,
        dated=dated,
        profile=profile,
        forecast=session.profile().forecast,
        policy=session.policy,
        samples=samples,
        marks=[mark for mark in marks if mark.report.outcome not in ("declined", "no_op")],
        timeline=timeline,
        leaves=_leaves(session),
        pairs=pairs,
        unshown=unshown,
        points=tuple(session.monitor().values()),
        cache=session.cache.stats,
        lookups=lookups,
        advice=session.cache.advise() if counts else None,
        findings=findings,
        findings_of=findings_of,
        sent=sent,
    )


def _with_lookups(profile: MemoryProfile, lookups: Lookups) -> MemoryProfile:
    budget, tokens, items, _, _, counting, pinned, *_ = profile._held
    return MemoryProfile(budget, tokens, items, lookups.hits, lookups.misses, counting, pinned)


# --- the past, from the run log -------------------------------------------------------------------


def _samples(runs: Iterable[LoggedRun]) -> Iterator[Sample]:
    yield Sample(0, 0, (0, 0, 0, 0, 0), 0)
    for number, run in enumerate(runs, 1):
        yield Sample(number - 0.5, number, run.before, run.token_budget)
        yield Sample(number, number, run.after, run.token_budget)


def _now(session: Session, number: int) -> Sample:
    profile = session.profile()
    return Sample(number, number, profile.layer_tokens, profile.token_budget)


def _marks(runs: Iterable[LoggedRun]) -> list[Mark]:
    return [
        Mark(number if _late(report) else number - 0.5, number, report)
        for number, run in enumerate(runs, 1)
        for report in run.reports
    ]


def _late(report: ActionReport) -> bool:
    """Whether it is one of those that follow a run."""
    return report.action in ("consolidate", "update_cache")


def _stretch(number: int, run: LoggedRun) -> Stretch:
    return Stretch(
        number,
        run.kind,
        printable(run.name, 60),
        run.started_at,
        run.started_at + run.duration_s,
        sum(run.before),
        sum(run.after),
        run.error,
        sum(report.tokens_freed for report in run.reports),
    )


# --- what memory holds ----------------------------------------------------------------------------


def _leaves(session: Session) -> list[Leaf]:
    items = [item for layer in session.layers for item in layer.items if item.tokens]
    items.sort(key=lambda item: -item.tokens)
    leaves = [_leaf(item) for item in items[:LEAVES]]
    rest: dict[tuple[str, str], list[Item]] = {}
    for item in items[LEAVES:]:
        rest.setdefault((item.layer.value, item.agent or ""), []).append(item)
    for (layer, agent), small in rest.items():
        tokens = sum(item.tokens for item in small)
        name = f"{len(small):,} smaller items"
        leaves.append(Leaf(layer, printable(agent, 60), name, "several", tokens, False, ""))
    return leaves


def _leaf(item: Item) -> Leaf:
    name = printable(item.key, 60) if item.key else item.id
    agent = printable(item.agent or "", 60)
    kind = printable(item.kind, 40)
    said = _line(text_of(item.content))
    return Leaf(item.layer.value, agent, name, kind, item.tokens, item.pinned, said)


def _line(text: str) -> str:
    """How a text begins, in a line."""
    return printable(" ".join(text[: 8 * _SAID].split()), _SAID)


# --- before and after -----------------------------------------------------------------------------


def _pairs(session: Session) -> tuple[list[Pair], int]:
    """What was replaced, as far as there is room; and how many more there are."""
    held = (*session.history.items, *session.archived_contexts.items)
    derived = [item for item in held if item.derived_from]
    pairs = [pair for item in derived[-PAIRS:] if (pair := _pair(session, item)) is not None]
    pairs.sort(key=lambda pair: pair.tokens_after - pair.tokens_before)
    size = 0
    for shown, pair in enumerate(pairs):
        size += sum(len(escape(text.text).encode()) for text in (pair.before, pair.after))
        if size > PAIRS_BYTES:
            return pairs[:shown], len(derived) - shown
    return pairs, len(derived) - len(pairs)


def _pair(session: Session, item: Item) -> Pair | None:
    try:
        original = session.original(item.id)
    except (KeyError, MemtraceError):
        return None  # what it stands for is not here any more
    # The original of what stands for several is the list of them.
    several = len(item.derived_from) > 1 and isinstance(original, list)
    contents: list[Any] = original if several else [original]
    text = "\n\n".join(map(text_of, contents))
    return Pair(
        item.layer.value,
        item.id,
        printable(item.kind, 40),
        len(contents),
        sum(measure_tokens(content, counter=session.counter) for content in contents),
        item.tokens,
        _line(text),
        excerpt(text),
        excerpt(text_of(item.content)),
    )
