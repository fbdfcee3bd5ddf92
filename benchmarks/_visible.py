"""Whether a message is visible in what a model would be shown; see :mod:`benchmarks.retention`."""

from __future__ import annotations

import re
import sqlite3
from itertools import combinations
from typing import Any

from memtrace import measure_tokens
from memtrace.recalling.passages import text_of
from memtrace.recalling.words import words
from memtrace.stopwords import STOPWORDS

LARGE = 128
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*[\"'”’)\]]*")


class Stems:
    """Stems of words, by the stemmer that SQLite has."""

    def __init__(self) -> None:
        self._connection = connection = sqlite3.connect(":memory:")
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(a, tokenize = 'porter unicode61')")
        connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
        self._known: dict[str, str] = {}

    def of(self, text: str) -> frozenset[str]:
        """Stems of a text's words, stopwords left out."""
        return frozenset(self._stem(w) for w in words(text) if w not in STOPWORDS)

    def _stem(self, word: str) -> str:
        found = self._known.get(word)
        if found is None:
            self._connection.execute("DELETE FROM t")
            self._connection.execute("INSERT INTO t VALUES (?)", (word,))
            row = self._connection.execute("SELECT term FROM v").fetchone()
            found = self._known[word] = row[0] if row else word
        return found


def telling(text: str, question: dict[str, Any], stems: Stems) -> list[tuple[str, ...]]:
    """The smallest sets of a text's sentences that hold all of the answer's stems that it has."""
    answers = question["answer"]
    answers = answers if isinstance(answers, list) else [answers]
    sentences = [(part, stems.of(part)) for part in _SENTENCE.findall(text) if part.strip()]
    held = frozenset[str]().union(*(found for _, found in sentences))
    wanted = [stems.of(str(answer)) & held for answer in answers if answer is not None]
    most = max(map(len, wanted), default=0)
    return [
        some for stems_ in wanted if len(stems_) == most > 0 for some in _fewest(sentences, stems_)
    ]


def _fewest(
    sentences: list[tuple[str, frozenset[str]]], wanted: frozenset[str]
) -> list[tuple[str, ...]]:
    having = [(text, found & wanted) for text, found in sentences if found & wanted]
    for size in range(1, 4):
        sets = [
            tuple(text for text, _ in some)
            for some in combinations(having, size)
            if frozenset[str]().union(*(found for _, found in some)) == wanted
        ]
        if sets:
            return sets
    return [tuple(text for text, _ in having)]


def visible(message: Any, shown: str, question: dict[str, Any], stems: Stems) -> bool:
    """Whether a message is visible in what is shown."""
    text = text_of(message)
    if text in shown:
        return True
    tokens = measure_tokens(text)
    parts = [part for part in _SENTENCE.findall(text) if part.strip()]
    seen = sum(measure_tokens(part) for part in parts if part.strip() in shown)
    if seen >= 0.9 * tokens:
        return True
    if tokens <= LARGE:
        return False
    sets = telling(text, question, stems)
    return any(all(part.strip() in shown for part in some) for some in sets)
