"""What the commands take that look at sessions: each loads its work when it is called."""

# Annotations are no text here: typer would evaluate it twice a command, a tenth of `--help`.

import sys
from pathlib import Path
from typing import Annotated

import typer

from . import tidying
from .failing import example, failing, tokens
from .options import Json, SessionId, Store, Yes

sessions = typer.Typer(
    help="What a store holds: looking, going back, putting away.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(sessions, name="sessions")
    tidying.add_to(sessions)
    app.command(
        epilog=example(
            "diagnose session.jsonl --budget 64k",
            "diagnose support-42 --store sqlite:///memory.db --apply",
        )
    )(diagnose)
    app.command(epilog="Example: memtrace verify sqlite:///memory.db")(verify)
    app.command(epilog="Example: memtrace top --store sqlite:///memory.db")(top)
    app.command(
        "import",
        epilog=example(
            "import transcript.jsonl -o session.jsonl", "import traces/*.json -o sessions/"
        ),
    )(import_files)


def diagnose(
    target: Annotated[
        str, typer.Argument(metavar="FILE|ID", help="A recorded session, a store, or an id.")
    ],
    store: Store = None,
    budget: Annotated[
        int | None,
        typer.Option(parser=tokens, metavar="TOKENS", help="Hold it against so many, as 128k."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Apply the best remedy of each, and measure again.")
    ] = False,
    json: Json = False,
) -> None:
    """Tell what is wrong with a session, and what helps.

    Each finding says how it was measured, what it comes from, and what can be done about it.

    The exit status is 0 where nothing is wrong, 1 where there is something to see to (a warning or
    worse is left), 2 where it cannot be read. What --apply does to a stored session is kept as
    a new snapshot, and what it replaces stays reachable; a recorded file stays as it is.
    """
    with failing():
        from .diagnosing import show

        good = show(target, store, budget, apply=apply, as_json=json)
    if not good:
        raise typer.Exit(1)


def verify(
    store: Annotated[
        str | None,
        typer.Argument(envvar="MEMTRACE_STORE", metavar="STORE", help="A path or an address."),
    ] = None,
    json: Json = False,
) -> None:
    """Tell what of a store is not what was written.

    All that it holds is read and compared with its hashes.

    The exit status is 0 where all is well, 1 where something is damaged, 2 where the store
    cannot be opened. Nothing is changed.
    """
    with failing():
        from .diagnosing import verify as show

        good = show(store, as_json=json)
    if not good:
        raise typer.Exit(1)


def top(
    store: Store = None,
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, metavar="SECONDS", help="Between two looks.")
    ] = 2.0,
    json: Annotated[
        bool, typer.Option("--json", help="Look once, a JSON object a session.")
    ] = False,
) -> None:
    """Watch a store's sessions, live.

    Tokens against budget, the five monitoring points, what was done lately.

    It shows what sessions wrote: their last snapshots and run logs. Keys: arrows choose a
    session, r looks now, p pauses, q quits.
    """
    with failing():
        if json:
            from .sessions import print_views

            print_views(store)
        else:
            _watch(store, interval)


def _watch(store: str | None, interval: float) -> None:
    from ..errors import ConfigurationError
    from .stored import open_named

    opened = open_named(store)
    if not sys.stdout.isatty():
        raise ConfigurationError("top needs a terminal; for machines there is top --json")
    try:
        from .top import Top
    except ModuleNotFoundError as error:
        if error.name != "textual":
            raise
        raise ConfigurationError(
            'top needs textual, which is not installed: pip install "memtrace-otel[cli]"'
        ) from None
    Top(opened, interval).run()


def import_files(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", readable=False, help="What to read.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="A file; or a folder, with a / at its end. [default: NAME.session.jsonl here]",
        ),
    ] = None,
    format: Annotated[  # noqa: A002 (the option's name)
        str | None,
        typer.Option(
            "--format",
            metavar="NAME",
            help="claude-code, codex, openai, anthropic or trace. [default: told by the content]",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    json: Json = False,
) -> None:
    """Turn transcripts, logs and traces into sessions.

    Reads transcripts of Claude Code and Codex, message logs of OpenAI's and Anthropic's clients
    (an array or JSON Lines, of messages or of requests and replies), and traces with gen_ai
    attributes (OTLP as JSON or protobuf, Jaeger's JSON). Of a file with several conversations
    each becomes a session. What is not taken over is told.
    """
    with failing():
        from .imports import show

        good = show(files, output, format, force=force, as_json=json)
    if not good:
        raise typer.Exit(2)


# --- sessions -------------------------------------------------------------------------------------


@sessions.command("list", epilog="Example: memtrace sessions list --store sqlite:///memory.db")
def list_sessions(store: Store = None, json: Json = False) -> None:
    """List sessions, the last used first."""
    with failing():
        from .sessions import show_list

        show_list(store, as_json=json)


@sessions.command("show", epilog="Example: memtrace sessions show support-42")
def show_session(session: SessionId, store: Store = None, json: Json = False) -> None:
    """Show one: layers, points, runs, actions."""
    with failing():
        from .sessions import show_one

        show_one(store, session, as_json=json)


@sessions.command("snapshots", epilog="Example: memtrace sessions snapshots support-42")
def list_snapshots(session: SessionId, store: Store = None, json: Json = False) -> None:
    """List a session's snapshots, the last first."""
    with failing():
        from .snapshots import show_snapshots

        show_snapshots(store, session, as_json=json)


@sessions.command("restore", epilog="Example: memtrace sessions restore support-42 17 --yes")
def restore_session(
    session: SessionId,
    snapshot: Annotated[
        str,
        typer.Argument(metavar="SNAPSHOT", help="Its number; or its name, for the last so named."),
    ],
    store: Store = None,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Go back to a snapshot.

    Memory as it was then becomes a new snapshot: nothing is lost, and what was before can be
    restored. Whoever has the session open elsewhere is told that it changed.
    """
    with failing():
        from .snapshots import restore

        restore(store, session, snapshot, sure=yes, as_json=json)
