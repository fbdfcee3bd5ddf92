"""How far a command is: a bar on standard error, and nothing where that is no terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .chart import open_console


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is gone when the block ends; what it gives is told of each advance.

    Args:
        what: What is going on, in a word or two.
        total: Steps in all.
    """
    console = open_console(stderr=True)
    if not console.is_terminal or total < 1:
        yield lambda _steps: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    # What is printed meanwhile stays on standard output, where it may be piped from.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)
