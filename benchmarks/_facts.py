"""What extraction keeps of facts: `python -m benchmarks._facts [folder]`.

*FR at a share*: of the stems (stopwords out) of a question's answer (of several answers, the one
of which most is kept) that occur in its evidence, the share found inside spans of the evidence
that are kept when the whole session is brought down to that share of its tokens. A span counts if
it stands literally in its message, and has eight words or is one or more whole sentences. Mean
over questions; beside it, random sentences (the mean of eight seeds). *Odd*, *even*: every other
question. *Speed*: seconds that tiktoken counts the session with most text / seconds that
extracting a quarter of it takes, of one core; timed in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._rounds import Row, report, rounds
from benchmarks.retention import Stems
from memtrace import measure_tokens
from memtrace.actions.extraction import Said, spans
from memtrace.vocabulary import offline_function, vocabulary_path

BARS = {0.25: 0.55, 0.10: 0.35}
SPEED = 0.06
SEEDS = 8
LEAST_WORDS = 8
_SENTENCE = re.compile(r"[^.!?。！？\n]+[.!?。！？]*[\"'”’)\]*]*")
_WORD = re.compile(r"\w+")

Kept = list[tuple[int, str]]
"""Spans that are kept: place of the message, and the text."""


@dataclass(frozen=True)
class Asked:
    """A session, and the questions on it that have an answer and evidence.

    Args:
        said: Its messages.
        questions: As they stand in the file.
        tokens: Of all messages' texts.
    """

    said: list[Said]
    questions: list[dict[str, Any]]
    tokens: int


def facts_kept(folder: Path) -> list[Row]:
    """The figures, for a folder of sessions with questions, or one with `dialogue_qa` in it."""
    asked = _sessions(folder)
    if not asked:
        return []
    stems, rows = Stems(), []
    for share, bar in BARS.items():
        values = _values(asked, share, extracted, stems)
        chance = [
            statistics.fmean(_values(asked, share, _at_random(seed), stems))
            for seed in range(SEEDS)
        ]
        rows += [
            Row(f"FR at {share:.0%}", statistics.fmean(values), unit="", least=bar),
            Row(f"FR at {share:.0%}, odd", statistics.fmean(values[::2]), unit=""),
            Row(f"FR at {share:.0%}, even", statistics.fmean(values[1::2]), unit=""),
            Row(f"FR at {share:.0%}, random sentences", statistics.fmean(chance), unit=""),
        ]
    return [*rows, Row("FR, questions", len(values), unit=""), _speed(asked)]


def extracted(said: Sequence[Said], room: float) -> Kept:
    """What memtrace keeps of a session within so many tokens."""
    found = spans(said, room, measure_tokens)
    return [(place, said[place].text[start:end]) for place, start, end in found]


def _at_random(seed: int) -> Callable[[Sequence[Said], float], Kept]:
    def keep(said: Sequence[Said], room: float) -> Kept:
        parts = [(i, s) for i, (text, _) in enumerate(said) for s in _whole_sentences(text)]
        random.Random(seed).shuffle(parts)
        kept = []
        for place, sentence in parts:
            cost = measure_tokens(sentence) + 1
            if cost <= room:
                room -= cost
                kept.append((place, sentence))
        return kept

    return keep


def _whole_sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE.findall(text) if _WORD.search(part)]


def _counts(span: str, text: str) -> bool:
    """Whether a span is one that may count: literal, and long enough or whole sentences."""
    if span not in text:
        return False
    return len(_WORD.findall(span)) >= LEAST_WORDS or all(
        part in _whole_sentences(text) for part in _whole_sentences(span)
    )


def _values(
    asked: Sequence[Asked],
    share: float,
    keep: Callable[[Sequence[Said], float], Kept],
    stems: Stems,
) -> list[float]:
    values: list[float] = []
    for session in asked:
        kept = keep(session.said, share * session.tokens)
        spent = sum(measure_tokens(span) + 1 for _, span in kept)
        if spent > share * session.tokens:
            raise AssertionError(f"{spent} tokens kept of {share:.0%} of {session.tokens}")
        held: dict[int, set[str]] = {}
        for place, span in kept:
            if _counts(span, session.said[place].text):
                held.setdefault(place, set()).update(stems.of(span))
        for question in session.questions:
            value = _value(session, question, held, stems)
            if value is not None:
                values.append(value)
    return values


def _value(
    session: Asked, question: dict[str, Any], held: dict[int, set[str]], stems: Stems
) -> float | None:
    evidence = question["evidence"]
    said = set[str]().union(*(stems.of(session.said[place].text) for place in evidence))
    kept = set[str]().union(*(held.get(place, set()) for place in evidence))
    answers = question["answer"]
    wanted = [
        stems.of(str(a)) & said for a in (answers if isinstance(answers, list) else [answers])
    ]
    return max((len(stems_ & kept) / len(stems_) for stems_ in wanted if stems_), default=None)


def _sessions(folder: Path) -> list[Asked]:
    found = []
    for path in sorted(folder.glob("dialogue_qa/*.qa.json")) or sorted(folder.glob("*.qa.json")):
        questions = json.loads(path.read_text("utf-8"))
        questions = [q for q in questions if q.get("answer") and q.get("evidence")]
        if questions:
            name = path.name.removesuffix(".qa.json") + ".jsonl"
            lines = (path.parent / name).read_text("utf-8").split("\n")[1:]
            messages = [json.loads(line) for line in lines if line]
            said = [Said(str(m.get("content") or ""), m.get("role", "")) for m in messages]
            found.append(Asked(said, questions, sum(measure_tokens(s.text) for s in said)))
    return found


def _speed(asked: Sequence[Asked]) -> Row:
    said = max((session.said for session in asked), key=lambda said: sum(len(s.text) for s in said))
    room = sum(len(s.text) for s in said) // 4
    count = offline_function("o200k_base", vocabulary_path("o200k_base"))
    medians = rounds(
        {
            "tiktoken": lambda: [count(s.text) for s in said],
            "extraction": lambda: spans(said, room),
        },
        5,
        clock=time.thread_time,
    )
    share = medians["tiktoken"] / medians["extraction"]
    return Row("extraction's speed / tiktoken's, on prose", share, unit="", least=SPEED)


def main(arguments: list[str] | None = None) -> int:
    """Print all figures; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="with <id>.jsonl and <id>.qa.json")
    given = parser.parse_args(arguments).folder or os.environ.get("MEMTRACE_SESSIONS")
    if given is None:
        parser.error("name a folder of sessions with questions, or set MEMTRACE_SESSIONS")
    rows = facts_kept(Path(given))
    if not rows:
        parser.error(f"no questions with answers and evidence in {given}")
    return 0 if report("What extraction keeps of facts", rows) else 1


if __name__ == "__main__":
    sys.exit(main())
