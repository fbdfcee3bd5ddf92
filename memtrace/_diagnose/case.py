"""A session as a diagnosis reads it: one pass over what it holds, and what it remembers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any

from msgspec.msgpack import Encoder

from ..errors import StoreError
from ..messages import facts
from ..session import Session
from ..values import Item, LoggedRun

WORTH = 50
"""Tokens from which on a repeated content is counted as a duplicate."""

_encode = Encoder().encode


class Case:
    """What there is to be known of a session, each part worked out when it is asked for.

    Attributes:
        session: What is looked at. It is not changed.
        profile: Memory as it is.
        history: The messages shown.
        contexts: Working memory's items.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        with session.lock:
            self.profile = session.profile()
            self.policy = session.policy
            self.history = session.history.items
            self.contexts = session.active_contexts.items
            self.active_runs = session.active_runs()
            self.billed = tuple(session.record.billed)
            self.now = session.now()

    @property
    def budget(self) -> int:
        """Tokens of the whole budget."""
        return self.profile.token_budget

    def share(self, tokens: float) -> float:
        """Of the whole budget."""
        return tokens / self.budget

    @cached_property
    def held(self) -> tuple[Item, ...]:
        """What a model call would carry, agents' states aside."""
        return (*self.history, *self.contexts)

    # --- the loop's past --------------------------------------------------------------------

    @cached_property
    def runs(self) -> tuple[LoggedRun, ...]:
        """The agents' runs in the run log, oldest first."""
        runs: Iterable[LoggedRun]
        try:
            runs = self.session.run_log()
        except StoreError:  # what this process knows is worth having when the disk is not
            runs = self.session.journal.waiting_runs()
        return tuple(run for run in runs if run.kind == "agent")

    @property
    def late_runs(self) -> tuple[LoggedRun, ...]:
        """Those of them that monitoring looks at."""
        return self.runs[-self.policy.cleanup_window :]

    # --- working memory ---------------------------------------------------------------------

    @property
    def inactive(self) -> list[Item]:
        """Contexts that no recent run used."""
        return [i for i in self.contexts if not i.pinned and i.run_id not in self.active_runs]

    # --- one pass over all that a model call would carry ------------------------------------

    @cached_property
    def calls(self) -> dict[str, str]:
        """Name of the tool by the id of its call."""
        return {
            call.id: call.name
            for item in self.history
            if item.kind == "assistant"
            for call in (item.facts or facts(item.content)).calls
        }

    @cached_property
    def by_tool(self) -> dict[str, list[Item]]:
        """Messages with a tool's outputs, by its name."""
        found: dict[str, list[Item]] = defaultdict(list)
        for item in self.history:
            if item.kind == "tool":
                results = (item.facts or facts(item.content)).results
                found[self.calls.get(results[0], "unknown") if results else "unknown"].append(item)
        return dict(found)

    @cached_property
    def by_agent(self) -> dict[str, int]:
        """Tokens by the agent that they are of, its state included."""
        found: Counter[str] = Counter()
        for item in (*self.held, *self.session.agents.items):
            if item.agent is not None:
                found[item.agent] += item.tokens
        return dict(found)

    @cached_property
    def duplicates(self) -> list[list[Item]]:
        """Items of the same content, the groups of which more than one are held."""
        seen: dict[Any, Item] = {}
        groups: dict[Any, list[Item]] = {}
        for item in self.held:
            if item.tokens >= WORTH:
                key = _key(item.content)
                first = seen.setdefault(key, item)
                if first is not item:
                    groups.setdefault(key, [first]).append(item)
        return list(groups.values())

    @property
    def duplicate_tokens(self) -> int:
        """Tokens of all but the last of each group."""
        return sum(item.tokens for group in self.duplicates for item in group[:-1])

    @cached_property
    def kept(self) -> dict[str, list[Item]]:
        """What no action makes shorter, by what it is."""
        users = [i for i in self.history if i.kind == "user" and not i.derived_from]
        states = [item for item in self.session.agents.items if item.tokens]
        return {
            "pinned contexts": [i for i in self.contexts if i.pinned],
            "system prompts": [i for i in self.history if i.kind == "system"],
            "first task": users[:1],
            "latest user turn": users[1:][-1:],
            "agent states": states,
        }

    @property
    def irreducible(self) -> int:
        """Tokens of that."""
        return sum(map(total, self.kept.values()))

    @property
    def shortenable(self) -> set[str]:
        """Ids of the items that an action may make shorter."""
        fixed = {item.id for items in self.kept.values() for item in items}
        return {i.id for i in self.held if i.id not in fixed}

    # --- when things came -------------------------------------------------------------------

    @cached_property
    def begun_at(self) -> float | None:
        """When the first run, or else the first reply, brought something; None: nothing yet."""
        received = self.session.history.received
        in_runs = (i.created_at for i in (*received, *self.contexts) if i.run_id is not None)
        first = min(in_runs, default=None)
        if first is not None:
            return first
        return next((i.created_at for i in received if i.kind == "assistant"), None)

    @property
    def carried(self) -> list[Item]:
        """What the session began with and would send with a model call still."""
        if self.begun_at is None:
            return []
        begun_at = self.begun_at
        return [item for item in self.held if item.created_at < begun_at]

    @cached_property
    def reviewed_at(self) -> float | None:
        """When it was last reviewed: by what it knows itself, or its store; None: never."""
        session, told = self.session, [self.session.record.reviewed_at]
        if session.durable:
            try:
                found = session.journal.store.upkeep.find(session.id)
                told.append(None if found is None else found.reviewed_at)
            except StoreError:  # what this process knows is worth having when the disk is not
                pass
        return max((at for at in told if at is not None), default=None)

    @property
    def unreviewed(self) -> list[Item]:
        """What is past its retention review, the oldest first."""
        due = self.now - self.policy.retention_review_s
        if self.reviewed_at is not None and self.reviewed_at > due:
            return []
        held = (*self.held, *self.session.archived_contexts.items)
        return sorted((i for i in held if i.created_at < due), key=lambda item: item.created_at)


def total(items: Iterable[Item]) -> int:
    """Tokens of items."""
    return sum(item.tokens for item in items)


def _key(content: Any) -> Any:
    """What equal contents have in common: of a message its text, where it is all that it says."""
    if type(content) is dict and "tool_calls" not in content:
        content = content.get("content", content)
    if type(content) is str:
        return content
    try:
        return _encode(content)
    except Exception:
        return id(content)  # not data: equal to nothing else
