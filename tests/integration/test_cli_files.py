"""``memtrace count``, ``memtrace policy`` and what all commands say of files they cannot use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memtrace import measure_tokens
from memtrace.cli.app import app
from memtrace.counters import get_counter

HELLO = {"role": "user", "content": "hello there, agent"}
REPLY = {"role": "assistant", "content": "hi"}


def invoke(*arguments: str, **options: Any) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, arguments, **options)


def written(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def as_lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


# --- count --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "kind", "parts"),
    [
        ("a.txt", "hello there, agent\n", "text", 1),
        ("a.txt", "", "text", 1),
        ("a.md", '{"role": "user"', "text", 1),
        ("a.json", json.dumps({"a": [1, 2, "three"]}, indent=2), "json", 1),
        ("a.jsonl", as_lines({"a": 1}, {"b": 2}), "json", 2),
        ("a.json", json.dumps([HELLO, REPLY]), "messages", 2),
        ("a.json", json.dumps({"model": "m", "messages": [HELLO, REPLY]}), "messages", 2),
        ("a.jsonl", as_lines(HELLO, REPLY), "messages", 2),
        ("a.jsonl", as_lines({"session_id": "s"}, {**HELLO, "_x": {"model": "m"}}), "messages", 1),
        ("a.json", json.dumps(HELLO), "messages", 1),
    ],
)
def test_count_sees_what_a_file_holds(
    tmp_path: Path, name: str, content: str, kind: str, parts: int
) -> None:
    """
    Text, JSON, and messages in each of the forms that they are kept in are told apart.
    """
    done = invoke("count", "--json", written(tmp_path / name, content))

    assert done.exit_code == 0, done.output
    value = json.loads(done.output)
    assert (value["kind"], value["parts"]) == (kind, parts)


def test_count_counts_as_memtrace_does(tmp_path: Path) -> None:
    """
    Tokens are those of `measure_tokens`; what is pretty printed counts as its compact form.
    """
    text = written(tmp_path / "a.txt", "hello there, agent 🙂\n")
    messages = written(tmp_path / "b.json", json.dumps([HELLO, REPLY], indent=4))
    value = written(tmp_path / "c.json", json.dumps({"a": [1, 2]}, indent=4))
    done = invoke("count", "--json", text, messages, value)

    counts = [json.loads(line)["encodings"]["o200k_base"] for line in done.output.splitlines()]
    expected = ["hello there, agent 🙂\n", [HELLO, REPLY], {"a": [1, 2]}]
    assert [count["tokens"] for count in counts] == [measure_tokens(part) for part in expected]
    assert all(count["exact"] for count in counts)


def test_count_by_several_encodings(tmp_path: Path) -> None:
    """
    Each encoding has its column, an estimate is marked, and several files have a total.
    """
    file = written(tmp_path / "a.txt", "größer und größer")
    done = invoke("count", file, file, "--encoding", "cl100k_base,approx")

    tokens = get_counter("cl100k_base").count_text("größer und größer")
    estimate = get_counter("approx").count_text("größer und größer")
    rows = [line.split() for line in done.output.splitlines()]
    assert rows[0] == ["cl100k_base", "approx", "what", "file"]
    assert rows[1][:3] == [str(tokens), f"~{estimate}", "text"]
    assert rows[-1] == [str(2 * tokens), f"~{2 * estimate}", "total"]


def test_count_reads_standard_input() -> None:
    """
    `-` is what is piped in.
    """
    done = invoke("count", "-", "--json", input="hello there, agent")

    assert json.loads(done.output)["file"] == "standard input"
    assert json.loads(done.output)["encodings"]["o200k_base"]["tokens"] == 4


def test_count_takes_a_file_for_what_it_is_told(tmp_path: Path) -> None:
    """
    `--as text` counts JSON as it is written; `--as messages` refuses what holds none.
    """
    file = written(tmp_path / "a.json", '{"a":   1}')
    text = json.loads(invoke("count", file, "--as", "text", "--json").output)
    none = invoke("count", file, "--as", "messages")

    assert text["encodings"]["o200k_base"]["tokens"] == measure_tokens('{"a":   1}')
    assert none.exit_code == 2
    assert "line 1: no messages" in none.stderr


# --- policies -----------------------------------------------------------------------------------


def test_policy_show_tells_where_values_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A constant is from the file, with its line; from the environment; or a default.
    """
    file = written(tmp_path / "p.toml", "# mine\nkeep_recent = 20\n")
    code = "import sys; sys.argv = sys.argv[1:]; from memtrace.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "memtrace", "policy", "show", file, "--json"],
        capture_output=True,
        check=True,
        env={**os.environ, "MEMTRACE_TOKEN_BUDGET": "64000"},
        text=True,
    )
    values = json.loads(done.stdout)

    assert values["keep_recent"] == {"value": 20, "from": "file", "where": f"{file}:2"}
    assert values["token_budget"] == {
        "value": 64_000,
        "from": "environment",
        "where": "MEMTRACE_TOKEN_BUDGET",
    }
    assert values["keep_runs"] == {"value": 3, "from": "default", "where": None}
    assert values["redactor"]["value"] == "redact_secrets"


def test_policy_show_is_a_table(tmp_path: Path) -> None:
    """
    Each constant has its row: its value as TOML has it, and where that comes from.
    """
    done = invoke("policy", "show", written(tmp_path / "p.toml", "acts = false\n"))
    rows = {line.split()[0]: line.split()[1:] for line in done.output.splitlines()}

    assert rows["acts"][0] == "false"
    assert rows["archive_after_s"] == ["86_400.0", "default"]


# --- what cannot work ---------------------------------------------------------------------------


def sparse(path: Path) -> str:
    """A file of 500 MB that takes no room."""
    with path.open("wb") as file:
        file.write(b'{"session_id": "s"}\n')
        file.truncate(500_000_000)
    return str(path)


BAD: dict[str, str | bytes] = {
    "truncated": as_lines({"session_id": "s"}, HELLO)[:-9],
    "wrong encoding": as_lines({"session_id": "s"}).encode() + b'{"role": "us\xff"}\n',
    "another encoding": as_lines({"session_id": "s"}).encode("utf-16"),
    "empty": "",
    "blank": " \n\n",
    "not JSON": "Notes\n",
    "another format": "<html></html>\n",
    "compressed": b"\x1f\x8b\x08\x00binary",
    "nested too deep": '{"a":' * 100_000,
    "escapes": '{"session_id\x1b[2J": \n',
}


@pytest.mark.parametrize("command", ["replay", "whatif", "count", "policy show"])
@pytest.mark.parametrize("kind", [*BAD, "500 MB", "missing", "a folder"])
def test_a_bad_file_is_one_line(tmp_path: Path, command: str, kind: str) -> None:
    """
    Whatever is wrong with a file: one line names it, exit status 2, nothing is printed or left.
    """
    path = tmp_path / "bad.jsonl"
    if kind == "500 MB":
        sparse(path)
    elif kind == "a folder":
        path.mkdir()
    elif kind != "missing":
        written(path, BAD[kind])
    before = sorted(tmp_path.iterdir())
    done = invoke(*command.split(), str(path))

    if command == "policy show" and kind in ("empty", "blank"):
        assert done.exit_code == 0  # a policy that changes nothing
        return
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"memtrace: {path}")
    assert "\x1b" not in line
    if kind not in ("empty", "blank", "missing", "a folder"):
        assert ", line " in line
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("replay", "x", "--budget", "much"), "'much' is no number of tokens above 0"),
        (("replay", "x", "--budget", "0"), "for example 128000, 32k or 1.5M"),
        (("whatif", "x", "--budget", "32k,-1"), "'-1' is no number of tokens above 0"),
        (("replay", "x", "--encoding", "o300k_base"), "no vocabulary for an encoding named"),
        (("whatif", "x", "--encoding", "o300k_base"), "no vocabulary for an encoding named"),
        (("count", "x", "--encoding", "o300k_base"), "no vocabulary for an encoding named"),
        (("replay", "x", "--policy", "missing.toml"), "missing.toml cannot be read"),
        (("whatif", "x", "--policy", "missing.toml"), "missing.toml cannot be read"),
        (("count", "x", "--as", "poem"), "poem"),
        (("policy", "shew"), "No such command 'shew'"),
    ],
)
def test_bad_use_says_what_would_work(arguments: tuple[str, ...], said: str) -> None:
    """
    A number, an encoding or a name that cannot work is told with exit status 2.
    """
    done = invoke(*arguments)

    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def _commands(group: Any, *names: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += _commands(command, *names, name)
        else:
            found.append((*names, name))
    return found


def test_every_command_has_help_with_an_example() -> None:
    """
    `memtrace COMMAND --help` tells what it does, and shows a call of it.
    """
    import typer

    commands = _commands(typer.main.get_command(app))
    assert {("replay",), ("whatif",), ("count",), ("policy", "show")} <= set(commands)
    for command in commands:
        done = invoke(*command, "--help")
        assert done.exit_code == 0
        assert f"Example: memtrace {' '.join(command)}" in " ".join(done.output.split()) or (
            "Example:" in done.output and command[-1] in done.output.partition("Example:")[2]
        ), command


def test_short_help_is_help() -> None:
    """
    `-h` is `--help`, of every command; in the list of commands no description is cut.
    """
    import typer

    for command in [(), *_commands(typer.main.get_command(app))]:
        shown = invoke(*command, "-h")
        assert shown.exit_code == 0
        assert shown.output == invoke(*command, "--help").output
        assert "..." not in shown.output.partition("Commands:")[2]


def test_help_loads_little() -> None:
    """
    `memtrace --help` loads neither the tokenizer, nor OpenTelemetry, nor what commands do.
    """
    code = (
        "import sys; sys.argv = ['memtrace', '--help']; import atexit; "
        "atexit.register(lambda: print([m for m in ('tiktoken', 'opentelemetry', 'asyncio', "
        "'sqlite3', 'textual', 'jinja2', 'memtrace.values', 'memtrace.spantree') "
        "if m in sys.modules])); "
        "from memtrace.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert done.stdout.splitlines()[-1] == "[]"
