"""What the commands take that put sessions away, and let go of what is old."""

# Annotations are no text here: typer would evaluate it twice a command, a tenth of `--help`.

from typing import Annotated, Any

import typer

from .failing import example, failing
from .options import Json, Store, Yes


def add_to(sessions: typer.Typer) -> None:
    """Register the commands."""
    archive = example("sessions archive --idle-hours 48", "sessions archive support-42")
    sessions.command("archive", epilog=archive)(archive_sessions)
    days = "sessions retention --run-log-days 90"
    sessions.command("retention", epilog=example(days, f"{days} --apply"))(retain_sessions)


def archive_sessions(
    session: Annotated[
        str | None, typer.Argument(metavar="ID", help="One session, idle or not.")
    ] = None,
    idle_hours: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="Those not used for so long.")
    ] = 24.0,
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Move archives there: s3://bucket/prefix, file:///folder"),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Put away what is idle, compressed.

    A session that was put away comes back whole on its next use, and is listed and shown as
    before. The exit status is 1 where one could not be put away; it stays as it was.
    """
    with failing():
        from .keeping import put_away

        good = put_away(store, session, idle_hours, to, as_json=json)
    if not good:
        raise typer.Exit(1)


def _days(what: str) -> Any:
    return typer.Option(min=0, metavar="DAYS", help=what)


def retain_sessions(
    session_days: Annotated[float | None, _days("Whole sessions, by their last use.")] = None,
    run_log_days: Annotated[float | None, _days("Rows of the run log.")] = None,
    snapshots_days: Annotated[float | None, _days("Snapshots; the last one stays.")] = None,
    originals_days: Annotated[float | None, _days("What was replaced in memory.")] = None,
    recall_days: Annotated[float | None, _days("What recall finds.")] = None,
    archive_days: Annotated[float | None, _days("Sessions that were put away.")] = None,
    cold_days: Annotated[float | None, _days("Archives in an object store.")] = None,
    tag: Annotated[
        str | None, typer.Option(metavar="TAG", help="Only of sessions with this tag.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Let it go, not only say what.")] = False,
    store: Store = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Say what is older than it is kept, and let it go.

    Give at least one rule: how many days something is kept. Without --apply nothing is changed.
    What has no rule is kept for ever; pinned sessions and
    pinned items stay. What went is gone from the store's files, too. The exit status is 1 where
    something stayed, because it was used meanwhile.
    """
    with failing():
        from .keeping import let_go

        days = {
            "session": session_days,
            "run_log": run_log_days,
            "snapshots": snapshots_days,
            "originals": originals_days,
            "recall": recall_days,
            "archive": archive_days,
            "cold": cold_days,
        }
        good = let_go(store, days, tag, apply=apply, sure=yes, as_json=json)
    if not good:
        raise typer.Exit(1)
