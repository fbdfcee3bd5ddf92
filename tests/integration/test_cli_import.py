"""``memtrace import``: files of other formats as recorded sessions."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memtrace.cli.app import app
from memtrace.replay import read_session


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the command runs in."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def invoke(*arguments: str) -> Any:
    """The command in this process, at no terminal."""
    return CliRunner().invoke(app, ["import", *arguments], env={"COLUMNS": "120"})


def names(folder: Path) -> list[str]:
    """What a folder has."""
    return sorted(path.name for path in folder.iterdir())


def log(path: Path, conversations: Sequence[str]) -> str:
    """A log of requests, each of a conversation of its own."""
    requests = [{"model": "m", "messages": [{"role": "user", "content": c}]} for c in conversations]
    path.write_text("".join(json.dumps(request) + "\n" for request in requests))
    return str(path)


def test_import_writes_what_replay_plays(tmp_path: Path, here: Path) -> None:
    """
    The file is named after what was read, and the other commands take it.
    """
    result = invoke(log(tmp_path / "proxy.jsonl", ["Hello"]))

    assert (result.exit_code, result.stderr) == (0, "")
    assert "openai, 1 session" in result.stdout
    assert names(here) == ["proxy.session.jsonl"]
    replayed = CliRunner().invoke(app, ["replay", "proxy.session.jsonl", "--json"])
    assert json.loads(replayed.stdout)["messages"] == 1


def test_several_sessions_are_numbered(tmp_path: Path, here: Path) -> None:
    """
    Of a file with three conversations each is one file; ``-o`` names the first.
    """
    result = invoke(log(tmp_path / "a.jsonl", ["x", "y", "z"]), "-o", "s.jsonl")

    assert result.exit_code == 0
    assert names(here) == ["s-2.jsonl", "s-3.jsonl", "s.jsonl"]
    assert read_session("s-3.jsonl").messages[0].message["content"] == "z"


def test_a_folder_takes_sessions_of_several_files(tmp_path: Path, here: Path) -> None:
    """
    In a folder files are named after the sessions; no two have one name.
    """
    one, two = log(tmp_path / "a.jsonl", ["x"]), log(here / "a.jsonl", ["y"])

    result = invoke(one, two, "-o", "out/")

    assert result.exit_code == 0
    assert names(Path("out")) == ["a-2.session.jsonl", "a.session.jsonl"]


def test_one_file_does_not_take_several(tmp_path: Path, here: Path) -> None:
    """
    Where several files are read, one name is refused before anything is written.
    """
    path = log(tmp_path / "a.jsonl", ["x"])

    result = invoke(path, path, "-o", "s.jsonl")

    assert result.exit_code == 2
    assert "name a folder" in result.stderr
    assert names(here) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    """
    What is there stays, unless ``--force`` says otherwise.
    """
    path = log(tmp_path / "a.jsonl", ["new"])
    Path("s.jsonl").write_text("old")

    refused = invoke(path, "-o", "s.jsonl")
    kept = Path("s.jsonl").read_text()
    forced = invoke(path, "-o", "s.jsonl", "--force")

    assert (refused.exit_code, kept, forced.exit_code) == (2, "old", 0)
    assert "--force" in refused.stderr
    assert read_session("s.jsonl").messages[0].message["content"] == "new"


def test_import_tells_what_it_leaves_out(tmp_path: Path) -> None:
    """
    Lines that are not known are counted and told, for people and for machines.
    """
    path = tmp_path / "t.jsonl"
    said = {"type": "user", "sessionId": "s", "message": {"role": "user", "content": "Hi"}}
    odd = {"type": "od\x1b[31md", "sessionId": "s"}
    path.write_text("".join(json.dumps(line) + "\n" for line in (said, odd, odd)))

    shown = invoke(str(path)).stdout
    (told,) = map(json.loads, invoke(str(path), "--json", "--force").stdout.splitlines())

    assert "not taken over: 2 × lines of type" in shown
    assert "\x1b" not in shown
    assert (told["format"], told["messages"]) == ("claude-code", 1)
    assert list(told["not_taken_over"].values()) == [2]


BAD = {
    "truncated": (b'{"role":"user","content":"a"}\n{"role":"us', "line 2"),
    "wrong encoding": ('{"role":"user","content":"\u00e9"}'.encode("latin-1"), "line 1"),
    "empty": (b"", "is empty"),
    "not JSON": (b"Dear diary", "line 1"),
    "another format": (b'{"name":"x"}\n', "line 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_leaves_nothing(name: str, tmp_path: Path, here: Path) -> None:
    """
    One line names file, line and cause; the status is 2; no file is left, whole or in part.
    """
    content, place = BAD[name]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)

    result = invoke(str(path), "-o", "s.jsonl")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"memtrace: {path}")
    assert result.stderr.count("\n") == 1
    assert place in result.stderr
    assert names(here) == []


def test_a_huge_file_is_refused_at_once(tmp_path: Path, here: Path) -> None:
    """
    500 MB without an end of line are refused when the most that is read has been read.
    """
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.write(b'{"role":"user","content":"')
        file.truncate(500_000_000)

    result = invoke(str(path))

    assert result.exit_code == 2
    assert "line 1: longer than 32 MB" in result.stderr
    assert names(here) == []


def test_other_files_are_read_all_the_same(tmp_path: Path, here: Path) -> None:
    """
    A file that cannot be read does not keep the others from being so.
    """
    good = log(tmp_path / "good.jsonl", ["x"])
    (tmp_path / "bad.jsonl").write_text("no")

    result = invoke(str(tmp_path / "bad.jsonl"), good)

    assert result.exit_code == 2
    assert names(here) == ["good.session.jsonl"]


def test_recorded_traces_become_sessions(traces: Sequence[Path]) -> None:
    """
    Traces, from Jaeger and from a collector, have their messages in order.
    """
    for path in traces:
        result = invoke(str(path), "-o", "s.jsonl", "--force")
        assert result.exit_code == 0, result.stderr
        session = read_session("s.jsonl")
        roles = [message.role for message in session.messages]
        assert roles[:3] == ["system", "user", "assistant"]
        assert roles[-1] == "assistant"


@pytest.fixture
def traces(tmp_path: Path) -> list[Path]:
    """Recorded traces where MEMTRACE_SESSIONS is set, else one that is made here."""
    folder = Path(os.environ.get("MEMTRACE_SESSIONS", tmp_path)) / "otlp"
    if recorded := sorted(folder.glob("agentevals-*.json")):
        return recorded
    said = {"prompt.0": ("system", "Be brief."), "prompt.1": ("user", "Hello")}
    tags = [
        {"key": f"gen_ai.{place}.{name}", "type": "string", "value": value}
        for place, message in {**said, "completion.0": ("assistant", "Hi.")}.items()
        for name, value in zip(("role", "content"), message, strict=True)
    ]
    span = {"traceID": "a", "spanID": "b", "startTime": 1, "tags": tags, "logs": []}
    path = tmp_path / "jaeger.json"
    path.write_text(json.dumps({"data": [{"traceID": "a", "spans": [span]}]}))
    return [path]
