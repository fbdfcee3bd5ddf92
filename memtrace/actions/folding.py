"""Folding: repeated lines, and lines that differ in numbers and hex alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from operator import eq

from ..messages import rewrite
from .draft import Draft, Eligible
from .lossless import LEAST_GAIN
from .outputs import may, old_places, whole

LONGEST_PERIOD = 5
"""Lines of the longest block whose repetition is looked for. Source: blocks of five lines are 15%
of recorded coding sessions."""

_FEWEST_TIMES = 3
_FEWEST_LIKE = 5

# A word that is nothing but a number, a time, a size or a hash; within a name it is part of it.
_NUMBER = re.compile(
    r"(?<![\w./:\-])(?:0x)?[\da-fA-F:.,TZ+\-]{0,40}\d[\da-fA-F:.,TZ+\-]{0,40}"
    r"(?:ms|s|m|[kKMG]i?B|B|%)?(?![\w/])"
)
_RUN = bytes([1]) * (_FEWEST_LIKE - 1)
_LETTERS = re.compile(r"[^\W\d_]{3}")


def repeated_lines(draft: Draft, eligible: Eligible) -> None:
    """Fold runs of equal lines, and of equal blocks of lines, in old tool outputs."""
    _each(draft, eligible, fold_runs)


def logs(draft: Draft, eligible: Eligible) -> None:
    """Fold lines of old tool outputs that differ in numbers and hex alone."""
    _each(draft, eligible, fold_logs)


def _each(draft: Draft, eligible: Eligible, fold: Callable[[str], str]) -> None:
    for place in old_places(draft, draft.policy.keep_tool_outputs):
        if draft.relieved:
            return
        draft.breathe()
        item = draft.history[place]
        if item is not None and whole(draft, place) and may(draft, place, eligible):
            text = draft.text(item)
            if fold(text) != text:
                content = rewrite(item.content, fold, results_only=True)
                draft.replace(place, content, LEAST_GAIN)


def fold_runs(text: str) -> str:
    """A text with blocks of lines that follow each other three times and more told once.

    >>> print(fold_runs("start\\n" + "ping\\npong\\n" * 9 + "end"))
    start
    ping
    pong
    [… the last 2 lines 8 times more]
    end
    """
    lines = text.split("\n")
    if not any(_repeats(lines, period) for period in range(1, LONGEST_PERIOD + 1)):
        return text
    kept: list[str] = []
    start = 0
    while start < len(lines):
        period, times = _run_at(lines, start)
        kept += lines[start : start + period]
        if times > 1:
            which = f"{period} lines" if period > 1 else "line"
            kept.append(f"[… the last {which} {times - 1} times more]")
        start += period * times
    return "\n".join(kept)


def _repeats(lines: list[str], period: int) -> bool:
    """Whether some block of so many lines stands three times in a row: told without a loop."""
    same = bytes(map(eq, lines, lines[period:]))
    return bytes([1]) * period * (_FEWEST_TIMES - 1) in same


def _run_at(lines: list[str], start: int) -> tuple[int, int]:
    """Lines of the block that is repeated here, and how often; 1 and 1 where none is."""
    for period in range(1, LONGEST_PERIOD + 1):
        if lines[start] not in lines[start + period : start + period + 1]:
            continue
        block, times = lines[start : start + period], 1
        while lines[start + times * period : start + (times + 1) * period] == block:
            times += 1
        if times >= _FEWEST_TIMES and any(block):
            return period, times
    return 1, 1


def fold_logs(text: str) -> str:
    """A text with five and more lines told by the first and the last, where they follow each
    other and differ in numbers and hex alone.

    >>> print(fold_logs("\\n".join(f"took {n} ms at 0x{n:08x}" for n in range(9))))
    took 0 ms at 0x00000000
    [… 7 lines alike but for numbers]
    took 8 ms at 0x00000008
    """
    lines = text.split("\n")
    kept: list[str] = []
    end = 0
    for start, stop in _maybe_alike(text):
        kept += lines[end:start]
        kept += _folded(lines[start:stop])
        end = stop
    return "\n".join(kept + lines[end:]) if end else text


def _maybe_alike(text: str) -> Iterator[tuple[int, int]]:
    """From where to where lines may be alike but for numbers: told without a loop over lines."""
    raw = text.encode("utf-8", "surrogatepass").translate(None, _NUMBERS_ARE_OF)
    shapes = raw.split(b"\n")
    same = bytes(map(eq, shapes, shapes[1:]))
    start = same.find(_RUN)
    while start >= 0:
        stop = same.find(b"\0", start)
        stop = len(same) if stop < 0 else stop
        yield start, stop + 1
        start = same.find(_RUN, stop)


def _folded(lines: list[str]) -> Iterator[str]:
    """Lines, those in a row that have one shape told by the first and the last."""
    shapes = [_NUMBER.sub("#", line) for line in lines]
    start = 0
    while start < len(lines):
        end = start + 1
        while end < len(lines) and shapes[end] == shapes[start]:
            end += 1
        alike = end - start >= _FEWEST_LIKE and "#" in shapes[start]
        if alike and _LETTERS.search(shapes[start]):
            yield lines[start]
            yield f"[… {end - start - 2} lines alike but for numbers]"
            yield lines[end - 1]
        else:
            yield from lines[start:end]
        start = end


_NUMBERS_ARE_OF = b"0123456789abcdefABCDEFxTZ:.,+-mskKMGiB%"
"""Whatever a number, a time, a size or a hash may be made of."""
