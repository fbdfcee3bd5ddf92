"""The computer's clock set back and forward: what is over stays over, times never run backwards."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest
from child import LETTERS

from memtrace import Session, checkpoint, cleanup_expired_items, memory, verify
from memtrace.stores import open_store

HOURS_2 = 7200.0


def opened(path: Path) -> Session:
    open_store(path).close()  # as another process would find it
    return Session.open("a", store=path, counter=LETTERS)


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> float:
    """When this process is said to have begun; set anew, it is a process after the clock was."""
    epoch = time.time() - time.monotonic()
    monkeypatch.setattr(memory, "_EPOCH", epoch)
    return epoch


def times(session: Session) -> list[float]:
    found = [item.created_at for layer in session.layers for item in layer.items if item.kind]
    return [*found, *(snapshot.created_at for snapshot in session.snapshots())]


@pytest.mark.parametrize("hours", [-2, 2, -24 * 365, 24 * 365])
def test_a_clock_that_was_set_while_nobody_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: float, hours: int
) -> None:
    """
    A session reopened after the clock was set goes on: nothing comes back to life, nothing new
    is older than what was there, and a value's life is as long as it was to be, or over.
    """
    path = tmp_path / "m.db"
    session = opened(path)
    session.cache.put("long", "v", ttl_s=HOURS_2 / 2)
    session.cache.put("over", "v", ttl_s=1e-6)
    session.active_contexts.add("note", key="note", ttl_s=1e-6)
    session.history.append({"role": "user", "content": "before"})
    with checkpoint(session, "before"):
        pass
    before = max(times(session))
    monkeypatch.setattr(memory, "_EPOCH", real + hours * 3600)
    session = opened(path)
    assert session.cache.get("over") is None
    assert session.cache.get("long") == ("v" if hours < 0 else None)
    assert session.now() >= before
    session.history.append({"role": "user", "content": "after"})
    cleanup_expired_items(session)
    assert session.active_contexts.get("note") is None
    with checkpoint(session, "after"):
        pass
    created = [item.created_at for item in session.history.items]
    assert created == sorted(created)
    taken = [snapshot.created_at for snapshot in session.snapshots()]
    assert taken == sorted(taken)
    assert verify(path).ok
    open_store(path).close()


def test_what_expired_before_the_clock_was_set_back_stays_expired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: float
) -> None:
    """
    A value that lived an hour was over when the session was last kept: two hours back on the
    clock it is still over, though that clock says it has an hour to live.
    """
    path = tmp_path / "m.db"
    session = opened(path)
    session.cache.put("hour", "v", ttl_s=3600)
    item = session.active_contexts.add("note", ttl_s=3600)
    with checkpoint(session, "alive"):
        pass
    monkeypatch.setattr(memory, "_EPOCH", real + 3601)
    assert session.cache.get("hour") is None
    with checkpoint(session, "over"):
        pass
    monkeypatch.setattr(memory, "_EPOCH", real + 3601 - HOURS_2)
    session = opened(path)
    assert session.cache.get("hour") is None
    cleanup_expired_items(session)
    assert session.active_contexts.get(item.id) is None
    open_store(path).close()


def test_times_never_run_backwards_whatever_the_clock_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real: float
) -> None:
    """Set back and forward again and again between processes: no time is before the last."""
    path = tmp_path / "m.db"
    last = 0.0
    for number, hours in zip(range(12), itertools.cycle([0, -2, 2, -48, 1, -1])):
        monkeypatch.setattr(memory, "_EPOCH", real + hours * 3600)
        session = opened(path)
        assert session.now() >= last
        session.history.append({"role": "user", "content": f"{number}"})
        with checkpoint(session, f"{number}"):
            last = session.snapshots()[-1].created_at
    created = [item.created_at for item in session.history.items]
    assert created == sorted(created)
    assert len(created) == 12
    open_store(path).close()
