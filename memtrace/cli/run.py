"""``memtrace run``: a program as ``python`` runs it, with its model calls observed.

In this process, as ``__main__``: arguments, the first place to import from, the exit status and
tracebacks are those of ``python app.py``.
"""

from __future__ import annotations

import atexit
import importlib.util
import io
import json
import os
import pkgutil
import signal
import sys
import threading
import types
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any, NoReturn

from opentelemetry import trace

from .. import config
from ..errors import MemtraceError
from ..export import export_to
from ..observing import install, listening
from ..observing.summary import Summary

_ENDPOINTS = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_INTERRUPTED = 130
"""The exit status by which shells tell of SIGINT."""


class _CannotRun(Exception):
    """There is no such program; the text says why, the status is the one ``python`` gives."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def run(target: str, arguments: Sequence[str], *, module: bool, as_json: bool) -> NoReturn:
    """Run a program, observe its model calls, and tell what they carried on standard error.

    With an OTLP endpoint in the environment the spans and metrics go there. Nothing is told where
    the application has a tracer provider of its own: it is told there.

    Args:
        target: A script, a folder or an archive with a ``__main__.py``; or a module.
        arguments: The program's own.
        module: `target` is a module, as for ``python -m``.
        as_json: Tell it as one line of JSON.

    Raises:
        SystemExit: Always, with the program's status.
    """
    _as_python_starts()
    summary = Summary()
    before = config.current.tracer_provider
    with _exporting(), listening(summary.add):
        install()
        ours = config.current.tracer_provider
        try:
            status = _execute(target, arguments, module)
        except _CannotRun as reason:
            print(f"memtrace: {reason}", file=sys.stderr)
            sys.exit(reason.status)
        status = _join_threads() or status
    provider = config.current.tracer_provider
    configured = provider not in (before, ours) or not _is_of_the_api(trace.get_tracer_provider())
    if as_json:
        _say(json.dumps(summary.as_values()))
    elif not configured:
        _say("\n".join(summary.lines()))
    sys.exit(status)


def _say(text: str) -> None:
    with suppress(OSError, ValueError):  # nobody reads it
        stream = sys.__stderr__ or sys.stderr
        stream.write(text + "\n")
        stream.flush()


def _is_of_the_api(provider: Any) -> bool:
    return type(provider).__module__.startswith("opentelemetry.trace")


def _exporting() -> AbstractContextManager[Any]:
    """Export by OTLP, if the environment says where to."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return nullcontext()
    try:
        exporting = export_to("otlp")
        exporting.__enter__()
    except MemtraceError as error:  # the program runs all the same
        _say(f"memtrace: nothing is exported: {error}")
        return nullcontext()
    return _Entered(exporting)


class _Entered(AbstractContextManager[Any]):
    """A block that was entered before."""

    def __init__(self, block: AbstractContextManager[Any]) -> None:
        self._block = block

    def __exit__(self, *error: Any) -> None:
        self._block.__exit__(*error)


# --- as python does -------------------------------------------------------------------------------


def _as_python_starts() -> None:
    """End by SIGINT where the program does."""
    atexit.register(_die_if_interrupted)


_interrupted = False


def _die_if_interrupted() -> None:
    # Registered first, so that it runs last: a shell's loop stops only if SIGINT ended the program.
    if _interrupted and os.name == "posix":
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _execute(target: str, arguments: Sequence[str], module: bool) -> int:
    """Run the program to its end; the status that it ends with."""
    command = sys.modules["__main__"]  # kept: what it defined is in use
    try:
        main, code = _module(target) if module else _script(target)
        sys.modules["__main__"] = main
        sys.argv = [(main.__file__ or target) if module else target, *arguments]
        exec(code, main.__dict__)  # noqa: S102  # that is what it is for
    except _CannotRun:
        raise
    except SystemExit as end:
        return _status(end.code)
    except BaseException as error:
        return _show(error)
    finally:
        del command
    return 0


def _status(code: Any) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


def _show(error: BaseException) -> int:
    """Tell of an exception that nobody caught, without the frames of this file."""
    global _interrupted
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    if isinstance(error, SyntaxError) and traceback is not None and _is_ours(traceback):
        traceback = None
    with suppress(Exception):
        sys.stdout.flush()
    sys.excepthook(type(error), error.with_traceback(traceback), traceback)
    _interrupted = isinstance(error, KeyboardInterrupt)
    return _INTERRUPTED if _interrupted else 1


def _is_ours(traceback: types.TracebackType) -> bool:
    return traceback.tb_frame.f_code.co_filename.startswith("<frozen importlib")


def _join_threads() -> int:
    """Wait for the program's threads, as ``python`` does at its end."""
    try:
        for thread in threading.enumerate():
            if not thread.daemon and thread is not threading.current_thread():
                thread.join()
    except KeyboardInterrupt as error:
        return _show(error)
    return 0


# --- what is to be run ----------------------------------------------------------------------------

Program = tuple[types.ModuleType, Any]


def _main_module(file: str | None, spec: ModuleSpec | None, loader: Any) -> types.ModuleType:
    main = types.ModuleType("__main__")
    main.__dict__.update(
        __file__=file,
        __spec__=spec,
        __loader__=loader,
        __package__=None if spec is None else spec.parent,
        __cached__=None if spec is None else spec.cached,
        __annotations__={},
        __builtins__=__builtins__,
    )
    return main


def _script(target: str) -> Program:
    path = str(Path(target).absolute())
    if (finder := pkgutil.get_importer(path)) is not None:  # a folder, or an archive
        _first_place(path)
        spec = finder.find_spec("__main__", None)
        if spec is None:
            raise _CannotRun(f"can't find '__main__' module in {path!r}")
        return _of_spec(spec, "__main__")
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        reason = f"can't open file {path!r}: [Errno {error.errno}] {error.strerror}"
        raise _CannotRun(reason, 2) from None
    _first_place(str(Path(path).resolve().parent))
    main = _main_module(path, None, SourceFileLoader("__main__", path))
    return main, compile(source, path, "exec", dont_inherit=True)


def _module(name: str) -> Program:
    _first_place(str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            name = f"{name}.__main__"
            spec = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        raise _CannotRun(f"no module named {error.name}") from None
    if spec is None:
        raise _CannotRun(f"no module named {name}")
    return _of_spec(spec, name)


def _of_spec(spec: ModuleSpec, name: str) -> Program:
    code = getattr(spec.loader, "get_code", lambda _: None)(name)
    if code is None:
        raise _CannotRun(f"{name} has no code that can be run")
    return _main_module(spec.origin, spec, spec.loader), code


def _first_place(folder: str) -> None:
    """Import from the program's folder first, and no longer from the command's."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = folder
