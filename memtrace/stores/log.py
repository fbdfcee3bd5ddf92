"""What is the same of every database: whose a log is, how much of it is whole, what is told of it.

A database says what it holds through :class:`Log`; whether that is what was written is told here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from typing import Any, Protocol

from ..errors import StaleSessionError, StoreDamagedError
from .base import Damage, Loaded, Written
from .reading import GOTO, Chain, Places, Stored, follow, newest, own_head
from .rows import START, Head, Row, chained, decode_row, encode

logger = logging.getLogger("memtrace")

LAST = 2**62
"""Revisions past this are nobody's."""


class Log(Protocol):
    """The sessions of a database, as they are stored; nothing of it is trusted."""

    name: str

    def entry(self, key: int) -> tuple[Any, Any, Any] | None:
        """Id, latest revision and hash of a session in the list of sessions; None: it has none."""

    def entries(self) -> Iterable[tuple[Any, Any]]:
        """Key and id of each session in that list."""

    def keys(self) -> Iterable[int]:
        """Each key that the log has rows of, once."""

    def revisions(self, key: int, upto: int) -> Iterator[int]:
        """Revisions that the log has rows of, the latest first; one may come again."""

    def readable(self, key: int, upto: int) -> Iterator[int]:
        """The same, up to where what holds them cannot be read."""

    def rows(self, key: int, upto: int) -> Iterator[Stored]:
        """The rows in order, heads left out, but for those that cannot be read."""

    def head(self, key: int, revision: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a snapshot's head; None: it is not there, or cannot be read."""

    def heads(self, key: int) -> Iterable[tuple[int, bytes, bytes]]:
        """Revision, payload and hash of each head, the latest first."""

    def row(self, key: int, revision: int, place: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a row."""

    def before(self, key: int, revision: int, place: int) -> bytes | None:
        """Hash of the row before it; None: it is the first."""


# --- whose a log is -------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def key_of(session: str) -> int:
    """A session's key: 63 bits of the hash of its id, so that a lost row of it shows."""
    return int.from_bytes(sha256(id_of(session)).digest()[:8], "big") >> 1


def id_of(session: str) -> bytes:
    """A session's id as it is stored: any text, lone surrogates too."""
    return session.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=4096)  # what one write has put there the next one looks for
def mark_of(session: str, revision: int) -> bytes:
    """What tells that an entry in the list of sessions is what was written."""
    return chained(revision.to_bytes(8, "big", signed=True), id_of(session))


def chain_of(written: Written) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """A write's rows with their hashes, the head first, and the root."""
    assert written.head is not None
    root = written.root
    rows: list[tuple[bytes, bytes]] = []
    for payload in written.rows:
        root = chained(root, payload)
        rows.append((payload, root))
    head = written.head(root)
    return [(head, chained(root, head)), *rows], root


def goes_back(written: Written) -> bool:
    """Whether a write rests on another revision than the latest."""
    return bool(written.rows) and written.rows[0].startswith(_GOES_BACK)


_GOES_BACK = encode(Row(GOTO))[0][:6]
"""What a row begins with that goes back: the number of its fields, and its name."""


def stale(session: str, found: int, known: int) -> StaleSessionError:
    """A writer knows another revision than the latest."""
    if not found:
        return StaleSessionError(
            f"session {session!r} is not there any more: it was deleted since revision {known}, as "
            f"of which this one knows it; nothing was stored. To begin anew: "
            f"Session.open({session!r}, store=...)"
        )
    return StaleSessionError(
        f"session {session!r} was written elsewhere: it is at revision {found}, and "
        f"this one knows it as of revision {known}; nothing was stored. To go on with it: "
        f"Session.open({session!r}, store=...)"
    )


# --- what there is --------------------------------------------------------------------------------


def listed(log: Log) -> tuple[dict[int, str], list[Damage]]:
    """Ids of the sessions by their keys, and what is wrong with the list."""
    found: dict[int, str] = {}
    lost: dict[object, str] = {}
    for key, stored in log.entries():
        if stored == b"":  # deleted but for what lies in an object store
            continue
        name = name_of(stored)
        if name is not None and key_of(name) == key:
            found[key] = name
        else:
            lost[key] = "its id is not what was written"
    for key in log.keys():  # noqa: SIM118  (no mapping)
        if key not in found:
            lost.setdefault(key, "it is not in the list of sessions")
    return found, [Damage("", f"session {key}", reason) for key, reason in lost.items()]


def name_of(stored: object) -> str | None:
    """A session's id from how it is stored; None: it is damaged."""
    try:
        return stored.decode("utf-8", "surrogatepass") if isinstance(stored, bytes) else None
    except UnicodeDecodeError:
        return None


def latest(log: Log, session: str, key: int) -> tuple[int, list[str]]:
    """The latest revision of a session (0: there is none), and what is strange about it."""
    entry = log.entry(key)
    held = next(log.revisions(key, LAST), 0)
    if entry is None:
        return held, ["it is not in the list of sessions"] if held else []
    name, told, mark = entry
    told = told if isinstance(told, int) and 0 < told < LAST else 0
    if not told or name != id_of(session) or mark != mark_of(session, told):
        return held, ["its entry in the list of sessions is damaged"]
    if held != told:
        return max(held, told), [f"its log ends at snapshot {held} of {told}"]
    return held, []


def revisions(log: Log, key: int, upto: int) -> Iterator[int]:
    """The given revision, and then each before it that the log has anything of."""
    yield upto
    before = upto
    for revision in log.readable(key, upto):
        if 0 < revision < before:
            yield revision
            before = revision


# --- reading it -----------------------------------------------------------------------------------


def load(log: Log, session: str, upto: int | None) -> tuple[Loaded | None, bool]:
    """A session's newest whole snapshot, or that of a revision; and whether all was well.

    Raises:
        StoreDamagedError: Nothing of it is whole.
    """
    key = key_of(session)
    last, strange = latest(log, session, key)
    if not last and strange:
        raise StoreDamagedError(f"session {session!r} in {log.name}: {strange[0]}")
    if not last:
        return None, True
    if upto is not None:
        last, strange = min(upto, last), []
    chain = read(log, key, last)
    whole, head, missing = newest(
        chain, revisions(log, key, last), lambda revision: log.head(key, revision)
    )
    if head is None:
        raise StoreDamagedError(
            f"nothing of session {session!r} in {log.name} is whole: " + "; ".join(missing[:3])
        )
    if whole != last:
        chain = read(log, key, whole)
    told = [*strange, *missing]
    return Loaded(last, whole, head, chain.leading(whole), told), not told


def read(log: Log, key: int, upto: int, places: Places | None = None) -> Chain:
    """A log's rows up to a revision, compared with their hashes."""
    return follow(log.rows(key, upto), places)


def heads(log: Log, session: str, last: int) -> list[tuple[int, Head]]:
    """The last snapshots that can be read, oldest first, with their revisions."""
    found: list[tuple[int, Head]] = []
    for revision, payload, digest in log.heads(key_of(session)):
        with suppress(StoreDamagedError):
            found.append((revision, own_head(payload, digest)))
        if len(found) == last:
            break
    return found[::-1]


def row(log: Log, session: str, revision: int, place: int) -> Row:
    """One row, compared with its hash.

    Raises:
        StoreDamagedError: It is not there, or is not what was written.
    """
    key = key_of(session)
    stored = log.row(key, revision, place)
    if stored is None:
        raise StoreDamagedError(f"row {place} of snapshot {revision} is missing")
    found = decode_row(stored[0])
    if chained(log.before(key, revision, place) or START, stored[0]) != stored[1]:
        raise StoreDamagedError(f"row {place} of snapshot {revision} is not what was written")
    return found


def places(log: Log, session: str) -> Places:
    """Revision and place of the row by which each item of a session came, by its id."""
    found: Places = {}
    read(log, key_of(session), LAST, found)
    return found


def sessions(log: Log) -> list[str]:
    """Ids of the sessions there are; a warning tells of those whose ids are damaged."""
    found, lost = listed(log)
    if lost:
        logger.warning(
            "%s is damaged; its list of sessions is not whole: %s",
            log.name,
            "; ".join(map(str, lost)),
        )
    return list(found.values())
