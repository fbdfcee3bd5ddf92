"""What the command takes.

Its exit status: 0, or 2 where an input or the way of asking cannot work.
"""

# Annotations are no text here: typer would evaluate it twice a command, a tenth of `--help`.

from typing import Annotated

import typer

from .._version import __version__
from . import looking, recorded
from .failing import example, tokens

app: typer.Typer = typer.Typer(
    help="Measure an agent's memory, in tokens by layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
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


@app.command(epilog="Example: memtrace demo --budget 32k")
def demo(
    budget: Annotated[
        int | None,
        typer.Option(
            parser=tokens, metavar="TOKENS", help="Budget of the agents' common memory, as 32k."
        ),
    ] = None,
    report: Annotated[bool, typer.Option("--report", help="What the agents wrote, too.")] = False,
    json: Json = False,
) -> None:
    """Watch three agents at work over real files.

    Their spans, their memory by layer, and what was given back. Nothing is sent anywhere.
    """
    from .demo import show

    show(budget, report=report, as_json=json)


@app.command(
    context_settings={"allow_interspersed_args": False},
    epilog=example("run app.py", "run -m package.module --its-own-option"),
)
def run(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A script, or a module after -m.")
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGUMENTS", help="The program's own.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="The target is a module.")] = False,
    json: Json = False,
) -> None:
    """Run a Python program, and tell what its calls carry.

    Nothing of its model calls is changed. The exit status is the program's.
    """
    from .run import run as run_program

    run_program(target, arguments or [], module=module, as_json=json)


recorded.add_to(app)
looking.add_to(app)
