"""What would go by the rules: worked out of what a store says that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from .rewriting import Slimmed, slim
from .rules import Going, Kind, RetentionRules

if TYPE_CHECKING:
    from ..stores.keeping import Kept, Upkeep


def going(upkeep: Upkeep, rules: RetentionRules, tag: str | None, now: float) -> list[Going]:
    """What would go now; of what is pinned nothing.

    Args:
        upkeep: A store's.
        rules: For how long each kind is kept.
        tag: Only of sessions with this tag; None: of all.
        now: Seconds since the epoch.
    """
    before = rules.before("run_log", now)
    old_runs = {} if before is None else upkeep.old_runs(before)
    found: list[Going] = []
    for kept in upkeep.kept():
        if kept.pinned or (tag is not None and tag not in kept.tags):
            continue
        kind = whole_kind(kept, rules, now)
        if kind is not None:
            found.append(_whole(kept, kind, rules, now))
            continue
        if kept.key in old_runs and before is not None:
            count, size, oldest = old_runs[kept.key]
            found.append(_one(kept, "run_log", count, size, oldest, before))
        found += _texts(kept, rules, now)
        found += _inside(upkeep, kept, rules, now)
    return found


def whole_kind(kept: Kept, rules: RetentionRules, now: float) -> Kind | None:
    """As what a session would go whole; None: it stays."""
    if not kept.revision:
        return None
    kinds: list[Kind] = ["session"]
    if kept.archived_at is not None:
        kinds += ["archive"] if kept.cold is None else ["archive", "cold"]
    for kind in kinds:
        before = rules.before(kind, now)
        if before is not None and kept.used_at < before:
            return kind
    return None


def _whole(kept: Kept, kind: Kind, rules: RetentionRules, now: float) -> Going:
    size = kept.bytes + kept.runs_bytes + kept.texts_bytes
    return _one(kept, kind, 1, size, kept.used_at, rules.before(kind, now) or 0.0)


def _texts(kept: Kept, rules: RetentionRules, now: float) -> Iterator[Going]:
    before = rules.before("recall", now)
    if before is not None and kept.texts and kept.used_at < before:
        yield _one(kept, "recall", kept.texts, kept.texts_bytes, kept.used_at, before)


def _inside(upkeep: Upkeep, kept: Kept, rules: RetentionRules, now: float) -> Iterator[Going]:
    """Old snapshots of a session, and what only they held."""
    cut = rules.before("snapshots", now), rules.before("originals", now)
    if not kept.revision or all(before is None or kept.began_at >= before for before in cut):
        return
    slimmed = slimmed_log(upkeep, kept.session, kept.revision, *cut)
    if slimmed is None:
        return
    after = sum(len(payload) + len(digest) for _, _, payload, digest in slimmed.rows)
    if slimmed.snapshots:
        size = max(0, kept.bytes - after - slimmed.items_bytes)
        oldest, before = slimmed.oldest_at, max(at for at in cut if at is not None)
        yield _one(kept, "snapshots", slimmed.snapshots, size, oldest, before)
    if slimmed.items:
        yield _one(
            kept, "originals", slimmed.items, slimmed.items_bytes, slimmed.oldest_at, cut[1] or 0.0
        )


def slimmed_log(
    upkeep: Upkeep, session: str, known: int, snapshots: float | None, originals: float | None
) -> Slimmed | None:
    """A session's log as it would be without what is older; None: it would be the same, or it is
    not at the revision that it was looked at."""
    past = upkeep.past(session)
    if past is None or past.snapshots[-1].revision != known:
        return None
    # What an old snapshot holds cannot go while that is kept.
    keep_from = max(at for at in (snapshots, originals) if at is not None)
    return slim(past.snapshots, past.leading, keep_from=keep_from, let_go_before=originals)


def _one(kept: Kept, kind: Kind, count: int, size: int, oldest_at: float, before: float) -> Going:
    return Going(kept.session, kind, count, size, oldest_at, kept.revision, before, kept.key)
