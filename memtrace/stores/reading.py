"""Reading a session's log back: every row compared with its hash, every snapshot with its root."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from ..errors import StoreDamagedError
from .rows import BROKEN, ROW, START, Head, Row, chained, decode_head, unreadable

GOTO = "goto"
"""Operation of a row that goes back: what follows rests on an earlier revision, named as its
place."""

Stored = tuple[int, int, bytes, bytes]
"""A row as it is stored: revision, place in it, payload, hash."""

Places = dict[str, tuple[int, int]]
"""Revision and place of the row by which each item came, by its id."""


class Mark(NamedTuple):
    """What one revision has in a log.

    Args:
        root: Hash at its end; None: it is damaged.
        start: Where its rows begin among all that were read.
        end: Where they end.
        size: How many it has, damaged ones among them.
        base: The revision that it rests on; 0: none.
    """

    root: bytes | None
    start: int
    end: int
    size: int
    base: int


_NOTHING = Mark(START, 0, 0, 0, 0)


@dataclass(slots=True)
class Chain:
    """What was read of a log.

    Attributes:
        rows: All changes that are whole, those that were undone among them, in order.
        damages: Where rows are not what was written, and why, by revision.
        marks: What each revision that has rows has.
    """

    rows: list[Row] = field(default_factory=list)
    damages: dict[int, str] = field(default_factory=dict)
    # Plain tuples with the fields of a mark: there may be as many as there are rows.
    marks: dict[int, tuple[Any, ...]] = field(default_factory=dict)

    def mark(self, revision: int) -> Mark:
        """What a revision has; all zero where it has no rows."""
        return Mark(*self.marks.get(revision, _NOTHING))

    def root_at(self, revision: int) -> bytes | None:
        """Hash that a snapshot of this revision has as its root; None: it is damaged."""
        return self.mark(self.marked(revision)).root

    def marked(self, revision: int) -> int:
        """This revision, or the last before it that has rows; 0: there is none."""
        if revision in self.marks:
            return revision
        return next((at for at in reversed(self.marks) if at < revision), 0)

    def leading(self, revision: int) -> list[Row]:
        """The changes that lead to a revision, in order."""
        spans: list[list[int]] = []  # of rows, the last first
        at = self.marked(revision)
        while at:
            _, start, end, _, at = self.marks[at]
            if spans and spans[-1][0] == end:
                spans[-1][0] = start
            else:
                spans.append([start, end])
        return [row for start, end in reversed(spans) for row in self.rows[start:end]]


def follow(stored: Iterable[Stored], places: Places | None = None) -> Chain:
    """Read the rows of a session's log in order, heads left out. What is damaged is noted.

    Args:
        stored: The rows.
        places: Takes in where each item came, if given.
    """
    chain = Chain()
    rows, marks, decode = chain.rows, chain.marks, ROW.decode
    before: bytes | None = START
    current = count = start = base = 0
    for revision, place, payload, digest in stored:
        if revision != current:
            marks[current] = before, start, len(rows), count, base
            base, current, count, start = current, revision, 0, len(rows)
        count += 1
        try:
            # Written out, not `decode_row` and `chained`: this is done for every row there is.
            row = decode(payload)
            if before is None or place != count or row.op == GOTO:
                before = _resumed(chain, row, revision, before, (place, count))
                if row.op == GOTO:
                    base, start = chain.marked(row.place), len(rows)
            if sha256(before + payload).digest()[:16] != digest:
                raise StoreDamagedError(f"row {place}{_named(row)} is not what was written")
        except (StoreDamagedError, *BROKEN) as error:
            chain.damages.setdefault(revision, _told(error))
            before = None
            continue
        before = digest
        rows.append(row)
        if places is not None and row.item is not None:
            places[row.item[0]] = revision, place
    marks[current] = before, start, len(rows), count, base
    return chain


def _told(error: Exception) -> str:
    return str(error if isinstance(error, StoreDamagedError) else unreadable(error))


def _resumed(
    chain: Chain, row: Row, revision: int, before: bytes | None, place: tuple[int, int]
) -> bytes:
    """The hash that a row rests on which does not simply follow the one before it.

    Raises:
        StoreDamagedError: It rests on what is damaged, or on what is not there.
    """
    if place[0] != place[1]:
        raise StoreDamagedError(f"row {place[1]} is missing")
    if row.op == GOTO:
        before = chain.root_at(row.place) if 0 <= row.place < revision else None
    if before is None:
        raise StoreDamagedError("it rests on what is damaged")
    return before


def _named(row: Row) -> str:
    return f" (item {row.item[0]})" if row.item is not None else ""


def read_head(chain: Chain, revision: int, stored: tuple[bytes, bytes] | None) -> Head:
    """The head of a snapshot, compared with the rows it rests on.

    Args:
        chain: What was read of the log.
        revision: The snapshot's.
        stored: Its payload and hash; None: there is none.

    Raises:
        StoreDamagedError: It is not what was written, or what it rests on is not.
    """
    if revision in chain.damages:
        raise StoreDamagedError(chain.damages[revision])
    if stored is None:
        raise StoreDamagedError("its head is missing")
    root = chain.root_at(revision)
    if root is None:
        raise StoreDamagedError("it rests on what is damaged")
    head = own_head(*stored)
    if head.root != root:
        raise StoreDamagedError("its rows, or its head, are not what was written")
    if head.rows != chain.mark(revision).size:
        raise StoreDamagedError(f"it has {chain.mark(revision).size} rows of {head.rows}")
    return head


def own_head(payload: bytes, digest: bytes) -> Head:
    """A snapshot's head, compared with its own hash; what it rests on is not looked at.

    Raises:
        StoreDamagedError: It is not what was written.
    """
    head = decode_head(payload)
    if chained(head.root, payload) != digest:
        raise StoreDamagedError("its rows, or its head, are not what was written")
    return head


def newest(
    chain: Chain, revisions: Iterable[int], fetch: Callable[[int], tuple[bytes, bytes] | None]
) -> tuple[int, Head | None, list[str]]:
    """The first snapshot that is whole, and what is wrong with each one before it."""
    missing: list[str] = []
    for revision in revisions:
        try:
            return revision, read_head(chain, revision, fetch(revision)), missing
        except StoreDamagedError as error:
            missing.append(f"snapshot {revision}: {error}")
    return 0, None, missing
