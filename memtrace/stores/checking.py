"""Reading all of a store, to tell what of it is damaged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import StoreDamagedError, StoreError
from .base import Damage, Verification
from .log import Log, latest, listed, read, revisions
from .reading import Chain, read_head
from .runs import run_from

Runs = Iterable[tuple[int, Sequence[Any]]]
"""Rows of the run log, each with its session's key."""


def check(log: Log, runs: Runs, broken: Iterable[str], error: type[Exception]) -> Verification:
    """What a store holds, and what of it is damaged: pages, hashes, roots, references.

    Args:
        log: Its sessions.
        runs: Its run log.
        broken: What the database itself knows to be damaged.
        error: What it raises where it cannot read.
    """
    damages = [Damage("", "database", text) for text in broken]
    snapshots = rows = 0
    try:
        names, lost = listed(log)
    except error as why:
        return Verification(0, 0, 0, (*damages, Damage("", "database", str(why))))
    damages += lost
    for key, name in names.items():
        last, strange = latest(log, name, key)
        damages += [Damage(name, "session", text) for text in strange]
        chain = read(log, key, last)
        rows += sum(chain.mark(revision).size for revision in chain.marks)
        damages += [Damage(name, f"snapshot {r}", text) for r, text in chain.damages.items()]
        after = last + 1
        for revision in (*revisions(log, key, last), 0):
            if revision < after - 1:
                damages.append(
                    Damage(name, f"snapshots {revision + 1} to {after - 1}", "they are missing")
                )
            after = revision
            snapshots += revision > 0
            if not revision or revision in chain.damages:
                continue
            try:
                read_head(chain, revision, log.head(key, revision))
            except StoreDamagedError as why:
                damages.append(Damage(name, f"snapshot {revision}", str(why)))
        damages += _references(chain, name)
    damages += _runs(runs, names, error)
    return Verification(len(names), snapshots, rows, tuple(damages))


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
