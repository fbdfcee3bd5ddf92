"""Finding the store that a path or an address names; one for each file in a process."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ..errors import ConfigurationError, StoreError
from .base import Store
from .sqlite import MEMORY, SQLiteStore

FILE_NAME = "memtrace.db"
"""Name of the database where a folder is given."""

_open: weakref.WeakValueDictionary[tuple[str, str], SQLiteStore] = weakref.WeakValueDictionary()
_servers: weakref.WeakValueDictionary[str, Store] = weakref.WeakValueDictionary()
_latest: list[Store] = []
"""The server that was opened last is held on to: one who opens a session for each request, and
closes it, would else connect anew each time."""

_opening = threading.Lock()


def open_store(target: Any = None, *, make: bool = True) -> Store:
    """The store for a target.

    Args:
        target: A path; ``sqlite:///relative.db``, ``sqlite:////absolute.db``, with
            ``?synchronous=NORMAL`` to let a power cut take the last moments; a folder (it ends
            in a slash, or exists), which is made with mode 0700 and holds ``memtrace.db``;
            ``postgresql://user:password@host:5432/database``, with ``?schema=name`` for another
            schema than ``memtrace``; ``:memory:`` or None: this process's memory, for one
            session; or a store.
        make: Whether to make the file, or the schema, if it is not there.

    Raises:
        ConfigurationError: It is nothing of these.
        StoreError: It cannot be opened.
    """
    if target is None or target in (MEMORY, "sqlite://", "sqlite:///:memory:"):
        return SQLiteStore(MEMORY)
    if isinstance(target, str) and target.startswith(_POSTGRES):
        return _postgres(target, make)
    if isinstance(target, (str, os.PathLike)):
        path, synchronous = _path(os.fspath(target))
        return _sqlite(path, synchronous, make)
    if callable(getattr(target, "submit", None)) and callable(getattr(target, "load", None)):
        return target  # type: ignore[no-any-return]  # one of the protocol's
    raise ConfigurationError(
        f"store takes a path, an address such as 'sqlite:///memory.db', or a store; got {target!r}"
    )


_POSTGRES = ("postgresql://", "postgres://")


def _postgres(url: str, make: bool) -> Store:
    try:
        from .postgres import PostgresStore
    except ImportError as error:  # it has no name where psycopg is there, and libpq is not
        if error.name is not None and not error.name.startswith("psycopg"):
            raise
        raise StoreError(
            "a store in PostgreSQL needs psycopg: pip install 'memtrace-otel[postgres]'"
        ) from error
    with _opening:
        store = _servers.get(url)
    if store is None:  # not under the lock: nobody else has to wait for a server
        made = PostgresStore(url, make=make)
        with _opening:
            store = _servers.setdefault(url, made)
            _latest[:] = [store]
    return store


def _path(target: Any) -> tuple[str, Any]:
    if not isinstance(target, str) or not target.strip() or "\0" in target:
        told = "..." if "://" in str(target) else repr(target)
        raise ConfigurationError(
            f"store takes a path or an address such as 'sqlite:///memory.db', got {told}"
        )
    if "://" not in target:
        return target, "FULL"
    parts = urlsplit(target)
    if parts.scheme != "sqlite" or parts.netloc:
        # Not all of it is told: an address of somebody's server may have a password.
        raise ConfigurationError(
            f"no store for {parts.scheme}://...: the addresses are sqlite:///relative.db, "
            "sqlite:////absolute.db and postgresql://user:password@host:5432/database"
        )
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    synchronous = options.pop("synchronous", "FULL").upper()
    if options or synchronous not in ("FULL", "NORMAL"):
        raise ConfigurationError(
            f"{target!r}: the only option is synchronous=FULL or synchronous=NORMAL"
        )
    return unquote(parts.path)[1:], synchronous


def _sqlite(path: str, synchronous: Any, make: bool) -> SQLiteStore:
    place = Path(path)
    # Not `Path`'s own: before Python 3.14 they raise where the path may not be looked at.
    folder = path.endswith(("/", os.sep)) or os.path.isdir(place)  # noqa: PTH112
    if not make and not os.path.exists(place / FILE_NAME if folder else place):  # noqa: PTH110
        raise StoreError(f"there is no store {path}")
    if folder:
        try:
            place.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the folder {place} for a store: {error}") from error
        place /= FILE_NAME
    real = os.path.realpath(place)
    with _opening:
        store = _open.get((real, synchronous))
        if store is None:
            other = next((s for (at, _), s in _open.items() if at == real), None)
            if other is not None:
                raise ConfigurationError(
                    f"{real} is open in this process already, with another synchronous setting"
                )
            store = _open[real, synchronous] = SQLiteStore(real, synchronous=synchronous)
        return store


def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
