"""Summaries by a model of the user's own, where the policy names one.

A draft is worked out without it first, so whatever goes wrong there is a digest to fall back on.
Then the summarizer is asked what each digest and each short form stands for, on a thread of its
own, and what it says takes their place if it is text, smaller, and names what is still spoken of.
No lock is held while it is asked but the one that keeps a session's passes apart.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

from ..messages import rewrite
from ..telemetry import names
from ..values import Item, Layer
from .digests import HEAD
from .draft import DIGEST, Draft
from .perform import tell_event
from .texts import once, text_of

logger = logging.getLogger("memtrace")

Summarizer = Callable[[list[Any], str], "str | Awaitable[str]"]
"""Takes messages and the summary so far (nothing at first); gives one summary of both."""

USED = "used"
_GIVES_UP = frozenset({"failed", "timeout", "busy", "event_loop"})
"""After one of these the summarizer is not asked again in the same pass."""

_GRACE_S = 0.5
"""Seconds that an async summarizer has to end after it was cancelled."""


class _Task(NamedTuple):
    """Something that the summarizer may tell better.

    Args:
        items: What the draft shows now: digests side by side, or a short form.
        olds: What they stand for.
        messages: What of it was in no summary yet.
        previous: The summary of what was.
    """

    items: list[Item]
    olds: list[Item]
    messages: list[Any]
    previous: str


def summarized(draft: Draft) -> dict[str, Any]:
    """Let the policy's summarizer tell what this draft's digests and short forms stand for.

    Returns:
        Attributes for the action's span: empty where there is no summarizer, or nothing for it.
    """
    summarizer = draft.policy.summarizer
    if summarizer is None:
        return {}
    ends = time.monotonic() + draft.policy.summarizer_timeout_s
    outcomes: list[str] = []
    for task in [*_digests(draft), *_short_forms(draft)]:
        outcome = _tell(draft, summarizer, task, ends - time.monotonic())
        outcomes.append(outcome)
        tell_event(names.EVENT_SUMMARY, {names.SUMMARY_OUTCOME: outcome})
        if outcome in _GIVES_UP:
            break
    if not outcomes:
        return {}
    amiss = next((outcome for outcome in outcomes if outcome != USED), USED)
    told = {names.SUMMARY_OUTCOME: amiss}
    if USED in outcomes:
        told[names.COMPRESSION_STRATEGY] = "summarizer"
    return told


# --- what there is to tell ------------------------------------------------------------------------


def _digests(draft: Draft) -> Iterator[_Task]:
    """Runs of neighbouring digests of which one is new: a running summary goes on from there."""
    found = {item.id: item for item in draft._found if item is not None}
    shown = [item for item in draft.history if item is not None]
    for told, run in groupby(shown, lambda item: item.kind == DIGEST):
        items = list(run)
        new = [item for item in items if item.id not in found]
        if not told or not new:
            continue
        sources = {source for item in new for source in item.derived_from}
        olds = [old for old in found.values() if sources.issuperset(old.derived_from or (old.id,))]
        earlier = [item for item in items if item.id in found]
        before = [_body(old) for old in (*earlier, *olds) if old.kind == DIGEST]
        messages = [old.content for old in olds if old.kind != DIGEST]
        if messages:
            yield _Task(items, [*earlier, *olds], messages, "\n".join(before))


def _short_forms(draft: Draft) -> Iterator[_Task]:
    found = {old.id: old for olds, *_ in draft._changes for old in olds}
    for item in [*draft.stored.values()]:
        old = found.get(item.derived_from[0]) if len(item.derived_from) == 1 else None
        if old is not None and old.content is not item.content and isinstance(item.content, str):
            message = {"role": "user", "content": _as_text(old.content)}
            yield _Task([item], [old], [message], "")


def _body(digest: Item) -> str:
    """A digest without the line that says how much it stands for."""
    return text_of(digest.content).partition("\n")[2]


def _as_text(content: Any) -> str:
    return content if isinstance(content, str) else str(content)


# --- asking ---------------------------------------------------------------------------------------


def _tell(draft: Draft, summarizer: Summarizer, task: _Task, timeout_s: float) -> str:
    """Ask, check, and take what was said. Returns ``used``, or why it was not."""
    outcome, said = ask(summarizer, task.messages, task.previous, timeout_s)
    if outcome != USED:
        return outcome
    if not isinstance(said, str):
        return "not_text"
    if not said.strip():
        return "empty"
    content = _content(task, said.strip())
    tokens = draft.memory._count(content)
    shown = sum(item.tokens for item in task.items)
    room = shown + max(0, draft.target_total - draft.total)
    if tokens > room or tokens >= sum(old.tokens for old in task.olds):
        return "larger"
    if _lost(draft, task, said):
        return "names_lost"
    _show(draft, task.items, content, tokens)
    return USED


def _content(task: _Task, said: str) -> Any:
    first = task.items[0]
    if first.layer is Layer.LONG_TERM_MEMORY:
        return said
    count = sum(len(item.derived_from) for item in task.items)
    return rewrite(first.content, once(f"{HEAD.format(count=count)}\n{said}"))


def _lost(draft: Draft, task: _Task, said: str) -> set[str]:
    """Names that what stays speaks of later, outside tool outputs, and the summary leaves out."""
    held = set(draft.names_in(task.previous))
    for old in task.olds:
        held.update(draft.names_in(_shown(old)))
    start = _place(draft, task.items[-1]) or 0
    spoken: set[str] = set()
    for place, item in enumerate(draft.history[start:], start):
        if item is not None and item.kind != DIGEST and not draft.facts[place].results:
            spoken.update(draft.names_of(item))
            for call in draft.facts[place].calls:
                spoken.update(draft.names_in(call.arguments_text))
    return {name for name in held & spoken if name not in said}


def _place(draft: Draft, item: Item) -> int | None:
    return next((at for at, shown in enumerate(draft.history) if shown is item), None)


def _shown(old: Item) -> str:
    if old.layer is Layer.CONVERSATION_HISTORY:
        return text_of(old.content)
    return _as_text(old.content)


def _show(draft: Draft, olds: list[Item], content: Any, tokens: int) -> None:
    """Show a summary in place of what the draft showed."""
    new = draft._derived(olds[0], olds, content, tokens, olds[0].kind)
    change = tokens - sum(old.tokens for old in olds)
    draft.total += change
    draft.compressed_out += change
    if new.layer is Layer.LONG_TERM_MEMORY:
        (old,) = olds
        del draft.stored[old.id]
        draft.stored[new.id] = new
        layer = draft.memory.archived_contexts

        def move() -> None:
            layer._discard(old.id)
            layer._insert(new)
            draft._fresh.append(new)

        draft._edit((old,), move)
        return
    draft._see(olds, new)
    places = [_place(draft, old) for old in olds]
    for place, shown in zip(places, (new, *(None for _ in olds[1:])), strict=True):
        assert place is not None
        draft.history[place] = shown
    draft._changes.append((tuple(olds), new, None))


_hanging: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""Threads whose summarizer did not answer in time, and has not since."""


def ask(
    summarizer: Summarizer, messages: list[Any], previous: str, timeout_s: float
) -> tuple[str, Any]:
    """Call a summarizer on a thread of its own; an async one runs there on a loop of its own.

    Args:
        summarizer: The user's.
        messages: What it is to summarize.
        previous: The summary so far.
        timeout_s: Seconds to wait. A call that takes longer is left to itself, an async one is
            cancelled; while one of its calls hangs a summarizer is not asked again.

    Returns:
        ``used`` and what it said; or why it said nothing: ``failed``, ``timeout``, ``busy`` (an
        earlier call hangs still) or ``event_loop`` (waiting here would stop the caller's loop).

    >>> ask(lambda messages, previous: f"{previous}{len(messages)} said", ["hi"], "", 5.0)
    ('used', '1 said')
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return "event_loop", None
    name = f"memtrace-summarizer-{id(summarizer)}"
    if any(thread.name == name and thread.is_alive() for thread in _hanging):
        return "busy", None
    if timeout_s <= 0:
        return "timeout", None
    answers: list[tuple[str, Any]] = []
    context = contextvars.copy_context()
    thread = threading.Thread(
        target=context.run,
        args=(_answer, summarizer, messages, previous, timeout_s, answers),
        name=name,
        daemon=True,
    )
    thread.start()
    thread.join(timeout_s + _GRACE_S)
    if not answers:
        _hanging.add(thread)
        return "timeout", None
    return answers[0]


def _answer(
    summarizer: Summarizer,
    messages: list[Any],
    previous: str,
    timeout_s: float,
    answers: list[tuple[str, Any]],
) -> None:
    try:
        said = summarizer(messages, previous)
        if inspect.isawaitable(said):
            said = asyncio.run(_within(said, timeout_s))
        answers.append((USED, said))
    except (TimeoutError, asyncio.TimeoutError):
        answers.append(("timeout", None))
    except BaseException as error:
        # Whatever it raised, SystemExit too, ends this thread and nothing else.
        logger.warning("the policy's summarizer failed: %s: %s", type(error).__name__, error)
        answers.append(("failed", None))


async def _within(said: Awaitable[Any], timeout_s: float) -> Any:
    return await asyncio.wait_for(said, timeout_s)
