"""The run log for analysis: as Parquet, or as CSV with the same columns."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from ..files import written
from ..retaining import opened_store
from ..values import LAYER_NAMES, LoggedRun

if TYPE_CHECKING:
    from ..stores.keeping import Kept, Upkeep

COLUMNS: dict[str, tuple[str, str]] = {
    "session": ("string", "id; empty where the session is not stored"),
    "tags": ("strings", "the session's, sorted"),
    "run_id": ("int64", "number in the session"),
    "kind": ("string", "agent or checkpoint"),
    "name": ("string", "of the agent, or of the checkpoint"),
    "started_at": ("time", "UTC"),
    "duration_s": ("float64", "seconds"),
    "error": ("string", "type of what the body raised; null: nothing"),
    "token_budget": ("int64", "tokens"),
    **{f"{name}_before": ("int64", "tokens before the run") for name in LAYER_NAMES},
    "total_tokens_before": ("int64", "tokens before the run"),
    **{f"{name}_after": ("int64", "tokens after the run") for name in LAYER_NAMES},
    "total_tokens_after": ("int64", "tokens after the run"),
    "peak_tokens": ("int64", "tokens, the most that the run was measured at"),
    "tokens_freed": ("int64", "tokens that actions freed"),
    "actions": ("strings", "each action with its outcome, in order"),
}
"""Name of each column, its type, and its unit or meaning; in Parquet each column carries that."""

_FEW = 5_000
"""Rows held at a time."""


def export_runs(store: Any, path: str | os.PathLike[str], *, tag: str | None = None) -> int:
    """Write the run log of all sessions of a store to a file, oldest first.

    Args:
        store: A path, an address or a store, as :meth:`Session.open` takes.
        path: Ends in ``.parquet`` (needs the extra ``parquet``) or ``.csv``. The file takes its
            name when it is whole.
        tag: Only of sessions with this tag; None: of all.

    Returns:
        How many rows it has.

    Raises:
        ConfigurationError: The name has another ending, pyarrow is missing, or the file cannot
            be written.
        StoreError: The store is not there, or cannot be read.
        StoreDamagedError: A row is not what was written.

    >>> import tempfile
    >>> from memtrace import Session
    >>> folder = tempfile.mkdtemp()
    >>> Session.open("support-42", store=f"{folder}/memory.db").close()
    >>> export_runs(f"{folder}/memory.db", f"{folder}/runs.csv")
    0
    """
    target = Path(path)
    writers: dict[str, Callable[[Path, Iterable[tuple[Any, ...]]], int]]
    writers = {".parquet": _parquet, ".csv": _csv}
    if target.suffix not in writers:
        raise ConfigurationError(f"export_runs writes .parquet or .csv, got {os.fspath(path)!r}")
    upkeep = opened_store(store).upkeep
    return writers[target.suffix](target, rows(upkeep, tag))


def rows(upkeep: Upkeep, tag: str | None = None) -> Iterator[tuple[Any, ...]]:
    """Values of COLUMNS of each row of a run log, in order."""
    from ..stores.runs import run_from

    nobody: Kept | None = None
    kept = {one.key: one for one in upkeep.kept()}
    for key, row in upkeep.runs():
        of = kept.get(key, nobody)
        if tag is None or (of is not None and tag in of.tags):
            yield _row(of, run_from(key, row))


def _row(of: Kept | None, run: LoggedRun) -> tuple[Any, ...]:
    before, after = sum(run.before), sum(run.after)
    return (
        "" if of is None else of.session.encode("utf-8", "replace").decode(),
        [] if of is None else list(of.tags),
        run.run_id,
        run.kind,
        run.name,
        run.started_at,
        run.duration_s,
        run.error,
        run.token_budget,
        *run.before,
        before,
        *run.after,
        after,
        max(before, after, *(report.tokens_before for report in run.reports)),
        sum(report.tokens_freed for report in run.reports),
        [f"{report.action} {report.outcome}" for report in run.reports],
    )


def _csv(path: Path, found: Iterable[tuple[Any, ...]]) -> int:
    count = 0
    with written(path) as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for row in found:
            table.writerow(["; ".join(v) if isinstance(v, list) else v for v in row])
            count += 1
    return count


def _parquet(path: Path, found: Iterable[tuple[Any, ...]]) -> int:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs pyarrow: pip install 'memtrace-otel[parquet]', or write .csv"
        ) from error
    schema = _schema(pa)
    waiting = iter(found)
    count = 0
    with _part(path) as part, parquet.ParquetWriter(part, schema, compression="zstd") as file:
        while taken := list(islice(waiting, _FEW)):
            columns = [
                _column(list(v), kind)
                for v, (kind, _) in zip(zip(*taken, strict=True), COLUMNS.values(), strict=True)
            ]
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)
            ]
            file.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            count += len(taken)
    return count


def _schema(pa: Any) -> Any:
    types = {
        "string": pa.string(),
        "strings": pa.list_(pa.string()),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "time": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema(
        [
            pa.field(name, types[kind], metadata={"comment": told})
            for name, (kind, told) in COLUMNS.items()
        ]
    )


def _column(values: list[Any], kind: str) -> list[Any]:
    return [round(at * 1e6) for at in values] if kind == "time" else values


@contextmanager
def _part(path: Path) -> Iterator[Path]:
    """A file beside it that takes its name when the block ends, else there is none."""
    path = path.resolve()
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or error}; name a file in a folder that "
            "there is"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
