"""The review of what is kept: every 90 days somebody looks at each session."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any

from ..errors import StoreError
from ..policy import Policy
from ..telemetry import reviews
from .applying import choose, opened_store

if TYPE_CHECKING:
    from ..stores import Store
    from ..stores.keeping import Kept


def reviews_due(
    store: Any, *, every_s: float | None = None, now: float | None = None
) -> tuple[Kept, ...]:
    """The sessions that nobody reviewed for a review's period, the longest unseen first.

    Counted from the last review, or from the oldest snapshot of one that had none.

    Args:
        store: A path, an address or a store, as :meth:`Session.open` takes.
        every_s: Seconds between reviews; None: 90 days, as in :attr:`Policy.retention_review_s`.
        now: Seconds since the epoch; None: the clock's.

    Raises:
        StoreError: The store is not there, or cannot be read.

    >>> import tempfile
    >>> from memtrace import Session
    >>> path = f"{tempfile.mkdtemp()}/memory.db"
    >>> Session.open("support-42", store=path).close()
    >>> later = time.time() + 91 * 86_400
    >>> [kept.session for kept in reviews_due(path, now=later)]
    ['support-42']
    >>> reviewed(path, "support-42", at=later)
    1
    >>> reviews_due(path, now=later)
    ()
    """
    period = Policy().retention_review_s if every_s is None else every_s
    at = time.time() if now is None else now
    kept = opened_store(store).upkeep.kept()
    due = [one for one in kept if one.review_due(at, period)]
    return tuple(sorted(due, key=lambda one: one.reviewed_at or one.began_at))


def follow_reviews(store: Store, every_s: float) -> None:
    """Have the metric tell how many of a store's sessions are past their review."""
    held = weakref.ref(store)

    def count() -> int | None:
        found = held()
        if found is None:
            return None
        if not found.archives.ready:  # asked all the same, it would be opened again, and made anew
            raise StoreError(f"{found.name} was closed")
        return found.upkeep.due(time.time(), every_s)

    reviews.follow(store.name, count)


def reviewed(store: Any, *ids: str, tag: str | None = None, at: float | None = None) -> int:
    """Say that sessions were reviewed; nothing is removed. Gives how many they are.

    Args:
        store: A path, an address or a store.
        *ids: The sessions'.
        tag: And all that have this tag; None: no others.
        at: Seconds since the epoch; None: now.

    Raises:
        ConfigurationError: No session is named.
        StoreError: There is none of an id, or the store cannot be written.
    """
    opened = opened_store(store)
    chosen = choose(opened, ids, tag)
    seen_at = time.time() if at is None else at
    for kept in chosen:
        opened.upkeep.note(kept.session, reviewed_at=seen_at)
    reviews.stale(opened.name)
    return len(chosen)
