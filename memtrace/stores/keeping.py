"""What is kept of each session and how it is let go: values, and what every store can do.

Deleting and rewriting are one transaction each, and conditional on the session's revision: what
was written since somebody looked stays, and so does all else of the session. A writer that knows
the session as it was is refused afterwards, whatever it writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from ..errors import StaleSessionError, StoreDamagedError
from .log import Log, key_of
from .reading import Chain, Stored, follow, own_head, read_head
from .rows import Head, Row

SINCE = "since"
"""Fact of a snapshot's: the first revision that its session's log still has."""


class Kept(NamedTuple):
    """What a store keeps of one session, and what that takes.

    Args:
        session: Its id; empty for rows of the run log that are of no stored session.
        key: By which the store knows it.
        revision: The latest; 0: only the run log has it.
        tags: Its user's, sorted.
        pinned: Whether it is kept whatever the rules say.
        reviewed_at: Seconds since the epoch of its last retention review; None: there was none.
        began_at: When its oldest stored snapshot was taken, in seconds since the epoch; of one
            that was put away, as ``used_at``.
        used_at: When it was last written, or brought back from an archive.
        bytes: Of its snapshots and changes, wherever they are.
        runs: Rows of its run log.
        runs_bytes: What they take.
        runs_from: When the oldest of them began; 0: there are none.
        texts: Texts in its index.
        texts_bytes: What their words take.
        archived_at: Seconds since the epoch when it was put away; None: it is not.
        cold: Where its archive was moved to; None: it was not.
    """

    session: str
    key: int
    revision: int = 0
    tags: tuple[str, ...] = ()
    pinned: bool = False
    reviewed_at: float | None = None
    began_at: float = 0.0
    used_at: float = 0.0
    bytes: int = 0
    runs: int = 0
    runs_bytes: int = 0
    runs_from: float = 0.0
    texts: int = 0
    texts_bytes: int = 0
    archived_at: float | None = None
    cold: str | None = None

    def review_due(self, now: float, every_s: float) -> bool:
        """Whether nobody looked at it for longer than a review's period."""
        last = self.began_at if self.reviewed_at is None else self.reviewed_at
        return self.revision > 0 and last + every_s < now


class Snapped(NamedTuple):
    """One snapshot of a log: its head, and the changes that came with it."""

    revision: int
    head: Head
    rows: Sequence[Row]


class Past(NamedTuple):
    """All that a log has, whole.

    Args:
        snapshots: In order.
        chain: What leads to each.
    """

    snapshots: Sequence[Snapped]
    chain: Chain

    def leading(self, revision: int) -> list[Row]:
        """The changes that lead from nothing to a snapshot."""
        return self.chain.leading(revision)


class Upkeep(Protocol):
    """What a store can do about what it keeps."""

    def kept(self) -> list[Kept]:
        """Every session, and each that only the run log has, in no order."""

    def due(self, now: float, every_s: float) -> int:
        """How many sessions are past their review."""

    def past(self, session: str) -> Past | None:
        """All of a session's log; None: there is none.

        Raises:
            StoreDamagedError: Something of it is not what was written.
        """

    def find(self, session: str) -> Kept | None:
        """One session; None: there is none of that id. What it takes is not told."""

    def delete(self, session: str, known: int | None = None) -> int:
        """Delete all there is of a session; gives how many rows went.

        Args:
            session: Its id.
            known: The revision that it was looked at; None: any.

        Raises:
            StaleSessionError: It was written since; nothing went.
            StoreError: Its cold copies are not reached; the rest went, and :meth:`finish` is due.
        """

    def finish(self) -> None:
        """Delete the cold copies of sessions that are deleted."""

    def rewrite(
        self, session: str, known: int, rows: Sequence[Stored], root: bytes, used_at: float
    ) -> None:
        """Have a session's log be these rows: revision, place, payload, hash; in order.

        Args:
            session: Its id.
            known: The revision that it was looked at.
            rows: The last of them is of the new revision, above that.
            root: The last hash that a change has.
            used_at: When it was last used: letting go is no use.

        Raises:
            StaleSessionError: It was written since; nothing changed.
        """

    def old_runs(self, before: float) -> dict[int, tuple[int, int, float]]:
        """Rows of the run log that began earlier: by key how many, bytes, when the oldest did."""

    def drop_runs(self, key: int, before: float) -> int:
        """Delete a session's rows of the run log that began earlier; gives how many."""

    def drop_index(self, session: str) -> int:
        """Delete a session's index; gives how many texts it had."""

    def note(self, session: str, **columns: Any) -> bool:
        """Set ``tags``, ``pinned`` or ``reviewed_at`` of a session; whether it is there."""

    def runs(self) -> Iterator[tuple[int, Sequence[Any]]]:
        """Rows of the whole run log in order, each with its session's key, a few at a time."""

    def texts(self, session: str) -> Iterator[tuple[str, float, int, int, str]]:
        """Its index: item, when that was made, start, stop, and the words."""

    def vacuum(self) -> None:
        """Give back the space of what was deleted, so that no file has any of it."""


def past(stored: Iterable[Stored], session: str, name: str) -> Past | None:
    """All of a session's log, compared with its hashes.

    Args:
        stored: Its rows, the changes in order; heads anywhere.
        session: Its id.
        name: The store's.
    """
    heads: dict[int, tuple[bytes, bytes]] = {}
    rows: list[Stored] = []
    for row in stored:
        if row[1] == 0:
            heads[row[0]] = row[2], row[3]
        else:
            rows.append(row)
    if not heads and not rows:
        return None
    chain = follow(rows)
    try:
        if chain.damages:
            revision, reason = next(iter(chain.damages.items()))
            raise StoreDamagedError(f"snapshot {revision}: {reason}")
        snapshots = [_snapped(chain, at, heads[at]) for at in sorted(heads)]
    except StoreDamagedError as error:
        raise StoreDamagedError(
            f"session {session!r} in {name} is damaged, so nothing in it is let go of: {error}; it "
            "can be deleted whole"
        ) from error
    return Past(snapshots, chain) if snapshots else None


def _snapped(chain: Chain, revision: int, head: tuple[bytes, bytes]) -> Snapped:
    mark = chain.mark(revision)
    return Snapped(revision, read_head(chain, revision, head), chain.rows[mark.start : mark.end])


def begins_at(log: Log, key: int, revision: int) -> bool:
    """Whether a log begins with this revision because what was before it was let go."""
    head = log.head(key, revision)
    try:
        return head is not None and own_head(*head).facts.get(SINCE) == revision
    except StoreDamagedError:
        return False


def tags_of(stored: Any) -> tuple[str, ...]:
    """Tags from their column: a JSON list of texts. What is none says nothing."""
    try:
        return tuple(msgspec.json.decode(stored or "[]", type=list[str]))
    except (msgspec.DecodeError, TypeError):
        return ()


def columns_of(columns: dict[str, Any], mark: str) -> tuple[str, list[Any]]:
    """What a statement sets, and to what values; times are seconds since the epoch."""
    values: dict[str, Any] = {}
    if "tags" in columns:
        plain = {tag.encode("utf-8", "replace").decode() for tag in columns["tags"]}
        values["tags"] = msgspec.json.encode(sorted(plain)).decode()
    if "pinned" in columns:
        values["pinned"] = int(columns["pinned"])
    if "reviewed_at" in columns:
        values["reviewed_at"] = int(columns["reviewed_at"] * 1e9)
    return ", ".join(f"{name} = {mark}" for name in values), list(values.values())


def name_of(key: int, stored: Any) -> str | None:
    """A session's id from its column; None: it is not what was written."""
    try:
        name: str = bytes(stored).decode("utf-8", "surrogatepass")
    except (TypeError, UnicodeDecodeError):
        return None
    return name if key_of(name) == key else None


def head_time(stored: tuple[Any, Any] | None) -> float:
    """When a snapshot was taken, from its payload and hash; 0: there is none, or it is damaged."""
    try:
        return 0.0 if stored is None else own_head(*stored).created_at
    except StoreDamagedError:
        return 0.0


def written_since(session: str, found: int, known: int) -> StaleSessionError:
    """A session is not what it was when it was looked at."""
    return StaleSessionError(
        f"session {session!r} was written since it was looked at (revision {found or 'none'}, not "
        f"{known}); nothing of it was let go: look at it again"
    )


def cut_off(words: str, prefix: str) -> str:
    """Words without what each begins with."""
    return " ".join(word.removeprefix(prefix) for word in words.split(" "))


def finish(url: str) -> None:
    """Delete what was moved to an object store of a session that is deleted.

    Raises:
        StoreError: It cannot be reached; the store remembers what is left to be deleted.
    """
    from .cold import delete_all

    delete_all(url)
