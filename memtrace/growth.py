"""What a session's last turns added to its memory, read from what it holds: nothing is noted."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from .decide.forecast import LEAST, MOST, forecast

if TYPE_CHECKING:
    from .outlook import Forecast
    from .values import Item


def foresee(memory: Any, held_tokens: int, budget_tokens: int) -> Forecast | None:
    """The forecast of a session that holds so many tokens of a budget.

    A turn is a model's reply with all that came since the one before; where the history has too
    few of them, a run. What was compressed or dropped since counts as it came in.

    Args:
        memory: The session.
        held_tokens: As a profile has it.
        budget_tokens: The same.

    Returns:
        None: it has too few turns to tell.
    """
    with memory.lock:
        replies = _by_reply(memory.history._received, memory.active_contexts._by_id)
        if len(replies) >= LEAST:
            return forecast(held_tokens, budget_tokens, replies)
        items = [*memory.history._received[-_FURTHEST:], *memory.active_contexts.items]
        rows = tuple(memory.journal.run_rows)
    return forecast(held_tokens, budget_tokens, _by_run(rows, items), "run")


_FURTHEST = 4096
"""Messages that are looked at: 64 replies with 64 tool outputs each."""


def _by_reply(received: list[Item], contexts: dict[str, Item]) -> list[float]:
    """Tokens that each of the last replies brought, what it replied to included.

    The first is left out: it brings the task and what there was before it.
    """
    added: list[float] = []
    reply: Item | None = None  # the one that the messages looked at led to
    for item in islice(reversed(received), _FURTHEST):
        if item.kind == "assistant":
            if len(added) == MOST:
                reply = item
                break
            added.append(0.0)
            reply = item
        if reply is not None:
            added[-1] += item.tokens
    if reply is None or len(added) <= LEAST:
        return []
    if len(added) < MOST:
        added.pop()  # the first one ever, or one cut off by how far was looked
    beside = 0.0
    for item in reversed(contexts.values()):  # in the order they came
        if item.created_at <= reply.created_at:
            break
        beside += 0 if item.pinned else item.tokens
    return [tokens + beside / len(added) for tokens in reversed(added)]


def _by_run(rows: tuple[Any, ...], items: list[Item]) -> list[float]:
    """Tokens that each of the last runs added: as the run log has it, else by what came in it."""
    if len(rows) >= LEAST:
        # What actions freed within a run was added all the same.
        return [
            float(sum(row[7]) - sum(row[6]) + sum(report.tokens_freed for report in row[8]))
            for row in rows[-MOST:]
            if row[6] is not None and row[7] is not None
        ]
    by_run: dict[int, float] = {}
    for item in items:
        if item.run_id is not None:
            by_run[item.run_id] = by_run.get(item.run_id, 0.0) + item.tokens
    return [by_run[run_id] for run_id in sorted(by_run)][-MOST:]
