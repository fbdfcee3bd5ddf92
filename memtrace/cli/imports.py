"""``memtrace import``: files of other formats as recorded sessions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from ..errors import ConfigurationError, MemtraceError
from ..importing import Draft, Imported, read_foreign
from ..spantree import counted, printable
from .chart import open_console, plain_table
from .failing import complain, print_json

ENDING = ".session.jsonl"
"""How the files end that are named after others."""

_UNFIT = re.compile(r"[^\w.-]+")
_LONGEST = 80
_SHOWN = 40
"""Sessions of a file that are shown; all are in ``--json``."""


def show(
    files: Sequence[Path],
    to: str | None,
    format: str | None,  # noqa: A002 (a format)
    *,
    force: bool,
    as_json: bool,
) -> bool:
    """Read each file and write its sessions; whether all could be.

    Args:
        files: What to read.
        to: A file, for one session or numbered for several; a folder (it is there, or ends in a
            slash), for files named after the sessions; None: here, named after what was read.
        format: What they are; None: told by what is in them.
        force: Write over what is there.
        as_json: One JSON object a session instead.
    """
    good = True
    where = _Where(to)
    if where.file is not None and len(files) > 1:
        complain(f"{to} is one file, and {len(files)} are read: name a folder, with a / at its end")
        return False
    for file in files:
        try:
            read = read_foreign(file, format)
            try:
                _write(read, where, force, as_json)
            finally:
                for draft in read.drafts:
                    draft.close()
        except MemtraceError as error:
            complain(error)
            good = False
    return good


class _Where:
    """Where files go: one file, a folder, or here."""

    def __init__(self, given: str | None) -> None:
        self.folder = self.file = None
        if given is not None and (given.endswith(("/", os.sep)) or Path(given).is_dir()):
            self.folder = Path(given)
        elif given is not None:
            self.file = Path(given)
        self._used: set[str] = set()

    def names(self, read: Imported) -> Iterator[Path]:
        """A path for each session of a file."""
        if self.folder is not None:
            for draft in read.drafts:
                yield self.folder / _unused(_fit(draft.session_id), self._used)
            return
        first = self.file if self.file is not None else Path(_fit(read.path.stem) + ENDING)
        ending = ENDING if first.name.endswith(ENDING) else first.suffix
        yield first
        for number in range(2, len(read.drafts) + 1):
            yield first.with_name(f"{first.name.removesuffix(ending)}-{number}{ending}")


def _write(read: Imported, where: _Where, force: bool, as_json: bool) -> None:
    named = list(zip(read.drafts, where.names(read), strict=True))
    for _, path in named:
        if path.exists() and not force:
            raise ConfigurationError(f"{path} is there already; --force writes over it")
    if where.folder is not None:
        where.folder.mkdir(parents=True, exist_ok=True)
    for draft, path in named:
        draft.write(path)
    if as_json:
        for place, (draft, path) in enumerate(named):
            print_json(_as_values(read, draft, path, first=place == 0))
    else:
        _tell(read, named)


def _fit(name: str) -> str:
    """A name that a file may have.

    >>> _fit("support/42: day 1")
    'support-42-day-1'
    """
    return _UNFIT.sub("-", name).strip("-.")[:_LONGEST] or "session"


def _unused(stem: str, used: set[str]) -> str:
    name, number = stem, 1
    while name.lower() in used:
        number += 1
        name = f"{stem}-{number}"
    used.add(name.lower())
    return name + ENDING


def _tell(read: Imported, named: Sequence[tuple[Draft, Path]]) -> None:
    console = open_console()
    sessions = counted(len(named), "session")
    name = Text(printable(read.path.name), style="bold")
    console.print(name.append(f"  {read.format}, {sessions}", style="not bold dim"))
    table = plain_table()
    table.add_column("session", overflow="ellipsis", no_wrap=True, max_width=40)
    for heading in ("messages", "turns"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("written to", overflow="fold")
    for draft, path in named[:_SHOWN]:
        counts = (f"{draft.messages:,}", f"{draft.turns:,}")
        table.add_row(printable(draft.session_id), *counts, printable(path, 400))
    console.print(table)
    if len(named) > _SHOWN:
        console.print(Text(f"… and {len(named) - _SHOWN:,} more", style="dim"))
    for what, times in sorted(read.told.items(), key=lambda told: -told[1]):
        console.print(Text(f"! not taken over: {times:,} × {printable(what, 200)}", style="yellow"))


def _as_values(read: Imported, draft: Draft, path: Path, *, first: bool) -> dict[str, Any]:
    return {
        "file": str(read.path),
        "format": read.format,
        "session_id": draft.session_id,
        "messages": draft.messages,
        "turns": draft.turns,
        "written_to": str(path),
        # Of the whole file, so it stands in its first line alone.
        "not_taken_over": dict(read.told) if first else {},
    }
