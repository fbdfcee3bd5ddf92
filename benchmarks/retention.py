"""What of a conversation is found and kept: `python -m benchmarks.retention [--json PATH]`.

On recorded dialogues with questions (under MEMTRACE_SESSIONS, `dialogue_qa`; a folder of that
format may be named instead), each taken into a session whole.

- *recall@k*: share of a question's evidence messages among the first k items of
  ``session.recall(question, k)``; a passage counts as the message that it is of.
- *EV at a share*: share of a question's evidence messages that are visible in
  ``session.context_for(question, share of the session's tokens)``. Visible: at least 90% of its
  tokens; or, of a message over 128 tokens, each sentence of the smallest set that holds the
  content stems of the answer (of several answers, the one of which it has most).
  Beside it the same of as many tokens of random messages, and of the last ones (the window).
- Both over questions whose evidence is told by message; `odd` and `even`: every other session.
- *Speed*: over 100,000 messages cut from the recorded ones, of each question the time of
  ``session.recall`` / that of one bare FTS5 query of the same words over the same rows, with
  ``ORDER BY rank LIMIT 10``; both in processor time, in turn, the best of five. The figure is
  the 99th percentile of the one / that of the other.
- *Of the other store's*: recall@10 where sessions are kept in ``--store``, an address, or
  ``postgresql`` for a server of the tests', / that where they are kept in memory.
- *FR*: see :mod:`benchmarks._facts`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks._rounds import Row, report
from benchmarks._visible import Stems, visible
from memtrace import Session, measure_tokens
from memtrace.recalling.passages import text_of
from memtrace.recalling.words import sought, words
from memtrace.replay import read_session
from tests.sessions import session_files

RESULTS = Path(__file__).parent / "results" / "retention.json"
KIND = "dialogue_qa"
BARS = {("EV", 0.25): 0.97, ("EV", 0.1): 0.93, ("recall", 5): 0.93, ("recall", 10): 0.97}
ITEMS = 100_000
BESIDE = 0.95
"""What another store finds of what the embedded one finds, at least."""


@dataclass(frozen=True)
class Dialogue:
    """A recorded conversation and what is asked about it.

    Args:
        name: The file's.
        messages: In order.
        questions: With their answers, and places of the messages that hold them.
    """

    name: str
    messages: list[dict[str, Any]]
    questions: list[dict[str, Any]]

    def session(self, store: Any = None) -> Session:
        """A session that received all of it."""
        session = Session(self.name, token_budget=10**9, store=store)
        session.history.extend(self.messages)
        return session


def dialogues(folder: Path) -> list[Dialogue]:
    """The dialogues of a folder that have questions with evidence by message."""
    found = []
    for path in sorted(folder.glob(f"{KIND}/*.jsonl")) or sorted(folder.glob("*.jsonl")):
        asked = path.with_suffix("").with_suffix(".qa.json")
        if not asked.is_file():
            continue
        questions = [
            question
            for question in json.loads(asked.read_text("utf-8"))
            if question["evidence"] and question.get("evidence_level", "message") == "message"
        ]
        if questions:
            messages = [m.message for m in read_session(path).messages]
            found.append(Dialogue(path.stem, messages, questions))
    return found


def recorded(folder: Path) -> list[Path]:
    """The recorded sessions of a folder."""
    files = sorted(folder.glob("*/*.jsonl")) or sorted(folder.glob("*.jsonl"))
    return [path for path in files if '"session_id"' in path.open("rb").readline(2000).decode()]


# --- controls and figures ------------------------------------------------------------


def share_visible(
    dialogue: Dialogue, question: dict[str, Any], shown: Iterable[Any], stems: Stems
) -> float:
    """Share of a question's evidence that is visible in some messages."""
    text = "\n\n".join(map(text_of, shown))
    evidence = question["evidence"]
    return sum(visible(dialogue.messages[e], text, question, stems) for e in evidence) / len(
        evidence
    )


def window(messages: Sequence[Any], budget: int) -> list[Any]:
    """As many of the last messages as fit."""
    kept: list[Any] = []
    for message in reversed(messages):
        budget -= measure_tokens(message)
        if budget < 0:
            break
        kept.append(message)
    return kept


# --- figures --------------------------------------------------------------------------------------


@dataclass
class Figures:
    """Values of each figure, one a question."""

    values: dict[str, list[float]]

    def add(self, name: str, value: float, half: str) -> None:
        """Take in one question's."""
        for key in (name, f"{name}, {half} sessions"):
            self.values.setdefault(key, []).append(value)

    def row(self, name: str, least: float | None = None) -> Row:
        """The mean over questions."""
        return Row(name, statistics.fmean(self.values.get(name) or [0.0]), unit="", least=least)


def retention(found: Sequence[Dialogue], each: bool, store: Any = None) -> list[Row]:
    """recall@k and EV, with their controls."""
    figures, stems = Figures({}), Stems()
    for number, dialogue in enumerate(found):
        half = "odd" if number % 2 else "even"
        session = dialogue.session(store)
        ids = [item.id for item in session.history.items]
        rng = random.Random(dialogue.name)
        for question in dialogue.questions:
            missed = _recall(session, ids, question, half, figures)
            missed += _context(session, dialogue, question, half, (figures, stems, rng))
            if each and missed:
                print(f"{dialogue.name}: {question['question']} {missed}")
    names = [f"recall@{k}" for k in (5, 10)] + [f"EV at {s:.0%}" for s in (0.25, 0.1)]
    bars = [BARS["recall", 5], BARS["recall", 10], BARS["EV", 0.25], BARS["EV", 0.1]]
    rows = [figures.row(name, bar) for name, bar in zip(names, bars, strict=True)]
    rows += [figures.row(name) for name in figures.values if name not in names]
    return [*rows, Row("questions", len(figures.values.get("recall@5", [])), unit="")]


def beside(found: Sequence[Dialogue], rows: Sequence[Row], address: str) -> list[Row]:
    """recall@k where sessions are kept in another store."""
    from memtrace.stores import open_store
    from tests.postgres import Server

    server = Server(fsync="off") if address == "postgresql" else None
    try:
        store = open_store(address if server is None else server.url())
        figures = Figures({})
        for dialogue in found:
            session = dialogue.session(store)
            ids = [item.id for item in session.history.items]
            for question in dialogue.questions:
                _recall(session, ids, question, "any", figures)
        store.close()
    finally:
        if server is not None:
            server.remove()
    own = {row.name: row.value for row in rows}
    names = [f"recall@{k}" for k in (1, 5, 10)]
    there = [figures.row(name) for name in names]
    return [
        *(row._replace(name=f"{row.name} in the other store") for row in there),
        *(
            Row(f"{row.name}, of the other store's", row.value / own[row.name], least=BESIDE)
            for row in there
        ),
    ]


def _recall(
    session: Session, ids: list[str], question: dict[str, Any], half: str, figures: Figures
) -> list[str]:
    items = session.recall(question["question"], k=10)
    sources = [item.derived_from[0] if item.derived_from else item.id for item in items]
    evidence = [ids[place] for place in question["evidence"]]
    missed = []
    for k in (1, 5, 10):
        value = sum(item in sources[:k] for item in evidence) / len(evidence)
        figures.add(f"recall@{k}", value, half)
        if value < 1 and k > 1:
            missed.append(f"recall@{k}")
    return missed


def _context(
    session: Session,
    dialogue: Dialogue,
    question: dict[str, Any],
    half: str,
    tools: tuple[Figures, Stems, random.Random],
) -> list[str]:
    figures, stems, rng = tools
    missed = []
    whole = sum(measure_tokens(message) for message in dialogue.messages)
    for share in (0.25, 0.1):
        budget = int(whole * share)
        shown = session.context_for(question["question"], budget)
        if measure_tokens(shown) > budget:
            raise AssertionError(f"{measure_tokens(shown)} tokens of {budget}")
        shuffled = rng.sample(dialogue.messages, len(dialogue.messages))
        for name, messages in (
            ("EV", shown),
            ("EV of a window", window(dialogue.messages, budget)),
            ("EV of random messages", window(shuffled, budget)),
        ):
            value = share_visible(dialogue, question, messages, stems)
            figures.add(f"{name} at {share:.0%}", value, half)
            if name == "EV" and value < 1:
                missed.append(f"EV at {share:.0%}")
    return missed


# --- speed ----------------------------------------------------------------------------------------


def large(files: Sequence[Path], count: int) -> list[dict[str, str]]:
    """Messages of about a sentence to a paragraph, cut from recorded ones and mixed."""
    pieces: list[str] = []
    for path in files:
        for message in read_session(path).messages:
            text = text_of(message.message)
            pieces += [text[at : at + 400] for at in range(0, min(len(text), 20_000), 400)]
    rng = random.Random(0)
    return [
        {"role": "user", "content": f"{rng.choice(pieces)[rng.randrange(40) :]} {n}"}
        for n in range(count)
    ]


def bare(messages: Sequence[dict[str, str]]) -> Callable[[list[str]], list[Any]]:
    """One FTS5 table of the messages, and its top ten of some words."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE bare USING fts5(body, tokenize = 'porter unicode61')")
    connection.executemany(
        "INSERT INTO bare VALUES (?)", ((" ".join(words(m["content"])),) for m in messages)
    )

    def ask(sought_words: list[str]) -> list[Any]:
        query = " OR ".join(f'"{word}"' for word in sought_words)
        return connection.execute(
            "SELECT rowid FROM bare WHERE bare MATCH ? ORDER BY rank LIMIT 10", (query,)
        ).fetchall()

    return ask


def speed(files: Sequence[Path], questions: Sequence[str], count: int) -> list[Row]:
    """How long a recall takes, against one bare query."""
    messages = large(files, count)
    session = Session(token_budget=10**9)
    session.history.extend(messages)
    ask = bare(messages)
    clock = time.thread_time  # what others take of a busy machine is left out
    start = clock()
    session.recall("first")
    first_s = clock() - start
    ours: list[float] = []
    theirs: list[float] = []
    for question in questions:
        found = sought(question)
        if not found:
            continue
        best = [1e9, 1e9]
        for turn in range(5):
            for which in (turn % 2, 1 - turn % 2):
                start = clock()
                if which:
                    session.recall(question)
                else:
                    ask(found)
                best[which] = min(best[which], clock() - start)
        theirs.append(best[0])
        ours.append(best[1])
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return [
        Row("recall p99 / bare p99", _p99(ours) / _p99(theirs), 2.0),
        Row("recall / bare, p99 of questions", _p99(ratios)),
        Row("recall / bare, median of questions", statistics.median(ratios)),
        Row("recall, median", statistics.median(ours) * 1e3, unit="ms"),
        Row("recall, p99", _p99(ours) * 1e3, unit="ms"),
        Row("first recall, which indexes", first_s, unit="s"),
    ]


def _p99(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def facts(folder: Path) -> list[Row]:
    """FR, where its benchmark is there."""
    if find_spec("benchmarks._facts") is None:
        return []
    rows: list[Row] = import_module("benchmarks._facts").facts_kept(folder)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="with <id>.jsonl and <id>.qa.json")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--each", action="store_true", help="name what was missed")
    parser.add_argument("--only", choices=("retention", "speed", "facts"))
    parser.add_argument("--store", help="an address; `postgresql`: a server made for it")
    parser.add_argument("--items", type=int, default=ITEMS, help="for the speed")
    options = parser.parse_args(arguments)
    given = options.folder or os.environ.get("MEMTRACE_SESSIONS")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) if given is None else Path(given)
        files = session_files(folder) if options.folder is None else recorded(folder)
        found = dialogues(folder)
        if found and options.only in (None, "retention"):
            rows += retention(found, options.each)
            if options.store:
                rows += beside(found, rows, options.store)
        if options.only in (None, "facts"):
            rows += facts(folder)
        if options.only in (None, "speed"):
            asked = [q["question"] for d in found for q in d.questions]
            rows += speed(files, asked or ["the second test fails", "Dateien"], options.items)
    return 0 if report("What is found and kept", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
