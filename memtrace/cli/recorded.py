"""What the commands take that try things on files: each loads its work when it is called."""

# Annotations are no text here: typer would evaluate it twice a command, a tenth of `--help`.

from pathlib import Path
from typing import Annotated, Literal

import typer

from .failing import example, failing, print_json, several, tokens

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE", readable=False, help="Recorded sessions, JSON Lines."),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", readable=False, help="A policy, as a TOML file."),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="o200k_base, cl100k_base, approx, or a model's name. [default: o200k_base]",
    ),
]

policies = typer.Typer(
    help="The loop's constants: what holds, and where it comes from.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog=example("replay session.jsonl --budget 32k", "replay *.jsonl --json"))(
        replay
    )
    app.command(
        epilog=example(
            "whatif *.jsonl --budget 32k,64k,128k",
            "whatif *.jsonl --policy default.toml,careful.toml",
        )
    )(whatif)
    app.command(
        epilog=example(
            "report session.jsonl -o report.html --budget 64k",
            "report support-42 --store sqlite:///memory.db",
        )
    )(report)
    app.command(
        epilog=example(
            "count notes.md messages.json --encoding gpt-4o", "git diff | memtrace count -"
        )
    )(count)
    app.add_typer(policies, name="policy")
    policies.command(epilog="Example: memtrace policy show careful.toml")(show)


def replay(
    files: Files,
    budget: Annotated[
        int | None,
        typer.Option(
            parser=tokens,
            metavar="TOKENS",
            help="Hold it against so many, as 32k. [default: its window]",
        ),
    ] = None,
    policy: PolicyFile = None,
    encoding: Encoding = None,
    json: Json = False,
    every: Annotated[bool, typer.Option("--every", help="A row for every turn.")] = False,
    spans: Annotated[
        bool | None,
        typer.Option("--spans/--no-spans", help="Spans as well. [default: up to 12 turns]"),
    ] = None,
) -> None:
    """Play recorded sessions, and tell what memtrace saves.

    They are played turn by turn through a managed agent: tokens before and after each turn, what
    was given back and by which action, and what was saved over all model calls. Of several
    files each is a row.
    """
    with failing():
        from .replay import Settings, show

        status = show(
            files, Settings.of(budget, policy, encoding), as_json=json, every=every, spans=spans
        )
    raise typer.Exit(status)


def whatif(
    files: Files,
    budget: Annotated[
        str, typer.Option(metavar="TOKENS,…", help="Budgets. [default: its own window]")
    ] = "",
    policy: Annotated[
        str, typer.Option(metavar="FILE,…", help="Policies, as TOML files. [default: the default]")
    ] = "",
    encoding: Encoding = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes. [default: as many as help]")
    ] = None,
    json: Json = False,
) -> None:
    """Compare budgets and policies on recorded sessions.

    Every session is played at every budget with every policy. For each setting: tokens sent over
    all model calls, compactions (how often room was made), names lost and missed, and prompt-cache
    rewrites.

    A name is what a later step refers to: a path, an identifier, a number, an id. It is lost where
    the conversation shows it nowhere at its end, and missed where a reply used it and the prompt
    showed it nowhere. Neither is gone: originals stay reachable by session.original() and
    session.recall().

    A rewrite is a model call whose prompt does not begin with the whole of the prompt before it;
    reread is what the provider's prompt cache would have held otherwise.
    """
    with failing():
        from .whatif import show

        budgets = [tokens(part) for part in several(budget)]
        paths = [Path(part) for part in several(policy)]
        status = show(files, budgets, paths, encoding=encoding, jobs=jobs, as_json=json)
    raise typer.Exit(status)


def report(
    target: Annotated[
        str, typer.Argument(metavar="FILE|ID", help="A recorded session, a store, or an id.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The HTML file.")
    ] = Path("report.html"),
    store: Annotated[
        str | None,
        typer.Option(
            envvar="MEMTRACE_STORE",
            metavar="ADDRESS",
            help="A path, sqlite:///file.db, or postgresql://user:password@host/database.",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(parser=tokens, metavar="TOKENS", help="Hold it against so many, as 128k."),
    ] = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Write a report of a session: one HTML file that opens offline.

    Memory by layer over the run against budget and thresholds, with what each action gave back;
    what fills memory; runs and checkpoints; the cache; the forecast; findings; and what was
    replaced, before and after. A recording is played first; a stored session is read, and not
    changed. Long texts are cut, and the report says so.

    The file holds parts of what the session holds: give it only to who may read that.
    """
    with failing():
        from .report import write

        size_bytes = write(target, output, store, budget, policy)
    if json:
        print_json({"file": str(output), "bytes": size_bytes})
    else:
        from ..spantree import printable

        typer.echo(f"{printable(output, 1_000)}: {size_bytes / 1e6:.1f} MB")


def count(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", readable=False, help="Files; - is standard input."),
    ],
    encoding: Annotated[
        str, typer.Option(metavar="NAME,…", help="Encodings or models. [default: o200k_base]")
    ] = "",
    kind: Annotated[
        Literal["text", "json", "messages"] | None,
        typer.Option("--as", help="What files are taken for. [default: what they are]"),
    ] = None,
    json: Json = False,
) -> None:
    """Count the tokens of texts, JSON and messages.

    A file of messages (an array, one a line, a request that holds them, or a recorded session)
    counts as a provider counts them, any other JSON as its compact form, and everything else as
    the text that it is. ~ marks an estimate.
    """
    with failing():
        from .count import show as show_counts

        status = show_counts(files, several(encoding), kind, json_lines=json)
    raise typer.Exit(status)


def show(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", readable=False, help="A policy, as a TOML file."),
    ] = None,
    json: Json = False,
) -> None:
    """Print the policy that holds, and where each value is from.

    From the file and its line, the environment, or the default.
    """
    with failing():
        from .policy import show as show_policy

        show_policy(file, as_json=json)
