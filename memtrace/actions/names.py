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

    What a name begins with is part of it: a path's slash, a file's dot, an underscore.

    >>> list(names_in("Read /src/app.py, then call run_tests() again. Read /src/app.py."))
    ['/src/app.py', 'run_tests']
    """
    seen: set[str] = set()
    for word in dict.fromkeys(_WORD.findall(text)):
        if word.isalpha() and word[1:].islower():
            continue  # most words of prose; telling so is a third of what a search costs
        core = word.strip(_EDGES)
        if not 4 <= len(core) <= LONGEST or not _TELLING.search(core):
            continue
        name = word.rstrip("./-").lstrip("-")
        if name not in seen:
            seen.add(name)
            yield name


def listed(names: Iterable[str], limit_chars: int) -> str:
    """As many names as fit, separated by spaces, in the order given; what is left out of too many
    are numbers first, then plain names: a path leads on to the others.

    >>> listed(["4711", "run_tests", "src/app.py"], 24), listed(["run_tests", "src/app.py"], 12)
    ('run_tests src/app.py', 'src/app.py')
    """
    names = list(names)
    room = limit_chars
    if sum(map(len, names)) + len(names) <= room:
        return " ".join(names)
    kept: set[str] = set()
    for name in sorted(names, key=_rank):  # stable: the first mentioned of a rank first
        room -= len(name) + 1
        if room < 0:
            break
        kept.add(name)
    return " ".join(name for name in names if name in kept)


def _rank(name: str) -> int:
    if _PATH.search(name):
        return 0
    return 2 if _NUMBER.fullmatch(name) else 1


_PATH = re.compile(r"/.*[^\W\d_]")
_NUMBER = re.compile(r"[\d.\-/]+|[0-9a-f]{7,}(?:-[0-9a-f]+)*")
