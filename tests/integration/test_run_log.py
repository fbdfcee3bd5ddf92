"""The run log in Parquet, and the documented query that DuckDB answers."""

from __future__ import annotations

import csv
import re
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyarrow import parquet

from memtrace import (
    ConfigurationError,
    Session,
    SQLiteStore,
    export_runs,
    managed_agent,
    measure_tokens,
)
from memtrace.exporting.runs import COLUMNS


def blocks(root: Path, name: str, language: str) -> list[str]:
    """Blocks of a language in a document."""
    return re.findall(rf"```{language}\n(.*?)```", (root / "docs" / name).read_text("utf-8"), re.S)


def agent_runs(session: Session, name: str, *messages: str, document: str = "") -> None:
    """A run for each message."""

    @managed_agent(name=name)
    def run(session: Session, text: str) -> None:
        if document:
            session.active_contexts.add(document, pinned=True)
        session.history.append({"role": "user", "content": text})

    for text in messages:
        run(session, text)


@pytest.fixture
def store(tmp_path: Path) -> SQLiteStore:
    """Three agents: one filled by its conversation, one by documents, one that is well."""
    made = SQLiteStore(tmp_path / "memory.db")
    for name in ("talker", "reader", "frugal"):
        with Session.open(name, store=made, token_budget=1_000, tags=[f"of:{name}"]) as session:
            if name == "talker":
                agent_runs(session, name, "said " * 1_500, "and " * 1_600)
            elif name == "reader":
                agent_runs(session, name, "hello", document="read " * 2_500)
            else:
                agent_runs(session, name, "hello", "again")
    return made


def test_the_documented_query_names_agents_and_what_filled_them(
    store: SQLiteStore, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Which agents ran out of budget last week, and what filled them: as the document asks it.
    """
    monkeypatch.chdir(tmp_path)
    assert export_runs(store, "runs.parquet") == 5
    [query] = blocks(root, "run-log.md", "sql")

    rows = duckdb.connect().execute(query).fetchall()

    assert {(row[0], row[3]) for row in rows} == {
        ("talker", "conversation_history"),
        ("reader", "working_memory"),
    }
    by_agent = {row[0]: row for row in rows}
    assert by_agent["talker"][1] == 2
    assert by_agent["reader"][4] == measure_tokens("read " * 2_500)
    assert all(row[2] > 1.0 for row in rows)


def test_rows_are_as_they_were_logged(store: SQLiteStore, tmp_path: Path) -> None:
    """
    Parquet has the run log's rows with their types, and each column says its unit; CSV the same.
    """
    path, text = tmp_path / "runs.parquet", tmp_path / "runs.csv"
    assert export_runs(store, path, tag="of:talker") == 2
    assert export_runs(store, text) == 5
    table = parquet.read_table(path)
    logged = store.runs("talker")

    assert table.column_names == list(COLUMNS)
    assert all(field.metadata[b"comment"] for field in table.schema)
    row: dict[str, Any] = table.to_pylist()[0]
    assert (row["session"], row["tags"], row["name"]) == ("talker", ["of:talker"], "talker")
    at = datetime.fromtimestamp(logged[0].started_at, timezone.utc)
    assert abs((row["started_at"] - at).total_seconds()) < 1e-5
    assert row["conversation_history_after"] == logged[0].after[-1]
    assert row["peak_tokens"] >= row["total_tokens_after"]
    with text.open(newline="") as file:
        assert [r["name"] for r in csv.DictReader(file)].count("talker") == 2


def test_a_file_that_cannot_be_written_is_none(
    store: SQLiteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Another ending, no folder, no pyarrow: one clear error, and no part of a file is left.
    """
    with pytest.raises(ConfigurationError, match=r"writes \.parquet or \.csv"):
        export_runs(store, tmp_path / "runs.xlsx")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        export_runs(store, tmp_path / "none" / "runs.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"memtrace-otel\[parquet\]"):
        export_runs(store, tmp_path / "runs.parquet")
    assert not [path for path in tmp_path.iterdir() if "runs" in path.name]


@pytest.mark.parametrize("name", ["retention.md", "run-log.md"])
def test_the_documents_run(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What the documents show runs as it stands, block after block.
    """
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks(root, name, "python"):
        exec(compile(block, name, "exec"), names)
