"""``memtrace sessions snapshots`` and ``restore``: what a session held before, and going back."""

from __future__ import annotations

import typer
from rich.text import Text

from ..spantree import printable
from . import stored
from .chart import open_console, plain_table
from .failing import fail, print_json
from .sessions import moment, when


def show_snapshots(target: str | None, session_id: str, *, as_json: bool) -> None:
    """Print a row for each snapshot of a session, the last first."""
    store = stored.open_named(target)
    there = stored.snapshots(store, stored.known(store, session_id))[::-1]
    if as_json:
        for revision, head in there:
            print_json(
                {
                    "number": revision,
                    "name": str(head.name),
                    "created_at": moment(head.created_at),
                    "tokens": head.tokens,
                    "items": head.items,
                    "changes": head.rows,
                }
            )
        return
    table = plain_table("changes", "items")
    table.add_column("number", justify="right", no_wrap=True)
    table.add_column("name", overflow="fold")
    table.add_column("when", no_wrap=True)
    for heading in ("tokens", "items", "changes"):
        table.add_column(heading, justify="right", no_wrap=True)
    for revision, head in there:
        cells = (f"{head.tokens:,}", f"{head.items:,}", f"{head.rows:,}")
        table.add_row(f"{revision:,}", printable(head.name, 60), when(head.created_at), *cells)
    open_console().print(table)


def restore(target: str | None, session_id: str, which: str, *, sure: bool, as_json: bool) -> None:
    """Make a session's memory what it was at a snapshot: as a new one, so that nothing is lost."""
    from ..actions import create_memory_snapshot

    store = stored.open_named(target)
    back = stored.chosen(store, stored.known(store, session_id), which)
    session = stored.read(store, session_id)
    before = session.profile().total_tokens
    told = f"session {session_id!r} from {before:,} to {back.tokens:,} tokens"
    if not sure and not confirmed(f"Take {printable(told)} (snapshot {back.revision})?"):
        fail("nothing was changed")
    session.restore(back)
    # Not `close`, which consolidates: memory is to be what it was.
    create_memory_snapshot(session, f"restored {back.revision}")
    session._logged().result()
    revision = session.journal.revision
    if as_json:
        print_json(
            {
                "session": session_id,
                "restored": back.revision,
                "snapshot": revision,
                "tokens_before": before,
                "tokens_after": session.profile().total_tokens,
            }
        )
        return
    open_console().print(
        Text(
            f"Took {printable(told)}, as it was at snapshot {back.revision}; that is snapshot "
            f"{revision} now, and what was before can be restored."
        )
    )


def confirmed(question: str) -> bool:
    """Whether somebody at the keyboard says yes; nobody there says no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)  # the line of the question is still open
        return False
