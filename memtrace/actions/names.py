"""Names in text: paths, identifiers, numbers with units, ids — what a later step refers to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_WORD = re.compile(r"[\w./\-]{4,}")
# A digit, one of _ / . -, or a capital inside: what sets a name apart from a word of prose.
_TELLING = re.compile(r"[\d_/.\-]|(?<=.)[A-Z]")
_EDGES = "./-_"
LONGEST = 200
"""Characters up to which a name is one; past it, it is payload."""


def names_in(text: str) -> Iterator[str]:
    """Names in a text in the order of their first mention, each once, punctuation stripped.

    >>> list(names_in("Read src/app.py, then call run_tests() again. Read src/app.py."))
    ['src/app.py', 'run_tests']
    """
    seen: set[str] = set()
    for word in dict.fromkeys(_WORD.findall(text)):
        if word.isalpha() and word[1:].islower():
            continue  # most words of prose; telling so is a third of what a search costs
        name = word.strip(_EDGES)
        if name in seen:
            continue
        seen.add(name)
        if 4 <= len(name) <= LONGEST and _TELLING.search(name):
            yield name


def listed(names: Iterable[str], limit_chars: int) -> str:
    """As many names as fit, separated by spaces."""
    kept: list[str] = []
    room = limit_chars
    for name in names:
        room -= len(name) + 1
        if room < 0:
            break
        kept.append(name)
    return " ".join(kept)
