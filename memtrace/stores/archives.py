"""Putting sessions away in their own store, waking them, and moving archives to cold storage.

A session's rows are either in the log, or in chunks: one transaction takes them from one to the
other, so no crash leaves them in neither. A writer finds the log empty, and wakes the session
first. Objects in cold storage are written and read back before what they copy is let go of, and
each move has a folder of its own, which is noted before anything is put there: what no longer
belongs to anything can always be found and deleted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from ..errors import StoreDamagedError, StoreError
from . import cold
from .asleep import ColdError
from .base import Damage
from .log import key_of, name_of
from .packing import HEADS, Chunk, intact, pack, unpack
from .reading import Stored
from .shelving import (
    LEFTOVER,
    Archive,
    Desk,
    Shelf,
    give_up,
    idle_for,
    let_go,
    note,
    put_away,
    refuse_damaged,
    state,
    state_of,
    wake,
)


class Archives:
    """The archives of one store.

    Args:
        shelf: The store's database.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    @property
    def ready(self) -> bool:
        """Whether the store is open now: what is asked of one that was closed opens it."""
        return self._shelf.ready

    # --- what there is ------------------------------------------------------------------------

    def state(self, session: str) -> Archive | None:
        """What is known of a session; None: there is none."""
        return self._shelf.run(lambda desk: state(desk, session))

    def asleep(self) -> list[str]:
        """Ids of the sessions that are put away."""
        return self._ids("archived_at IS NOT NULL")

    def idle(self, idle_s: float) -> list[str]:
        """Ids of the sessions awake that were neither written nor woken for so many seconds."""
        if idle_s <= 0:  # not by the clock: what was written this moment may be a fraction ahead
            return self._ids("archived_at IS NULL AND used_at IS NOT NULL")
        return self._ids("archived_at IS NULL AND used_at <= {now} - ?", idle_s)

    def leftovers(self) -> list[str]:
        """Ids of sessions with objects in cold storage that no longer belong to anything."""
        return self._ids(LEFTOVER)

    def _ids(self, which: str, *values: Any) -> list[str]:
        statement = f"SELECT id FROM {{s}}sessions WHERE {which} ORDER BY used_at, key"  # noqa: S608
        found = self._shelf.run(lambda desk: desk.all(statement, *values))
        names = (name_of(stored) for (stored,) in found)
        return [name for name in names if name]  # of a deleted one there may be a row without it

    # --- putting away -------------------------------------------------------------------------

    def archive(self, session: str, idle_s: float = 0.0) -> Archive | None:
        """Put a session away, if it is awake and has been idle for so many seconds.

        Nobody waits while it is packed: where it is written meanwhile, it stays awake.

        Returns:
            What is known of it now; None: it stays as it is.

        Raises:
            StoreDamagedError: It is not whole. It stays as it is, so that nothing gets worse.
        """

        def look(desk: Desk) -> tuple[Archive | None, list[Stored]]:
            found = state(desk, session)
            if found is None or found.archived_at is not None or not idle_for(desk, found, idle_s):
                return None, []
            return found, list(desk.log(found.key))

        seen, rows = self._shelf.run(look)
        if seen is None:
            return None
        refuse_damaged(seen, rows, self._shelf.name)
        chunks = pack(seen.key, rows)
        return self._shelf.run(lambda desk: put_away(desk, seen, chunks), writes=True)

    def wake(self, session: str, since: float | None = None) -> bool:
        """Have a session's rows in the log again, wherever its chunks are; False: it is awake.

        A chunk that is damaged stays where it is, and the log goes on without its rows.

        Args:
            session: Its id.
            since: Only if it was put away then; None: whenever that was.

        Raises:
            StoreError: Cold storage cannot be reached, or does not have it as it was written.
        """
        fetched: Mapping[int, bytes] = {}
        while True:
            try:
                return self._shelf.run(partial(wake, session, fetched, since), writes=True)
            except ColdError:
                fetched = self.fetch(session)

    def rows(self, session: str) -> Iterator[Stored]:
        """All rows of a session, wherever they are, a chunk at a time; heads come first where it
        sleeps.

        Raises:
            StoreError: They cannot be read.
        """

        def look(desk: Desk) -> tuple[Archive | None, list[Stored], list[Chunk]]:
            found = state(desk, session)
            if found is None or found.archived_at is None:
                return found, list(desk.log(key_of(session))), []
            return found, [], desk.chunks(found.key)

        found, rows, chunks = self._shelf.run(look)
        yield from rows
        for chunk in chunks:
            assert found is not None
            fetched = chunk.payload is None and fetched_chunk(found, chunk)
            yield from unpack(found.key, chunk._replace(payload=fetched or chunk.payload))

    # --- cold storage -------------------------------------------------------------------------

    def move(self, session: str, url: str) -> Archive | None:
        """Move the archive of a session that sleeps to cold storage.

        Args:
            session: Its id.
            url: A folder: ``s3://bucket/prefix``, ``file:///folder``, ``memory:///`` or any that
                `obstore` knows.

        Returns:
            What is known of it now; None: it is awake, or was moved or woken meanwhile.

        Raises:
            StoreError: It cannot be reached, or did not keep what it was given. The archive stays
                where it was.
        """
        seen = state_of(self._shelf, session)
        if seen.archived_at is None or seen.moved:
            return None
        if seen.cold is not None:
            self.purge(session)
        folder = f"{url.rstrip('/')}/{seen.key:016x}-{os.urandom(4).hex()}"
        if not self._shelf.run(lambda desk: note(desk, seen, folder), writes=True):
            return None
        chunks = self._shelf.run(lambda desk: desk.chunks(seen.key))
        for chunk in chunks:
            if chunk.number != HEADS and chunk.payload is not None:
                cold.put(folder, object_name(chunk), chunk.payload)
                if not intact(seen.key, chunk, cold.get(folder, object_name(chunk))):
                    raise StoreError(f"{cold.told(folder)} did not keep what it was given")
        moved = self._shelf.run(lambda desk: let_go(desk, seen, folder, chunks), writes=True)
        if moved is None:
            cold.delete_all(folder)
        return moved

    def fetch(self, session: str) -> dict[int, bytes]:
        """Payloads of a session's chunks that are in cold storage, by number; nothing changes.

        Raises:
            StoreError: It cannot be reached, or does not have them as they were written.
        """
        found = state_of(self._shelf, session)
        chunks = self._shelf.run(lambda desk: desk.chunks(found.key))
        try:
            return {c.number: fetched_chunk(found, c) for c in chunks if c.payload is None}
        except StoreError:
            if self.state(session) == found:
                raise
            return self.fetch(session)  # it was brought back meanwhile, or put away anew

    def purge(self, session: str) -> None:
        """Delete a session's objects in cold storage that no longer belong to anything.

        Raises:
            StoreError: It cannot be reached.
        """
        folder = self._shelf.run(lambda desk: give_up(desk, session), writes=True)
        if folder is None:
            return
        cold.delete_all(folder)
        self._shelf.run(
            lambda desk: desk.do(
                "UPDATE {s}sessions SET cold = NULL WHERE key = ? AND cold = ?",
                key_of(session),
                folder,
            ),
            writes=True,
        )

    # --- checking -----------------------------------------------------------------------------

    def damages(self, session: str) -> list[Damage]:
        """Chunks of a session's archive that are not what was written, or cannot be reached."""
        found = self.state(session)
        if found is None:
            return []
        damages = []
        for chunk in self._shelf.run(lambda desk: desk.chunks(found.key)):
            try:
                fetched = chunk.payload is None and fetched_chunk(found, chunk)
                list(unpack(found.key, chunk._replace(payload=fetched or chunk.payload)))
            except StoreError as error:
                damages.append(Damage(session, f"archive, chunk {chunk.number}", str(error)))
        return damages


def object_name(chunk: Chunk) -> str:
    return f"{chunk.number}-{chunk.hash.hex()}"


def fetched_chunk(found: Archive, chunk: Chunk) -> bytes:
    if found.cold is None:
        raise StoreDamagedError(
            f"chunk {chunk.number} of session {found.session!r} is nowhere: its payload is gone"
        )
    try:
        payload = cold.get(found.cold, object_name(chunk))
    except StoreError as error:
        raise StoreError(
            f"session {found.session!r} is in cold storage, and cannot be brought back: {error}; "
            "nothing of it is lost, and it comes back once that can be read"
        ) from error
    if not intact(found.key, chunk, payload):
        raise StoreDamagedError(
            f"session {found.session!r} is in cold storage, and object {object_name(chunk)} in "
            f"{cold.told(found.cold)} is not what was written there"
        )
    return payload
