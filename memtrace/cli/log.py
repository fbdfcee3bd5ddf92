"""What the log says while a command runs: kept, so that it does not stand amid the output."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

from ..spantree import printable

SHOWN = 8
"""Lines of the log that are shown; further ones are counted."""


class Kept(logging.Handler):
    """Keeps what the log says, each line once.

    Attributes:
        lines: Message by message, the first first, with how often it was said.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f" ({type(record.exc_info[1]).__name__}: {record.exc_info[1]})"
        self.lines[text] = self.lines.get(text, 0) + 1

    def show(self, console: Console) -> None:
        """Print the lines, and forget them."""
        lines, self.lines = list(self.lines.items()), {}
        for text, times in lines[:SHOWN]:
            often = f" (×{times})" if times > 1 else ""
            console.print(Text(f"! {printable(text, 400)}{often}", style="yellow"))
        if len(lines) > SHOWN:
            console.print(Text(f"! … {len(lines) - SHOWN} more warnings", style="yellow"))


@contextmanager
def kept_log() -> Iterator[Kept]:
    """Keep what memtrace logs within the block; what others log goes where it always does."""
    logger = logging.getLogger("memtrace")
    kept, propagates = Kept(), logger.propagate
    logger.addHandler(kept)
    logger.propagate = False
    try:
        yield kept
    finally:
        logger.removeHandler(kept)
        logger.propagate = propagates
