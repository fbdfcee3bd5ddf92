"""What belongs together in a conversation: calls with their results, and what thought of them.

A history stays valid as long as whole units move together. A unit is one message, or the
messages from a tool call (with the reasoning items right before it) to the last result that
answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..messages import Facts


@dataclass(slots=True, eq=False)
class Unit:
    """Messages that are kept or dropped together.

    Attributes:
        places: Their positions, ascending.
        open_calls: Ids of calls that nothing answers yet, in order.
        has_calls: Whether it has calls, answered or not.
        given_up: Whether the user spoke while a call of it was open: where nothing answered it
            since, nothing will.
    """

    places: list[int] = field(default_factory=list)
    open_calls: list[str] = field(default_factory=list)
    has_calls: bool = False
    given_up: bool = False

    @property
    def answered(self) -> bool:
        """Whether it has calls, and every one is answered."""
        return self.has_calls and not self.open_calls


def units(facts: Sequence[Facts]) -> list[Unit]:
    """The units of a conversation, in the order of their first messages.

    A result answers the latest call of its id that is not answered yet, so that an id used
    twice never pairs with the wrong result. Calls whose messages interleave are one unit.

    >>> from memtrace.messages import facts as read
    >>> call = {"id": "c1", "function": {"name": "ls", "arguments": "{}"}}
    >>> talk = [{"role": "user", "content": "go"},
    ...         {"role": "assistant", "content": None, "tool_calls": [call]},
    ...         {"role": "tool", "tool_call_id": "c1", "content": "a.py"}]
    >>> [unit.places for unit in units([read(message) for message in talk])]
    [[0], [1, 2]]
    """
    return _Pairing().read(facts)


class _Pairing:
    """One reading of a conversation, message by message."""

    def __init__(self) -> None:
        self.found: list[Unit] = []
        self.asking: dict[str, list[Unit]] = {}  # units by the ids of calls still open
        self.thoughts: list[int] = []  # reasoning items that lead to something not seen yet
        self.last: Unit | None = None

    def read(self, facts: Sequence[Facts]) -> list[Unit]:
        for place, fact in enumerate(facts):
            asks = fact.role == "assistant" and not fact.results
            if asks and fact.signed and not fact.calls:
                self.thoughts.append(place)
                continue
            unit = self._answered_by(fact) or self._same_turn(place, fact) or self._new()
            unit.places += self._taken_thoughts(asks)
            unit.places.append(place)
            for call in fact.calls:
                unit.has_calls = True
                unit.open_calls.append(call.id)
                self.asking.setdefault(call.id, []).append(unit)
            if fact.kind == "user":
                for waiting in self.asking.values():
                    for asked in waiting:
                        asked.given_up = True
            self.last = unit
        self._taken_thoughts(False)
        for unit in self.found:
            unit.places.sort()
        return sorted(self.found, key=lambda unit: unit.places[0])

    def _new(self) -> Unit:
        unit = Unit()
        self.found.append(unit)
        return unit

    def _answered_by(self, fact: Facts) -> Unit | None:
        unit: Unit | None = None
        for identity in fact.results:
            waiting = self.asking.get(identity)
            if waiting:
                owner = waiting.pop()
                owner.open_calls.remove(identity)
                unit = owner if unit is None else self._merged(unit, owner)
        return unit

    def _same_turn(self, place: int, fact: Facts) -> Unit | None:
        """Parallel calls sent as items of their own: one turn, one unit."""
        last = self.last
        if last is None or not fact.calls or fact.role != "assistant" or not last.open_calls:
            return None
        return last if last.places[-1] == place - 1 - len(self.thoughts) else None

    def _taken_thoughts(self, asks: bool) -> list[int]:
        """Reasoning goes with what it led to; where that is nobody's answer, it stands alone."""
        thoughts, self.thoughts = self.thoughts, []
        if thoughts and not asks:
            self.found.append(Unit(thoughts))
            return []
        return thoughts

    def _merged(self, one: Unit, other: Unit) -> Unit:
        """One message answers calls of two units: they are one from here on."""
        if one is not other:
            one.places += other.places
            one.open_calls += other.open_calls
            self.found.remove(other)
            for waiting in self.asking.values():
                waiting[:] = [one if unit is other else unit for unit in waiting]
        return one


def faults(facts: Sequence[Facts]) -> list[str]:
    """What a provider would refuse about the order of calls and results; empty where valid.

    A result must follow the call it answers, and a call must be answered before the next
    message that is neither a result nor a call of the same turn; calls at the end may be open.
    """
    problems: list[str] = []
    waiting: list[str] = []
    for place, fact in enumerate(facts):
        for identity in fact.results:
            if identity in waiting:
                waiting.remove(identity)
            else:
                problems.append(f"message {place} answers {identity!r}, which nothing asked")
        if waiting and not fact.results and not fact.calls and fact.role != "assistant":
            problems.append(f"message {place} comes before {waiting[0]!r} is answered")
            waiting.clear()
        waiting += [call.id for call in fact.calls]
    return problems
