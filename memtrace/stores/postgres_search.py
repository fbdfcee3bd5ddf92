"""The index by which a session's items are found again, in PostgreSQL's full-text search.

As in SQLite it holds nothing that is not elsewhere, and each word in it begins with its session's
number, so a query reads one session's words alone.

What a text says is a ``tsvector`` that holds how often it says each word, as so many positions. A
GIN index finds the texts that have any word; their order is BM25, with the constants of SQLite's:
PostgreSQL's own rank does not know how rare a word is, and finds less.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from psycopg.types.numeric import Int4, Int8

from .base import Found, Indexing, OutOfStepError
from .postgres_pool import Connection
from .postgres_schema import said

_LONGEST = 256
"""Characters of one word; PostgreSQL's own limit is 2,046 bytes."""

_MOST_BYTES = 900_000
"""Of one text's words; PostgreSQL's own limit is 1,048,575."""

_MOST_TIMES = 30
"""How often a text says a word, at most: more would no longer change its score."""

_STEMS = 50_000
"""Words whose stems are kept at hand."""

_MARKS = re.compile("[\u0300-\u036f]")


class Stems:
    """Stems of words, as the database has them."""

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._stems: dict[str, str] = {}

    def of(self, connection: Connection, words: Iterable[str]) -> dict[str, str]:
        """The stem of each word; one that has no letters a store can take has none."""
        plain = {word: text for word in words if (text := _plain(word))}
        known = self._stems
        fresh = set(plain.values()) - known.keys()
        if len(known) + len(fresh) > _STEMS:
            known, fresh = {}, set(plain.values())
        if fresh:
            # Behind a consonant, as in SQLite's index: "one" would else be "on", "use" be "us".
            for word, stem in connection.execute(
                f"SELECT word, substr((ts_lexize('\"{self._schema}\".stem', 'q' || word))[1], 2)"  # noqa: S608
                " FROM unnest(%s::text[]) AS word".encode(),
                (sorted(fresh),),
            ).fetchall():
                known[word] = stem or word
        self._stems = known
        return {word: known[text] for word, text in plain.items()}


def put(connection: Connection, schema: str, stems: Stems, key: int, change: Indexing) -> None:
    """Take items out of a session's index, and others in; in a transaction.

    Raises:
        OutOfStepError: Somebody else changed it meanwhile.
    """
    stemmed = stems.of(connection, {w for e in change.entries for w in e.words.split(" ")})
    with connection.transaction():
        number = _step(connection, schema, key, change)
        gone = connection.execute(
            said(
                "DELETE FROM {s}.passages WHERE recall = %s AND item = ANY(%s) RETURNING words",
                schema,
            ),
            (Int4(number), [_id(item) for item in change.gone]),
        ).fetchall()
        sizes, vectors = [], []
        for entry in change.entries:
            counts = Counter(stemmed[w] for w in entry.words.split(" ") if w in stemmed)
            sizes.append(counts.total())
            vectors.append(_vector(number, counts))
        connection.execute(
            said(_PUT, schema),
            (
                Int4(number),
                [_id(entry.item) for entry in change.entries],
                [entry.created_at for entry in change.entries],
                [entry.start for entry in change.entries],
                [entry.stop for entry in change.entries],
                sizes,
                vectors,
            ),
        )
        connection.execute(
            said(
                "UPDATE {s}.recalls SET texts = texts + %s, words = words + %s WHERE number = %s",
                schema,
            ),
            (
                len(sizes) - len(gone),
                sum(sizes) - sum(words for (words,) in gone),
                Int4(number),
            ),
        )


_PUT = """
    INSERT INTO {s}.passages (recall, item, created_at, start, stop, words, said)
    SELECT %s, r.item, r.created_at, r.start, r.stop, r.words, r.said::tsvector
    FROM unnest(%s::bytea[], %s::float8[], %s::integer[], %s::integer[], %s::integer[], %s::text[])
        AS r (item, created_at, start, stop, words, said)
"""


def _step(connection: Connection, schema: str, key: int, change: Indexing) -> int:
    """Have the index's mark go a step further; gives the session's number."""
    if change.before:
        statement = (
            "UPDATE {s}.recalls SET mark = %s WHERE session = %s AND mark = %s RETURNING number"
        )
        values: tuple[Any, ...] = (change.after, Int8(key), change.before)
    else:
        statement = (
            "INSERT INTO {s}.recalls (mark, session, texts, words) VALUES (%s, %s, 0, 0)"
            " ON CONFLICT (session) DO NOTHING RETURNING number"
        )
        values = change.after, Int8(key)
    found = connection.execute(said(statement, schema), values).fetchone()
    if found is None:
        raise OutOfStepError("the index was changed elsewhere")
    return int(found[0])


def indexed(connection: Connection, schema: str, key: int) -> tuple[bytes, dict[str, float]]:
    """The mark of a session's index, and when each item that it holds was made, by its id."""
    number, mark, _, _ = _recall(connection, schema, key)
    held = connection.execute(
        said(
            "SELECT item, max(created_at) FROM {s}.passages WHERE recall = %s GROUP BY item", schema
        ),
        (Int4(number),),
        binary=True,
    )
    return mark, {_text(item): made for item, made in held.fetchall()}


def search(
    connection: Connection,
    schema: str,
    stems: Stems,
    key: int,
    mark: bytes,
    words: Sequence[str],
    limit: int,
) -> list[Found]:
    """What holds any of these words, the best first.

    Raises:
        OutOfStepError: The index is not as that mark has it.
    """
    stemmed = stems.of(connection, words)
    number, found, texts, size = _recall(connection, schema, key)
    if found != mark:
        raise OutOfStepError("the index was changed elsewhere")
    terms = [_lexeme(number, stem) for stem in dict.fromkeys(stemmed.values())]
    if not terms or not texts:
        return []
    hits = connection.execute(
        said(_SEARCH, schema),
        {
            "terms": terms,
            "any": " | ".join(terms),
            "texts": Int8(texts),
            "size": max(1.0, size / texts),
            "limit": Int8(limit),
        },
        prepare=True,
        binary=True,
    )
    return [Found(_text(item), start, stop, score) for item, start, stop, score in hits.fetchall()]


# A rank of one word, said n times, is the sum of 1/i² for i up to n, divided by that of all i,
# π²/6. What is left of that sum tells n: it is 1/(n + ½), within a thirtieth.
_SEARCH = """
    WITH found AS MATERIALIZED (
        SELECT seq, item, start, stop, words, said FROM {s}.passages WHERE said @@ %(any)s::tsquery
    ), hits AS (
        SELECT found.seq, words, term.term,
            round((1 / (1.64493406685 * (1.0000001 - ts_rank('{{1,1,1,1}}', said, term.term)))
                - 0.5)::numeric)::float8 AS times,
            count(*) OVER (PARTITION BY term.term) AS among
        FROM found JOIN unnest(%(terms)s::tsquery[]) AS term (term) ON said @@ term.term
    ), scored AS (
        SELECT seq, sum(
            greatest(1e-6, ln((%(texts)s - among + 0.5) / (among + 0.5)))
            * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * words / %(size)s::float8))
        ) AS score
        FROM hits GROUP BY seq ORDER BY score DESC, seq LIMIT %(limit)s
    )
    SELECT item, start, stop, score FROM scored JOIN found USING (seq) ORDER BY score DESC, seq
"""


def _recall(connection: Connection, schema: str, key: int) -> tuple[int, bytes, int, int]:
    """Number and mark of a session's index, how many texts it has, and words they have in all."""
    found = connection.execute(
        said("SELECT number, mark, texts, words FROM {s}.recalls WHERE session = %s", schema),
        (Int8(key),),
        prepare=True,
        binary=True,
    ).fetchone()
    return (0, b"", 0, 0) if found is None else (found[0], bytes(found[1]), found[2], found[3])


# --- words ----------------------------------------------------------------------------------------


def _plain(word: str) -> str:
    """A word as PostgreSQL takes it: no NUL, no lone surrogates, no accents."""
    word = word[:_LONGEST].replace("\0", " ").strip()
    if word.isascii():
        return word
    word = word.encode("utf-8", "replace").decode()
    bare = _MARKS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", bare)


def _lexeme(number: int, stem: str) -> str:
    """A word of a session's, quoted: it is nothing but a word, whatever it is made of."""
    text = stem.replace("\\", "\\\\").replace("'", "''")
    return f"'{number} {text}'"


def _vector(number: int, counts: Counter[str]) -> str:
    """A text as a ``tsvector``: each word with as many positions as times it is said."""
    parts: list[str] = []
    size = 0
    for stem, times in counts.items():
        size += 4 * len(stem) + 2 * min(times, _MOST_TIMES) + 16
        if size > _MOST_BYTES:
            break
        parts.append(f"{_lexeme(number, stem)}:{_POSITIONS[min(times, _MOST_TIMES)]}")
    return " ".join(parts)


_POSITIONS = [",".join(map(str, range(1, times + 1))) for times in range(_MOST_TIMES + 1)]


def _id(item: str) -> bytes:
    return item.encode("utf-8", "surrogatepass")


def _text(stored: bytes) -> str:
    return bytes(stored).decode("utf-8", "surrogatepass")
