"""Options and arguments that several commands take."""

# Annotations are no text here: typer would evaluate it twice a command, a tenth of `--help`.

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="MEMTRACE_STORE",
        metavar="ADDRESS",
        help="A path, sqlite:///file.db, or postgresql://user:password@host/database.",
    ),
]
SessionId = Annotated[str, typer.Argument(metavar="ID", help="The session's id.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
