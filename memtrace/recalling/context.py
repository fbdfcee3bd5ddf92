"""What a model call may be sent about a query: recent turns and recalled ones, within a budget.

Every message stands where it stood in the conversation; contexts stand before it. Calls and their
results are chosen together. A long message is shown in passages, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..actions.pairs import Unit, units
from ..errors import ConfigurationError
from ..memory import Memory
from ..messages import Binary, Facts, facts, rewrite, rewrite_arguments, texts
from ..values import Item
from .passages import LONG, Text, passages, text_of
from .recaller import Recaller
from .showing import covered, excerpt, once, shortened

RECENT_SHARE = 0.1
"""Share of a context that recent turns may take before anything is recalled. Source: at a tenth of
a recorded dialogue's tokens a small share shows .84 to .96 of the evidence, a window of recent
turns alone .07 to .10."""

LEAST = 12
"""Tokens below which nothing more is worth trying to fit in."""

CANDIDATES = 300
"""Texts that are tried, at most."""

REST, BESIDE = (2, 2), (4, 8)
"""When the rest of a message is tried that was found at a rank, and when the messages beside it:
at the turn of the text of rank a × rank + b."""

_PART = "[passage of a longer message, id {id}]\n{text}"
_LEFT_OUT = "[left out, id {id}]"
_BESIDE = "[from memory: {what}]\n{text}"
_OPENING = "[earlier messages, as far as they matter here]"


class Context(NamedTuple):
    """A context that was put together.

    Args:
        messages: In the conversation's order.
        tokens: What they count.
        recalled: How many items were recalled for it.
    """

    messages: list[Any]
    tokens: int
    recalled: int


def context(memory: Memory, recaller: Recaller, query: str, max_tokens: int) -> Context:
    """What to send about a query.

    Raises:
        ConfigurationError: The system prompt alone is more than ``max_tokens``.
        StoreError: The store cannot be read or written.
    """
    found = recaller.search(query, CANDIDATES)
    with memory.lock:
        received = list(memory.history._received)
    choice = _Choice(memory, recaller, received, max_tokens)
    choice.add_asked(query)
    choice.add_recent(int(max_tokens * RECENT_SHARE))
    choice.add_found(found)
    choice.add_recent(max_tokens)
    return choice.context()


@dataclass(slots=True)
class _Shown:
    """A unit that was chosen, and what is shown of it.

    Args:
        unit: The messages that stand together.
        spans: Of its long messages, what is shown, by place; of one that is not there, nothing.
        tokens: What it counts as shown.
        messages: As shown.
        whole: Whether nothing of it is left out.
    """

    unit: Unit
    spans: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    tokens: int = 0
    messages: list[tuple[int, Any]] = field(default_factory=list)
    whole: bool = False


class _Choice:
    """Chooses units of a conversation, and contexts, until the budget is used up."""

    def __init__(
        self, memory: Memory, recaller: Recaller, received: Sequence[Item], max_tokens: int
    ) -> None:
        self._memory, self._recaller, self._received = memory, recaller, received
        self._facts: list[Facts] = [item.facts or facts(item.content) for item in received]
        self._units = units(self._facts)
        self._unit_at = {place: unit for unit in self._units for place in unit.places}
        self._shown: dict[int, _Shown] = {}  # by the unit's first place, in order of choice
        self._beside: dict[Text, tuple[Any, int]] = {}
        self._recalled: set[str] = set()
        self._extra = 0  # tokens of a line that was added
        self._cut: dict[int, list[Text]] = {}  # messages' texts, by place
        self._places = {item.id: place for place, item in enumerate(received)}
        self._prompt = self._leading()
        prompt = sum(received[place].tokens for place in self._prompt)
        self._room = max_tokens - prompt
        if self._room < 0:
            raise ConfigurationError(
                f"max_tokens is {max_tokens}, and the system prompt alone has {prompt}; give more"
            )

    def _leading(self) -> list[int]:
        """Places of the system prompt: what the system said before anybody else spoke."""
        for place, fact in enumerate(self._facts):
            if fact.kind != "system":
                return list(range(place))
        return list(range(len(self._facts)))

    # --- what is tried, in order --------------------------------------------------------------

    def add_asked(self, query: str) -> None:
        """The user's latest turn, where it is the query itself."""
        for place in range(len(self._received) - 1, -1, -1):
            if self._facts[place].kind == "user":
                if query.strip() and query.strip() in text_of(self._received[place].content):
                    self._add(self._unit_at[place])
                return

    def add_recent(self, share: int) -> None:
        """Turns from the end on, as long as they fit into so many tokens."""
        least = self._room - share
        for unit in reversed(self._units):
            if unit.places[0] in self._shown:
                continue
            if self._room < LEAST or not self._add(unit, least=max(0, least)):
                return

    def add_found(self, found: Sequence[Text]) -> None:
        """What was found, what stands beside it, the best first, whatever of it fits."""
        for text in self._in_order(found):
            if self._room < LEAST:
                return
            place = self._places.get(text.item)
            if place is None:
                added = self._add_beside(text)
            else:
                added = self._add(self._unit_at[place], (place, (text.start, text.stop)))
            if added:
                self._recalled.add(text.item)

    def _in_order(self, found: Sequence[Text]) -> list[Text]:
        """Texts with the rest of their messages and the messages beside those, each at its turn."""
        turns = {text: rank for rank, text in enumerate(found, 1)}
        for text, rank in list(turns.items()):
            place = self._places.get(text.item)
            if place is None:
                continue
            for beside, turn in (
                (place, rank * REST[0] + REST[1]),
                (place + 1, rank * BESIDE[0] + BESIDE[1]),
                (place - 1, rank * BESIDE[0] + BESIDE[1]),
            ):
                for other in self._texts(beside):
                    turns[other] = min(turns.get(other, turn), turn)
        return sorted(turns, key=lambda text: turns[text])

    def _texts(self, place: int) -> list[Text]:
        if not 0 <= place < len(self._received):
            return []
        found = self._cut.get(place)
        if found is None:
            item = self._received[place]
            spans = passages(text_of(item.content), item.tokens)
            found = self._cut[place] = [Text(item.id, *span) for span in spans]
        return found

    # --- adding -------------------------------------------------------------------------------

    def _add(
        self, unit: Unit, part: tuple[int, tuple[int, int]] | None = None, least: int = 0
    ) -> bool:
        """Show a unit, or a part more of it; whether there was room for it.

        Args:
            unit: What stands together.
            part: A passage of one of its messages, by place; None: all of it.
            least: Tokens of room to leave.
        """
        key = unit.places[0]
        before = self._shown.get(key)
        if before is not None and before.whole:
            return False
        if key in self._prompt or not self._valid(unit):
            return False
        shown = _Shown(unit, {} if before is None else {p: set(s) for p, s in before.spans.items()})
        if part is not None:
            spans = shown.spans.setdefault(part[0], set())
            if part[1] in spans:
                return False
            spans.add(part[1])
        self._render(shown, whole=part is None)
        cost = shown.tokens - (0 if before is None else before.tokens)
        if cost > self._room - least:
            return False
        self._room -= cost
        self._shown[key] = shown
        return True

    def _valid(self, unit: Unit) -> bool:
        """Whether a provider takes it by itself: no call without a result, and none without it."""
        answers = any(self._facts[place].results for place in unit.places)
        return not unit.open_calls and (unit.has_calls or not answers)

    def _add_beside(self, text: Text) -> bool:
        """Show a context, or a passage of one, before the conversation."""
        item = self._recaller.item(text)
        if item is None:
            return False
        what = f"{item.kind} {item.key or item.id}".strip()
        said = text_of(item.content)
        message = self._said(_BESIDE.format(what=what, text=said))
        tokens = self._memory._count(message)
        if tokens > self._room:
            return False
        self._room -= tokens
        self._beside[text] = message, tokens
        return True

    # --- showing ------------------------------------------------------------------------------

    def _render(self, shown: _Shown, whole: bool) -> None:
        shown.whole = True
        for place in shown.unit.places:
            item = self._received[place]
            message = item.content
            if not whole and item.tokens > LONG:
                message = self._part_of(item, shown.spans.get(place, set()))
            tokens = item.tokens if message is item.content else self._memory._count(message)
            if tokens >= item.tokens:
                message, tokens = item.content, item.tokens
            shown.whole = shown.whole and message is item.content
            shown.messages.append((place, message))
            shown.tokens += tokens

    def _part_of(self, item: Item, spans: set[tuple[int, int]]) -> Any:
        """A long message in passages; of none, a note in its place."""
        text = text_of(item.content)
        if not spans:
            note = _LEFT_OUT.format(id=item.id)
        elif covered(spans) >= len(text):
            return item.content
        else:
            note = _PART.format(id=item.id, text=excerpt(text, spans))
        message = rewrite(item.content, once(note))
        return rewrite_arguments(message, shortened)

    def _said(self, text: str) -> Any:
        """A user's message of the form that this conversation has."""
        for item, fact in zip(self._received, self._facts, strict=True):
            if fact.kind == "user" and not any(isinstance(p, Binary) for p in texts(item.content)):
                return rewrite(item.content, once(text))
        return {"role": "user", "content": text}

    def context(self) -> Context:
        """What was chosen, in order."""
        opening = self._opening()
        chosen = [pair for shown in self._shown.values() for pair in shown.messages]
        messages = [
            *(self._received[place].content for place in self._prompt),
            *(message for message, _ in self._beside.values()),
            *opening,
            *(message for _, message in sorted(chosen, key=lambda pair: pair[0])),
        ]
        return Context(messages, self._tokens(), len(self._recalled))

    def _opening(self) -> list[Any]:
        """A user's line where none comes first, as providers want it; what was chosen last gives
        way to it."""
        opening: list[Any] = []
        while self._shown and not self._beside:
            if self._facts[min(self._shown)].kind == "user":
                return []
            opening = opening or [self._said(_OPENING)]
            tokens = self._memory._count(opening[0])
            if tokens <= self._room:
                self._extra = tokens
                return opening
            self._room += self._shown.popitem()[1].tokens
        return []

    def _tokens(self) -> int:
        prompt = sum(self._received[place].tokens for place in self._prompt)
        beside = sum(tokens for _, tokens in self._beside.values())
        shown = sum(shown.tokens for shown in self._shown.values())
        return prompt + beside + self._extra + shown
