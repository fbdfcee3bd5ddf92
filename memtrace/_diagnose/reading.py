"""Finding the session that is to be diagnosed: here, in a store, or in a recording."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.context import attach, detach, set_value

from ..errors import ConfigurationError
from ..memory import RUN
from ..policy import Policy
from ..replay import Recorded, RecordedMessage, read_session
from ..reviving import list_snapshots, revive, stored_budget
from ..session import Session
from ..values import TokenBudget

_RECORDING = (".jsonl", ".json", ".ndjson")


def subject(
    given: Any, session_id: str | None = None, token_budget: int | TokenBudget | None = None
) -> Session:
    """The session itself, or one made of what was stored or recorded.

    Raises:
        ConfigurationError: There is none, or it is not said which.
        StoreError: The store cannot be read.
    """
    if isinstance(given, Session):
        return given
    if is_recording(given):
        return _played(read_session(given), token_budget)
    return _stored(given, session_id, token_budget)


def is_recording(given: Any) -> bool:
    """Whether it names a recorded session's file, and not a store."""
    if not isinstance(given, (str, os.PathLike)) or "://" in os.fspath(given):
        return False
    path = Path(given)
    if path.suffix.lower() in _RECORDING:
        return True
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False


def _stored(given: Any, session_id: str | None, budget: int | TokenBudget | None) -> Session:
    from ..stores import open_store

    store = open_store(given, make=False)
    if session_id is None:
        known = sorted(store.sessions())
        if len(known) != 1:
            names = ", ".join(map(repr, known[:5])) or "none"
            raise ConfigurationError(
                f"{store.name} holds {len(known)} sessions, name one: diagnose(..., id=...); "
                f"there are {names}"
            )
        (session_id,) = known
    elif not store.heads(session_id, 1):
        raise ConfigurationError(f"{store.name} holds no session {session_id!r}")
    if budget is None:
        budget = stored_budget(store, session_id)
    session = Session(session_id, store=store, token_budget=budget)
    session._dismiss()  # it may be open elsewhere, and is in the metrics there
    revive(session, wakes=False)  # one that was put away stays so
    list_snapshots(session)
    return session


def _played(recorded: Recorded, budget: int | TokenBudget | None) -> Session:
    """What a recorded session held at its end: nothing was done about it."""
    session = Session(
        recorded.session_id,
        token_budget=budget if budget is not None else recorded.token_budget,
        policy=Policy.observe(),
    )
    session._dismiss()  # it is no session of this process, and none of its metrics
    for kind in ("system", "tools"):
        if content := recorded.header.get(kind):
            session.active_contexts.add(content, key=kind, kind=kind)
    for messages in recorded.runs():
        _read(session, messages)
    return session


def _read(session: Session, messages: Sequence[RecordedMessage]) -> None:
    """Take in what a run brought: without a span, an alert or a metric, for it is past."""
    run_id, *_ = session.open_run()
    token = attach(set_value(RUN, _Past(session, run_id)))
    try:
        for message in messages:
            billed = message.billed_tokens
            if billed is not None:
                held = session.profile().in_context_tokens
                session.record_usage(billed, counted_tokens=held, cached_tokens=_cached(message))
            session.history.append(message.message)
    finally:
        detach(token)
        session.close_run(run_id)


@dataclass(frozen=True, slots=True)
class _Past:
    """What stands for a run that is over long since: whose its items are."""

    memory: Session
    run_id: int
    agent: str | None = None
    parent: None = None
    policy: None = None


def _cached(message: RecordedMessage) -> int | None:
    """Prompt tokens read from the provider's cache; None: it had none, or does not say."""
    usage = message.notes.get("usage")
    read, written = (usage.get(name) for name in ("cache_read", "cache_write")) if usage else (0, 0)
    return read if isinstance(read, int) and (read or written) else None
