"""Searching one session: its index is brought up to date first, then asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ..memory import Memory
from ..values import Item
from .corpus import Corpus
from .fusing import fused, ranked
from .meaning import Meaning
from .passages import Passage, Text, passages, text_of, texts_of
from .words import joined, sought, words

if TYPE_CHECKING:
    from ..stores import Entry

_AT_ONCE = 500
"""Items indexed in one transaction: the sessions that share a store wait for no longer."""

_ATTEMPTS = 4
"""How often an index that others change at the same time is looked at anew."""


class Recaller:
    """Finds what of a session has to do with a query.

    Args:
        memory: The session.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._mark = b""
        self._in_step = False
        self.corpus = Corpus(memory)
        self._meaning = Meaning(memory.policy.embed)
        self._spans: dict[str, list[Text]] = {}  # of each item, where there is such a function

    def search(self, query: str, limit: int) -> list[Text]:
        """Texts that have any of a query's words or, with an embedding function, are alike to it.

        Args:
            query: Any text.
            limit: From how many they are chosen.

        Returns:
            The best first; of a long item each of its passages may be one.

        Raises:
            StoreError: The store cannot be read or written.
        """
        scores = self._search(sought(query), limit)
        found = ranked(scores, self.corpus)
        if not self._meaning.used:
            return found
        alike = self._meaning.search(query, self._texts(), self.read, limit)
        return fused(found, alike) if alike else found

    def _search(self, words: list[str], limit: int) -> dict[Text, float]:
        from ..stores import OutOfStepError

        for _ in range(_ATTEMPTS):
            try:
                mark = self._catch_up()
                hits = self._memory.journal.store.search(self._memory.id, mark, words, limit)
            except OutOfStepError:
                self._in_step = False
                continue
            holds = self.corpus.holds
            return {Text(*hit[:3]): hit.score for hit in hits if holds(hit.item)}
        raise OutOfStepError(
            f"the index of session {self._memory.id!r} is changed by others all the time"
        )

    def read(self, text: Text) -> str:
        """What a text says; empty: it is gone since."""
        item = self.corpus.item(text.item)
        return "" if item is None else text_of(item.content)[text.start : text.stop]

    def item(self, text: Text) -> Item | None:
        """An item whole, or the passage of it that a text is; None: it is gone since."""
        item = self.corpus.item(text.item)
        if item is None:
            return None
        said = text_of(item.content)
        if text.start <= 0 and text.stop >= len(said):
            return item
        return self._passage(item, said[text.start : text.stop], (text.start, text.stop))

    def _passage(self, item: Item, text: str, span: tuple[int, int]) -> Passage:
        return Passage(
            id=f"{item.id}[{span[0]}:{span[1]}]",
            layer=item.layer,
            kind=item.kind,
            content=text,
            tokens=self._memory._count(text),
            pinned=item.pinned,
            priority=item.priority,
            created_at=item.created_at,
            last_used_at=item.last_used_at,
            expires_at=item.expires_at,
            agent=item.agent,
            run_id=item.run_id,
            derived_from=(item.id,),
            key=item.key,
            span=span,
        )

    # --- the index ----------------------------------------------------------------------------

    def _catch_up(self) -> bytes:
        """Have all indexed that can be recalled, and nothing else. Gives the index's mark."""
        if self._process != os.getpid():  # the lock may be held by a thread that is not here
            self._lock, self._process, self._in_step = threading.Lock(), os.getpid(), False
        with self._lock:
            in_step, self._in_step = self._in_step, False
            fresh, gone = self.corpus.look() if in_step else self._compare()
            if fresh or gone:
                self._index(fresh, gone)
            self._in_step = True
            return self._mark

    def _compare(self) -> tuple[list[str], set[str]]:
        """What the store's index lacks, and what it has too many of."""
        self._mark, held = self._memory.journal.store.indexed(self._memory.id)
        corpus = self.corpus = Corpus(self._memory)
        corpus.look()
        if not held:
            return list(corpus.ids), set()
        gone = {item for item in held if not corpus.holds(item)}
        fresh = []
        for item_id, created_at in self._made():
            if held.get(item_id) != created_at:
                gone |= {item_id} & held.keys()
                fresh.append(item_id)
        return fresh, gone

    def _made(self) -> Iterator[tuple[str, float]]:
        with self._memory.lock:
            made = {item.id: item.created_at for item in self._memory.history._received}
        for item_id in self.corpus.ids:
            created_at = made.get(item_id)
            if created_at is None:
                item = self.corpus.item(item_id)
                if item is None:
                    continue
                created_at = item.created_at
            yield item_id, created_at

    def _index(self, fresh: Iterable[str], gone: Iterable[str]) -> None:
        for leaving in _slices(gone):
            self._change(leaving, ())
        for coming in _slices(fresh):
            self._change((), [entry for item_id in coming for entry in self._entries(item_id)])

    def _change(self, gone: Sequence[str], entries: Sequence[Entry]) -> None:
        from ..stores import Indexing

        mark = os.urandom(8)
        known = self._memory.journal.revision
        change = Indexing(self._mark, mark, gone, entries, known)
        self._memory.journal.store.index(self._memory.id, change).result()
        self._mark = mark

    def _entries(self, item_id: str) -> list[Entry]:
        from ..stores import Entry

        item = self.corpus.item(item_id)
        if item is None:
            return []
        text = text_of(item.content)
        return [
            Entry(item.id, item.created_at, start, stop, joined(words(text[start:stop])))
            for start, stop in passages(text, item.tokens)
        ]

    def _texts(self) -> list[Text]:
        """All texts by which items are found."""
        spans: dict[str, list[Text]] = {}
        for item_id in list(self.corpus.ids):
            found = self._spans.get(item_id)
            if found is None:
                item = self.corpus.item(item_id)
                found = [] if item is None else texts_of(item)
            spans[item_id] = found
        self._spans = spans
        return [text for found in spans.values() for text in found]


def _slices(ids: Iterable[str]) -> Iterator[list[str]]:
    waiting = iter(ids)
    while taken := list(islice(waiting, _AT_ONCE)):
        yield taken
