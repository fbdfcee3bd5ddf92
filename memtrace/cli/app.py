"""What the command takes. Its exit status: 0, 1 where an input cannot be used, 2 for bad use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._version import __version__

app: typer.Typer = typer.Typer(
    help="Measure an agent's memory, in tokens by layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"memtrace {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure an agent's memory, in tokens by layer."""


@app.command()
def demo(
    budget: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the agents' common memory.")
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="What the agents wrote, too.")] = False,
    json: Json = False,
) -> None:
    """Three agents at work over real files: their spans, their memory, and what was given back."""
    from .demo import show

    show(budget, report=report, as_json=json)


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(help="Recorded sessions, JSON Lines.")],
    budget: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens to hold it against, instead of its own window."),
    ] = None,
    json: Json = False,
    every: Annotated[bool, typer.Option("--every", help="A row for every turn.")] = False,
    spans: Annotated[
        bool | None,
        typer.Option("--spans/--no-spans", help="Spans as well. [default: if turns are few]"),
    ] = None,
) -> None:
    """Play recorded sessions turn by turn through a managed agent, and tell what that saved."""
    from .replay import show

    if not show(files, budget, as_json=json, every=every, spans=spans):
        raise typer.Exit(1)


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    target: Annotated[str, typer.Argument(help="A script, or a module after -m.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="The program's own.")] = None,
    module: Annotated[bool, typer.Option("-m", help="The target is a module.")] = False,
    json: Json = False,
) -> None:
    """Run a Python program, and tell what its model calls carried. Nothing of them is changed."""
    from .run import run as run_program

    run_program(target, arguments or [], module=module, as_json=json)
