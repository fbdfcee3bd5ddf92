"""What all commands share: refusing what cannot work in one line, reading numbers, JSON.

The exit status is 0, or 2 where an input or the way of asking cannot work. A command that judges
(``diagnose``, ``verify``) has 1 for "there is something to see to".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from ..errors import MemtraceError

BAD_INPUT = 2
"""The exit status where an input cannot be used; also that of bad use."""

LONGEST = 1_000
"""Characters of a message that are shown."""


def complain(reason: object) -> None:
    """Say one line on standard error; nothing in it can move the cursor or colour the terminal."""
    from ..spantree import printable

    sys.stdout.flush()  # what was said before stands before it
    print(f"memtrace: {printable(reason, LONGEST)}", file=sys.stderr, flush=True)


def fail(reason: object, status: int = BAD_INPUT) -> NoReturn:
    """Say one line on standard error, and end the command.

    Raises:
        typer.Exit: Always.
    """
    complain(reason)
    raise typer.Exit(status)


@contextmanager
def failing() -> Iterator[None]:
    """End the command in one line where its input cannot be used, instead of a traceback.

    Raises:
        typer.Exit: A :class:`MemtraceError`, or a file that cannot be read or written.
    """
    try:
        yield
    except MemtraceError as error:
        fail(error)
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        fail(f"{where}{error.strerror or error}")


_TOKENS = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*([kKmM]?)")
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000}


def tokens(text: str) -> int:
    """A number of tokens as people write it; ``k`` is a thousand. For ``typer.Option(parser=…)``.

    Raises:
        typer.BadParameter: It is none, or not above 0.

    >>> tokens("32k"), tokens("128_000"), tokens("1.5M"), tokens(" 7 ")
    (32000, 128000, 1500000, 7)
    """
    found = _TOKENS.fullmatch(str(text).strip())
    if found is not None:
        number = float(found[1].replace("_", "")) * _TIMES[found[2].lower()]
        if 1 <= number <= 1e12 and number == int(number):
            return int(number)
    from ..spantree import printable

    raise typer.BadParameter(
        f"{printable(text, 60)!r} is no number of tokens above 0; for example 128000, 32k or 1.5M"
    )


def example(*calls: str) -> str:
    r"""What stands at the end of a command's help: calls of it, each on a line of its own.

    >>> example("count a.txt", "count -").splitlines()[1:]
    ['Example: memtrace count a.txt', '         memtrace count -']
    """
    return "\b\nExample: " + "\n         ".join(f"memtrace {call}" for call in calls)


def several(text: str) -> list[str]:
    """The parts of a list with commas; empty ones are left out.

    >>> several("a.toml, b.toml,")
    ['a.toml', 'b.toml']
    """
    return [part.strip() for part in text.split(",") if part.strip()]


def print_json(value: Any) -> None:
    """Print a value as one line of JSON. What is not ASCII is escaped, so it is harmless."""
    import json

    print(json.dumps(value, default=str))
