"""A log, and behind it what was put away of it: reading a session that sleeps does not wake it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from ..errors import StoreDamagedError, StoreError
from .log import Log
from .packing import HEADS, Chunk, unpack
from .reading import Stored


class ColdError(StoreError):
    """What was asked for is in cold storage: it has to be fetched first."""


class AsleepError(Exception):
    """A write is for a session that was put away: it has to be woken first."""


class Chunks(Protocol):
    """Where a database keeps its archives."""

    def chunks(self, key: int, number: int | None = None) -> list[Chunk]:
        """A session's chunks in order, or the one of that number; none: it does not sleep."""

    def owners(self) -> Iterable[int]:
        """The key of each session that has chunks, once."""


class Whole:
    """Reads sessions from their log or, where that has nothing, from their archives.

    A damaged chunk is passed over, as rows in damaged pages are: the hashes tell what is missing.

    Args:
        log: The log.
        archives: What was put away.
        fetched: Payloads of chunks that are in cold storage, by their numbers.

    Attributes:
        used: Whether anything came from an archive.
        damages: What is wrong with chunks that were read, in words.
    """

    def __init__(
        self, log: Log, archives: Chunks, fetched: Mapping[int, bytes] | None = None
    ) -> None:
        self.name = log.name
        self.used = False
        self.damages: list[str] = []
        self._log = log
        self._archives = archives
        self._fetched = fetched or {}
        # Of one session at a time:
        self._rows: dict[int, list[Stored]] = {}
        self._tops: dict[int, dict[int, tuple[bytes, bytes]]] = {}

    # --- what sleeps --------------------------------------------------------------------------

    def _chunk(self, key: int, chunk: Chunk) -> list[Stored]:
        payload = chunk.payload if chunk.payload is not None else self._fetched.get(chunk.number)
        if payload is None:
            raise ColdError(
                f"a session of {self.name} is in cold storage; Session.open brings it back"
            )
        self.used = True
        try:
            return list(unpack(key, chunk._replace(payload=payload)))
        except StoreDamagedError as error:
            self.damages.append(str(error))
            return []

    def _asleep(self, key: int) -> list[Stored]:
        """The rows of a session's archive, heads left out; none: it does not sleep."""
        found = self._rows.get(key)
        if found is None:
            chunks = [c for c in self._archives.chunks(key) if c.number != HEADS]
            found = [row for chunk in chunks for row in self._chunk(key, chunk)]
            self._rows = {key: found}
        return found

    def _heads(self, key: int) -> dict[int, tuple[bytes, bytes]]:
        found = self._tops.get(key)
        if found is None:
            found = {
                revision: (payload, digest)
                for chunk in self._archives.chunks(key, HEADS)
                for revision, _, payload, digest in self._chunk(key, chunk)
            }
            self._tops = {key: found}
        return found

    # --- as a log -----------------------------------------------------------------------------

    def entry(self, key: int) -> tuple[Any, Any, Any] | None:
        """Id, latest revision and hash of a session in the list of sessions."""
        return self._log.entry(key)

    def entries(self) -> Iterable[tuple[Any, Any]]:
        """Key and id of each session in that list."""
        return self._log.entries()

    def keys(self) -> Iterator[int]:
        """Each key that there are rows of; one may come again."""
        yield from self._log.keys()
        yield from self._archives.owners()

    def revisions(self, key: int, upto: int) -> Iterator[int]:
        """Revisions that there are rows of, the latest first; one may come again."""
        return self._either(self._log.revisions(key, upto), lambda: self._revisions(key, upto))

    def readable(self, key: int, upto: int) -> Iterator[int]:
        """The same, up to where what holds them cannot be read."""
        return self._either(self._log.readable(key, upto), lambda: self._revisions(key, upto))

    def _revisions(self, key: int, upto: int) -> Iterator[int]:
        held = {row[0] for row in self._asleep(key)} | self._heads(key).keys()
        return iter(sorted((at for at in held if at <= upto), reverse=True))

    def rows(self, key: int, upto: int) -> Iterator[Stored]:
        """The rows in order, heads left out, but for those that cannot be read."""
        return self._either(
            self._log.rows(key, upto),
            lambda: (row for row in self._asleep(key) if row[0] <= upto),
        )

    def head(self, key: int, revision: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a snapshot's head."""
        return self._log.head(key, revision) or self._heads(key).get(revision)

    def heads(self, key: int) -> Iterator[tuple[int, bytes, bytes]]:
        """Revision, payload and hash of each head, the latest first."""
        return self._either(
            iter(self._log.heads(key)),
            lambda: ((at, *head) for at, head in sorted(self._heads(key).items(), reverse=True)),
        )

    def row(self, key: int, revision: int, place: int) -> tuple[bytes, bytes] | None:
        """Payload and hash of a row."""
        if place == 0:
            return self.head(key, revision)
        found = self._log.row(key, revision, place)
        if found is None:
            for row in self._asleep(key):
                if row[:2] == (revision, place):
                    return row[2], row[3]
        return found

    def before(self, key: int, revision: int, place: int) -> bytes | None:
        """Hash of the row before it."""
        found = self._log.before(key, revision, place)
        if found is None:
            for row in self._asleep(key):
                if row[:2] >= (revision, place):
                    break
                found = row[3]
        return found

    def _either(self, first: Iterator[Any], other: Any) -> Iterator[Any]:
        """What the log has; where it has nothing, what sleeps."""
        nothing = True
        for found in first:
            nothing = False
            yield found
        if nothing:
            yield from other()
