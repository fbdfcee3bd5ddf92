"""Reading a session's log back: every row compared with its hash, every snapshot with its root."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..errors import StoreDamagedError
from .rows import START, Head, Row, chained, decode_head, decode_row

GOTO = "goto"
"""Operation of a row that goes back: what follows rests on an earlier revision, named as its
place."""

Stored = tuple[int, int, bytes, bytes]
"""A row as it is stored: revision, place in it, payload, hash."""


@dataclass(slots=True)
class Chain:
    """What was read of a log.

    Attributes:
        rows: The changes that lead to the last revision that is whole so far, in order.
        roots: Hash at the end of each revision that has rows; None where one is damaged.
        counts: How many rows each revision has.
        damages: Where rows are not what was written, and why, by revision.
        stored: Revision and place of the row by which each item came, by its id.
    """

    rows: list[Row] = field(default_factory=list)
    roots: dict[int, bytes | None] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    damages: dict[int, str] = field(default_factory=dict)
    stored: dict[str, tuple[int, int]] = field(default_factory=dict)
    _ends: dict[int, int] = field(default_factory=dict)

    def root_at(self, revision: int) -> bytes | None:
        """Hash that a snapshot of this revision has as its root; None: it is damaged."""
        return self.roots[self._before(revision)] if self.roots else START

    def end_at(self, revision: int) -> int:
        """How many of the rows lead to this revision."""
        return self._ends.get(self._before(revision), 0) if self._ends else 0

    def _before(self, revision: int) -> int:
        while revision > 0 and revision not in self.roots:
            revision -= 1
        return revision


def follow(stored: Iterable[Stored]) -> Chain:
    """Read the rows of a session's log in order, heads left out. What is damaged is noted."""
    chain = Chain(roots={0: START}, _ends={0: 0})
    rows, where = chain.rows, chain.stored
    before: bytes | None = START
    current, count = 0, 0
    append = rows.append
    for revision, place, payload, digest in stored:
        if revision != current:
            _close(chain, current, before, count)
            current, count = revision, 0
        count += 1
        try:
            if place != count:
                raise StoreDamagedError(f"row {count} is missing")
            row = decode_row(payload)
            if row.op == GOTO:
                before = chain.root_at(row.place) if 0 <= row.place < revision else None
                if before is not None:
                    del rows[chain.end_at(row.place) :]
            if before is None:
                raise StoreDamagedError("it rests on what is damaged")
            if chained(before, payload) != digest:
                raise StoreDamagedError(f"row {place}{_named(row)} is not what was written")
        except StoreDamagedError as error:
            chain.damages.setdefault(revision, str(error))
            before = None
            continue
        before = digest
        append(row)
        if row.item is not None:
            where[row.item.id] = revision, place
    _close(chain, current, before, count)
    return chain


def _close(chain: Chain, revision: int, root: bytes | None, count: int) -> None:
    if revision:
        chain.roots[revision] = root
        chain.counts[revision] = count
        chain._ends[revision] = len(chain.rows)


def _named(row: Row) -> str:
    return f" (item {row.item.id})" if row.item is not None else ""


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
    if head.rows != chain.counts.get(revision, 0):
        raise StoreDamagedError(f"it has {chain.counts.get(revision, 0)} rows of {head.rows}")
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
    chain: Chain, latest: int, fetch: Callable[[int], tuple[bytes, bytes] | None]
) -> tuple[int, Head | None, list[str]]:
    """The newest snapshot that is whole, and what is wrong with each one after it."""
    missing: list[str] = []
    for revision in range(latest, 0, -1):
        try:
            return revision, read_head(chain, revision, fetch(revision)), missing
        except StoreDamagedError as error:
            missing.append(f"snapshot {revision}: {error}")
    return 0, None, missing
