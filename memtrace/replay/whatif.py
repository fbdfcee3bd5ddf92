"""What other settings would have done: recorded sessions played at each of several, on all cores.

A session is read once, and each of its texts counted once, for all settings. What is handed to
other processes are paths and plain values; they are started afresh, since a forked one would hold
locks of threads that it does not have.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..counters import MemoCounter, get_counter
from ..errors import ConfigurationError, MemtraceError
from ..policy import Policy
from .played import Replay, Sent
from .playing import play
from .reading import read_session
from .sight import Names, Sighted

WORTH_A_PROCESS = 6_000_000
"""Bytes played, over all settings, up to which one process is faster: another takes half a second
to start, in which this one plays about three million."""

_MEMO = 1 << 18
"""Texts whose counts are remembered for one session."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What sessions are played with.

    Args:
        token_budget: Tokens; None: the policy's, else each session's own window.
        constants: What the policy has other than by default: plain values alone.

    Raises:
        ConfigurationError: The policy cannot work.
    """

    token_budget: int | None = None
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Policy(**self.constants)

    @property
    def policy(self) -> Policy:
        """The loop's constants."""
        return Policy(**self.constants)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one setting did, over one session or many.

    Args:
        sessions: How many were played.
        sent: What their model calls were sent, and what had to be read again.
        compactions: How often room was made.
        over_budget: Moments at which memory was above its budget.
        sighted: Which names were shown.
    """

    sessions: int = 0
    sent: Sent = field(default_factory=Sent)
    compactions: int = 0
    over_budget: int = 0
    sighted: Sighted = field(default_factory=Sighted)

    @classmethod
    def of(cls, replay: Replay) -> Outcome:
        """What one replay found."""
        sighted = replay.sighted or Sighted()
        return cls(1, replay.sent, replay.passes, replay.over_budget, sighted)

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.sessions + other.sessions,
            self.sent + other.sent,
            self.compactions + other.compactions,
            self.over_budget + other.over_budget,
            self.sighted + other.sighted,
        )


class Compared(NamedTuple):
    """What :func:`whatif` found.

    Args:
        outcomes: Setting by setting, in order.
        refused: Why files could not be played, one text each.
    """

    outcomes: list[Outcome]
    refused: list[str]


class _Task(NamedTuple):
    path: Path
    places: Sequence[int]  # of the settings


_Result = list[Outcome] | str


def whatif(
    paths: Sequence[Path],
    settings: Sequence[Setting],
    *,
    encoding: str | None = None,
    workers: int | None = None,
    told: Callable[[int], object] = lambda _: None,
) -> Compared:
    """Play recorded sessions at each of several settings.

    Args:
        paths: Recorded sessions.
        settings: At least one.
        encoding: What counts texts; None: the configured encoding.
        workers: Processes, > 0; None: as many as there are cores, or one where that is faster.
        told: Called with how many replays were finished since it was called last.

    Raises:
        ConfigurationError: The encoding is unknown, or a process was ended from outside.
    """
    get_counter(encoding)  # an unknown one is refused once
    sizes = {path: _size(path) for path in paths}
    if workers is None:
        workers = _cores() if sum(sizes.values()) * len(settings) > WORTH_A_PROCESS else 1
    tasks = _tasks(sorted(sizes, key=sizes.__getitem__, reverse=True), len(settings), workers)
    found, refused = [Outcome()] * len(settings), dict[Path, str]()
    for task, result in _played(tasks, settings, encoding, min(workers, len(tasks))):
        told(len(task.places))
        if isinstance(result, str):
            refused[task.path] = result
            continue
        for place, outcome in zip(task.places, result, strict=True):
            found[place] += outcome
    return Compared(found, [refused[path] for path in sizes if path in refused])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # what reads it says why


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _tasks(paths: Sequence[Path], settings: int, workers: int) -> list[_Task]:
    """What is done in one go, the longest first.

    Where sessions are fewer than processes, each is played by several, at other settings.
    """
    parts = min(settings, -(-workers // max(1, len(paths))))
    return [_Task(path, range(settings)[part::parts]) for path in paths for part in range(parts)]


def _played(
    tasks: Sequence[_Task], settings: Sequence[Setting], encoding: str | None, workers: int
) -> Iterator[tuple[_Task, _Result]]:
    """Each task with what came of it, in the order they end."""
    jobs = [(task.path, [settings[place] for place in task.places], encoding) for task in tasks]
    pool = _pool(workers) if workers > 1 else None
    if pool is None:
        for task, job in zip(tasks, jobs, strict=True):
            yield task, _play(*job)
        return
    try:
        futures = {pool.submit(_play, *job): task for task, job in zip(tasks, jobs, strict=True)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise ConfigurationError(
            "a process that played sessions was ended from outside, perhaps for want of memory; "
            "a single one needs less"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _play(path: Path, settings: Sequence[Setting], encoding: str | None) -> _Result:
    """One session at each setting; or why it cannot be played."""
    try:
        recorded = read_session(path)
        names = Names(recorded)
        counter = MemoCounter(get_counter(encoding), _MEMO)
        return [
            Outcome.of(
                play(
                    recorded,
                    token_budget=setting.token_budget,
                    policy=setting.policy,
                    counter=counter,
                    names=names,
                )
            )
            for setting in settings
        ]
    except MemtraceError as error:
        return str(error)


def _pool(workers: int) -> Executor | None:
    """Other processes; None where the machine allows none."""
    try:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    except (ImportError, OSError):  # no semaphores
        return None


def _begin() -> None:
    """A process starts: alerts are what is expected here, and it ends when the first one does."""
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
