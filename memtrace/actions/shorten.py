"""Short forms of text: pure functions, deterministic, never longer than what they are given."""

from __future__ import annotations

import re

from .names import listed, names_in

_BREAK = re.compile(r"(?<=[.!?。!?])\s+|(?<=[。!?])|\n+")
_NUMBER = re.compile(r"\d")
_CAPITAL = re.compile(r"\b[A-ZÀ-ÖØ-Þ]\w")
_TO_DO = re.compile(r"\b(TODO|FIXME|must|decided|decision|because|next|error|failed)\b", re.I)


def extract(text: str, share: float) -> str:
    """The sentences of a text that name, number, date or decide most, up to a share of it.

    Source: on recorded dialogues, sentences chosen by names, numbers and dates kept .65 of
    answer facts at a quarter of the tokens; a random choice kept .27.

    Args:
        text: Any text.
        share: Of its characters, 0–1.

    >>> extract("It was nice. We met at 10:30 in Room 4b with Ann. It went on. Bye then.", 0.6)
    'We met at 10:30 in Room 4b with Ann.'
    """
    room = int(len(text) * share)
    sentences = [part.strip() for part in _BREAK.split(text)]
    ranked = sorted(
        ((_weight(sentence), index) for index, sentence in enumerate(sentences) if sentence),
        key=lambda entry: (-entry[0], entry[1]),
    )
    kept: list[int] = []
    for _, index in ranked:
        cost = len(sentences[index]) + 1
        if cost <= room:
            kept.append(index)
            room -= cost
        if room < 16:
            break
    if not kept:
        return text[: int(len(text) * share)]
    return "\n".join(sentences[index] for index in sorted(kept))


def _weight(sentence: str) -> float:
    """What a sentence says for its length."""
    names = sum(1 for _ in names_in(sentence))
    facts = 2 * names + len(_NUMBER.findall(sentence)) / 2 + len(_CAPITAL.findall(sentence))
    decides = 3 * len(_TO_DO.findall(sentence))
    return (facts + decides) / (20 + len(sentence))


def stub(text: str, share: float, item_id: str, tokens: int, names: list[str]) -> str:
    """What stands for a tool output that was set aside: its id, its size, and names in it.

    Args:
        share: Of its characters that the names may take, 0–1.
        item_id: What to ask the original by.
        tokens: The output's.
        names: In the order in which they are worth keeping.
    """
    kept = listed(names, int(len(text) * share))
    told = f"[output set aside: {tokens} tokens, id {item_id}]"
    return f"{told} {kept}" if kept else told


def cap(text: str, limit_chars: int, item_id: str) -> str:
    """The beginning and the end of a text, and between them what was left out and its id."""
    if len(text) <= limit_chars:
        return text
    note = f"\n[… {len(text) - limit_chars} characters left out, id {item_id} …]\n"
    room = max(0, limit_chars - len(note))
    head = room * 2 // 3
    tail = room - head
    return text[:head] + note + (text[-tail:] if tail else "")


def gist(text: str, limit_chars: int) -> str:
    """The first words of a text, on one line."""
    line = " ".join(text[: limit_chars * 4].split())
    return line if len(line) <= limit_chars else line[: max(0, limit_chars - 1)] + "…"


def names_of(text: str) -> list[str]:
    """Names in a text, first mention first."""
    return list(names_in(text))
