"""Reading all of a store, to tell what of it is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import StoreDamagedError, StoreError
from .archives import Archives
from .asleep import ColdError, Whole
from .base import Damage, Verification
from .keeping import begins_at
from .log import latest, listed, read, revisions
from .reading import Chain, read_head
from .runs import run_from

Runs = Iterable[tuple[int, Sequence[Any]]]
"""Rows of the run log, each with its session's key."""


def check(
    log: Whole, runs: Runs, broken: Iterable[str], error: type[Exception]
) -> tuple[Verification, list[str]]:
    """What a store holds, and what of it is damaged: pages, hashes, roots, references.

    Args:
        log: Its sessions.
        runs: Its run log.
        broken: What the database itself knows to be damaged.
        error: What it raises where it cannot read.

    Returns:
        That, and the ids of sessions that are in cold storage, which is not read here: nobody
        else should have to wait for it.
    """
    damages = [Damage("", "database", text) for text in broken]
    snapshots = rows = 0
    cold: list[str] = []
    try:
        names, lost = listed(log)
    except error as why:
        return Verification(0, 0, 0, (*damages, Damage("", "database", str(why)))), []
    damages += lost
    for key, name in names.items():
        try:
            found = check_one(log, key, name)
        except ColdError:
            cold.append(name)
            continue
        snapshots, rows = snapshots + found.snapshots, rows + found.rows
        damages += found.damages
    damages += _runs(runs, names, error)
    return Verification(len(names), snapshots, rows, tuple(damages)), cold


def check_one(log: Whole, key: int, name: str) -> Verification:
    """What there is of one session, and what of it is damaged."""
    last, strange = latest(log, name, key)
    damages = [Damage(name, "session", text) for text in strange]
    chain = read(log, key, last)
    rows = sum(chain.mark(revision).size for revision in chain.marks)
    damages += [Damage(name, f"snapshot {r}", text) for r, text in chain.damages.items()]
    snapshots, after = 0, last + 1
    there = list(revisions(log, key, last))
    bottom = there[-1] - 1 if begins_at(log, key, there[-1]) else 0
    for revision in (*there, bottom):
        if revision < after - 1:
            damages.append(
                Damage(name, f"snapshots {revision + 1} to {after - 1}", "they are missing")
            )
        after = revision
        snapshots += revision > bottom
        if revision == bottom or revision in chain.damages:
            continue
        try:
            read_head(chain, revision, log.head(key, revision))
        except StoreDamagedError as why:
            damages.append(Damage(name, f"snapshot {revision}", str(why)))
    damages += _references(chain, name)
    damages += [Damage(name, "archive", text) for text in log.damages]
    log.damages.clear()
    return Verification(1, snapshots, rows, tuple(damages))


def with_cold(
    found: Verification,
    cold: Iterable[str],
    archives: Archives,
    look: Callable[[str, Mapping[int, bytes]], Verification],
) -> Verification:
    """What was found, and what is in cold storage: fetched, checked, and let go of again.

    Args:
        found: What was found of all others.
        cold: Ids of the sessions that are in cold storage.
        archives: What gives their chunks.
        look: Checks one, given its id and its chunks.
    """
    snapshots, rows, damages = found.snapshots, found.rows, list(found.damages)
    for session in cold:
        try:
            one = look(session, archives.fetch(session))
        except StoreError as error:
            damages.append(Damage(session, "archive", str(error)))
            continue
        snapshots, rows = snapshots + one.snapshots, rows + one.rows
        damages += one.damages
    return Verification(found.sessions, snapshots, rows, tuple(damages))


def _references(chain: Chain, name: str) -> list[Damage]:
    """Items that stand for others which the log does not have."""
    there = {row.item[0] for row in chain.rows if row.item is not None}
    return [
        Damage(name, f"item {row.item[0]}", f"it stands for {source}, which is not there")
        for row in chain.rows
        if row.item is not None
        for source in row.item[11]
        if source not in there
    ]


def _runs(runs: Runs, names: dict[int, str], error: type[Exception]) -> list[Damage]:
    damages: list[Damage] = []
    try:
        for key, row in runs:
            try:
                run_from(key, row)
            except StoreError as why:
                damages.append(Damage(names.get(key, ""), "run log", str(why)))
    except error as why:
        damages.append(Damage("", "run log", str(why)))
    return damages
