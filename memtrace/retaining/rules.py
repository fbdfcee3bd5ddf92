"""What may go, what would, and what went: plain values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Literal

from ..errors import ConfigurationError

Kind = Literal["session", "run_log", "snapshots", "originals", "recall", "archive", "cold"]

KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
"""In the order in which a plan lists them."""

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """For how many days each kind is kept. A pinned session keeps all; a pinned item stays.

    None keeps it for ever, which is the default of every kind.

    Args:
        session_days: A session, whole, since its last snapshot.
        run_log_days: A row of the run log, since its run began.
        snapshots_days: A snapshot, since it was taken. The newest of a session stays.
        originals_days: What was replaced, dropped or removed, since it came; what memory holds
            now stays, and so does what a kept snapshot holds. No snapshot is kept longer.
        recall_days: The words by which a session's items are found, since its last snapshot;
            the next search makes them anew.
        archive_days: A session that was put away, whole, since then.
        cold_days: The same of one whose archive was moved to an object store.

    Raises:
        ConfigurationError: A number of days is negative, or no number.

    >>> RetentionRules(run_log_days=90).days("run_log")
    90
    """

    session_days: float | None = None
    run_log_days: float | None = None
    snapshots_days: float | None = None
    originals_days: float | None = None
    recall_days: float | None = None
    archive_days: float | None = None
    cold_days: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            days = getattr(self, field.name)
            if days is None:
                continue
            if isinstance(days, bool) or not isinstance(days, (int, float)) or not days >= 0:
                raise ConfigurationError(
                    f"{field.name} takes days ≥ 0, or None to keep for ever; got {days!r}"
                )

    def days(self, kind: Kind) -> float | None:
        """Days for which a kind is kept; None: for ever."""
        days: float | None = getattr(self, f"{kind}_days")
        return days

    def before(self, kind: Kind, now: float) -> float | None:
        """Seconds since the epoch before which a kind is not kept; None: it always is."""
        days = self.days(kind)
        return None if days is None else now - days * DAY_S


@dataclass(frozen=True, slots=True)
class Going:
    """What would go of one session.

    Args:
        session: Its id; empty for rows of the run log that are of no stored session.
        kind: ``session``, ``run_log``, ``snapshots``, ``originals``, ``recall``, ``archive`` or
            ``cold``.
        count: How many: sessions (1), rows, snapshots, items, texts.
        bytes: What they take in the store, before vacuum; of items, their encoded size.
        oldest_at: Seconds since the epoch from which the oldest of them is.
        revision: Of the session as it was looked at: nothing goes if it was written since.
        before: Seconds since the epoch; what is older goes.
        key: By which the store knows the session.
    """

    session: str
    kind: Kind
    count: int
    bytes: int
    oldest_at: float
    revision: int
    before: float
    key: int


@dataclass(frozen=True, slots=True)
class Stayed:
    """What did not go although it was planned, and why."""

    session: str
    kind: Kind
    reason: str


def sums(going: Iterable[Going]) -> dict[Kind, tuple[int, int]]:
    """Count and bytes by kind, those of which there is something, in the order of KINDS."""
    found: dict[Kind, tuple[int, int]] = {}
    listed = list(going)
    for kind in KINDS:
        of_kind = [one for one in listed if one.kind == kind]
        if of_kind:
            found[kind] = sum(one.count for one in of_kind), sum(one.bytes for one in of_kind)
    return found


def told(going: Iterable[Going]) -> str:
    """What there is of each kind, a line a kind."""
    lines = [
        f"{kind:<10} {count:>9,}  {size:>13,} bytes" for kind, (count, size) in sums(going).items()
    ]
    return "\n".join(lines) or "nothing"
