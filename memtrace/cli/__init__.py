"""The ``memtrace`` command. Importing this module needs neither typer nor rich; running it does."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Run the command, or say in one line what to install for it."""
    try:
        import rich  # noqa: F401 (typer does without it, the commands do not)

        from .app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich", "click"):
            raise
        sys.exit(
            f"memtrace: the command needs {error.name}, which is not installed: "
            'pip install "memtrace-otel[cli]"'
        )
    if sys.argv[1:2] == ["run"]:
        app(prog_name="memtrace")  # the program's own streams and signals stay as they are
        return
    if hasattr(signal, "SIGPIPE"):
        # `memtrace demo | head` ends as other commands do, without a word.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character shows another; it never ends the command.
            stream.reconfigure(errors="replace")
    app(prog_name="memtrace")
