"""``memtrace sessions``, ``diagnose`` and ``verify``, as somebody at a terminal meets them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memtrace import Session, checkpoint, managed_agent, trigger_cleanup
from memtrace.cli.app import app

HOSTILE = "user\x1b[31m-7"


def invoke(*arguments: str) -> Any:
    """The command in this process, at no terminal."""
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "120", "MEMTRACE_STORE": ""})


def values(*arguments: str) -> list[dict[str, Any]]:
    """What a command gives with ``--json``: an object a line."""
    result = invoke(*arguments, "--json")
    return [json.loads(line) for line in result.stdout.splitlines()]


@managed_agent(name="talker")
def talk(session: Session, turns: int) -> None:
    """Turns of a conversation, and a cleanup by hand."""
    for turn in range(turns):
        session.history.append({"role": "user", "content": f"question {turn} " * 40})
        session.messages()
        session.history.append({"role": "assistant", "content": f"answer {turn} " * 60})
    trigger_cleanup(session, target=0.3)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store of two sessions: one of two runs under pressure, one that is barely used."""
    path = str(tmp_path / "memory.db")
    with Session.open("support-42", store=path, token_budget=3_000) as session:
        for _ in range(2):
            talk(session, 5)
    with Session.open(HOSTILE, store=path) as session:
        session.history.append({"role": "user", "content": "hello"})
    return path


def test_list_has_a_row_for_each_session(store: str) -> None:
    """
    Tokens, budget, size and last use of each; terminal escapes of an id do nothing.
    """
    shown = invoke("sessions", "list", "--store", store)
    listed = {row["id"]: row for row in values("sessions", "list", "--store", store)}

    assert shown.exit_code == 0
    assert "\x1b" not in shown.stdout
    assert "user\N{REPLACEMENT CHARACTER}[31m-7" in shown.stdout
    assert "2 sessions" in shown.stdout
    assert set(listed) == {"support-42", HOSTILE}
    row = listed["support-42"]
    assert 0 < row["tokens"] <= row["token_budget"] == 3_000
    assert row["bytes"] > 1_000
    assert row["archived_at"] is None
    assert row["used_at"].endswith("+00:00")


def test_store_comes_from_the_environment(store: str) -> None:
    """
    ``MEMTRACE_STORE`` names the store where ``--store`` does not.
    """
    result = CliRunner().invoke(app, ["sessions", "list"], env={"MEMTRACE_STORE": store})

    assert "support-42" in result.stdout


def test_show_tells_layers_points_runs_and_actions(store: str) -> None:
    """
    What a session holds agrees with itself; its runs and what was done in them are listed.
    """
    shown = invoke("sessions", "show", "support-42", "--store", store).stdout
    (told,) = values("sessions", "show", "support-42", "--store", store)

    assert "conversation history" in shown
    assert "cleanup frequency" in shown
    assert "talker" in shown
    assert len(told["points"]) == 5
    assert told["profile"]["total_tokens"] == told["tokens"]
    assert sum(layer["tokens"] for layer in told["layers"].values()) == told["tokens"]
    reports = [report for run in told["runs"] for report in run["reports"]]
    assert any(report["tokens_freed"] > 0 for report in reports)


def test_top_for_machines(store: str) -> None:
    """
    ``top --json`` looks once: the five points of each session, the last used first.
    """
    told = values("top", "--store", store)

    assert [one["id"] for one in told] == [HOSTILE, "support-42"]
    assert all(len(one["points"]) == 5 for one in told)


def test_looking_changes_nothing(store: str) -> None:
    """
    After all that only looks, the store is what it was: no snapshot, no run, no use is new.
    """
    before = values("sessions", "list", "--store", store)
    for command in (["list"], ["show", "support-42"], ["snapshots", "support-42"]):
        assert invoke("sessions", *command, "--store", store).exit_code == 0
    invoke("diagnose", "support-42", "--store", store)
    invoke("verify", store)

    assert values("sessions", "list", "--store", store) == before


def test_restore_makes_a_new_snapshot(store: str) -> None:
    """
    Memory is what it was at the snapshot; what was before can be restored in turn.
    """
    with Session.open("support-42", store=store) as session:
        first = session.snapshots()[-1]
        talk(session, 1)
    there = values("sessions", "snapshots", "support-42", "--store", store)

    (told,) = values(
        "sessions", "restore", "support-42", str(first.revision), "--yes", "--store", store
    )

    assert told["tokens_after"] == first.tokens != told["tokens_before"]
    now = values("sessions", "snapshots", "support-42", "--store", store)
    assert now[1:] == there
    assert (now[0]["number"], now[0]["tokens"]) == (told["snapshot"], first.tokens)
    with Session.open("support-42", store=store) as session:
        assert session.profile() == session.recount()
        assert session.profile().total_tokens == first.tokens


def test_restore_takes_the_last_snapshot_of_a_name(store: str) -> None:
    """
    A name stands for the newest snapshot that has it.
    """
    last = values("sessions", "snapshots", "support-42", "--store", store)[0]

    (told,) = values("sessions", "restore", "support-42", last["name"], "--yes", "--store", store)

    assert told["restored"] == last["number"]


def test_restore_asks_first(store: str) -> None:
    """
    Without an answer nothing is changed.
    """
    before = values("sessions", "snapshots", "support-42", "--store", store)

    result = invoke("sessions", "restore", "support-42", "1", "--store", store)

    assert result.exit_code == 2
    assert "nothing was changed" in result.stderr
    assert values("sessions", "snapshots", "support-42", "--store", store) == before


REFUSED = {
    "no store": (["sessions", "list"], "which store"),
    "no such store": (["sessions", "list", "--store", "{none}"], "there is no store"),
    "no such session": (["sessions", "show", "suport", "--store", "{store}"], "'support-42'"),
    "no such snapshot": (
        ["sessions", "restore", "support-42", "99", "-y", "--store", "{store}"],
        "no snapshot '99'; the last ones are",
    ),
    "no such file": (["diagnose", "{none}"], "no such file"),
    "no store to verify": (["verify"], "which store"),
    "not a store": (["verify", "{text}"], "cannot be a store"),
    "no terminal to watch": (["top", "--store", "{store}"], "top --json"),
    "no such store to watch": (["top", "--store", "{none}"], "there is no store"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_told_in_one_line(name: str, store: str, tmp_path: Path) -> None:
    """
    One line on standard error, status 2, nothing on standard output, no traceback.
    """
    arguments, told = REFUSED[name]
    text = tmp_path / "a.txt"
    text.write_text("hello\n" * 2_000)
    places = {"none": tmp_path / "none.db", "store": store, "text": text}

    result = invoke(*(argument.format(**places) for argument in arguments))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("memtrace: ")
    assert result.stderr.count("\n") == 1
    assert told in result.stderr
    assert not (tmp_path / "none.db").exists()


# --- diagnose -------------------------------------------------------------------------------------


@pytest.fixture
def repeating(tmp_path: Path) -> str:
    """A store whose one session says the same over and over."""
    path = str(tmp_path / "repeating.db")
    session = Session.open("loop", store=path, token_budget=2_500)
    for _ in range(8):
        session.history.append({"role": "user", "content": "Is it still raining? " * 40})
        session.history.append({"role": "assistant", "content": "It is."})
    session.close()
    return path


def test_diagnose_says_what_is_wrong(repeating: str) -> None:
    """
    Each finding with its figure, what it comes from and what helps; the status says so.
    """
    result = invoke("diagnose", "loop", "--store", repeating)
    found = values("diagnose", "loop", "--store", repeating)

    assert result.exit_code == 1
    assert "duplicates" in result.stdout
    assert "measured" in result.stdout
    duplicates = next(finding for finding in found if finding["symptom"] == "duplicates")
    assert duplicates["measured"] > duplicates["threshold"]
    assert any(remedy["applicable"] for remedy in duplicates["remedies"])


def test_diagnose_takes_a_store_of_one_session(repeating: str) -> None:
    """
    A store that holds one session needs no id.
    """
    assert values("diagnose", repeating) == values("diagnose", "loop", "--store", repeating)


def test_diagnose_applies_and_measures_again(repeating: str) -> None:
    """
    What was applied is told with its effect, kept as a snapshot, and cured.
    """
    before = values("sessions", "list", "--store", repeating)[0]

    told = values("diagnose", "loop", "--store", repeating, "--apply")

    applied = [one for one in told if "applied" in one]
    assert applied[0]["symptom"] == "duplicates"
    assert applied[0]["tokens_after"] < applied[0]["tokens_before"]
    after = values("sessions", "list", "--store", repeating)[0]
    assert after["tokens"] < before["tokens"]
    assert after["revision"] > before["revision"]
    assert invoke("diagnose", "loop", "--store", repeating).exit_code == 0


def test_diagnose_leaves_a_file_as_it_is(tmp_path: Path) -> None:
    """
    On a recorded session remedies are tried, and the file is not touched.
    """
    path = tmp_path / "s.jsonl"
    again = {"role": "user", "content": "Is it still raining? " * 40}
    path.write_text("\n".join(map(json.dumps, [{"session_id": "s"}, *[again] * 8])) + "\n")
    before = path.read_bytes()

    result = invoke("diagnose", str(path), "--budget", "2.5k", "--apply")

    assert result.exit_code == 0
    assert "the file is as it was" in result.stdout
    assert path.read_bytes() == before


# --- verify ---------------------------------------------------------------------------------------


def test_verify_says_that_all_is_well(store: str) -> None:
    """
    What was read is counted; the status is 0.
    """
    (told,) = values("verify", store)

    assert told["ok"] is True
    assert told["sessions"] == 2
    assert "all is as it was written" in invoke("verify", store).stdout


def test_verify_tells_what_is_damaged(store: str) -> None:
    """
    A row that was changed is named, and the status is 1.
    """
    with sqlite3.connect(store) as connection:
        connection.execute(
            "UPDATE log SET payload = x'00' WHERE rowid = (SELECT max(rowid) FROM log)"
        )
    connection.close()

    result = invoke("verify", store)
    (told,) = values("verify", store)

    assert result.exit_code == 1
    assert "snapshot" in result.stdout
    assert told["damages"]
    assert told["ok"] is False


# --- putting away, and letting go -----------------------------------------------------------------


def test_archive_puts_idle_sessions_away(store: str) -> None:
    """
    What is put away is listed, shown and diagnosed as before, and stays put away.
    """
    before = values("sessions", "show", "support-42", "--store", store)[0]

    (told,) = values("sessions", "archive", "--idle-hours", "0", "--store", store)

    assert set(told["archived"]) == {"support-42", HOSTILE}
    assert told["packed_bytes"] < told["raw_bytes"]
    after = values("sessions", "show", "support-42", "--store", store)[0]
    assert after["layers"] == before["layers"]
    assert invoke("diagnose", "support-42", "--store", store).exit_code in (0, 1)
    listed = values("sessions", "list", "--store", store)
    assert all(row["archived_at"] for row in listed)
    assert "archived" in invoke("sessions", "list", "--store", store).stdout
    assert values("verify", store)[0]["ok"]


def test_archive_of_one_session(store: str) -> None:
    """
    One that is named is put away at once, and a second time there is nothing to do.
    """
    first = invoke("sessions", "archive", "support-42", "--store", store)
    again = invoke("sessions", "archive", "support-42", "--store", store)

    assert first.exit_code == 0
    assert "Put away 1 session" in first.stdout
    assert (again.exit_code, again.stdout) == (2, "")
    assert "put away already" in again.stderr


def test_archive_leaves_what_is_in_use(store: str) -> None:
    """
    By default only what was idle for a day goes.
    """
    result = invoke("sessions", "archive", "--store", store)

    assert (result.exit_code, result.stdout) == (0, "No session was idle for 24 hours.\n")


def test_retention_says_what_would_go(store: str) -> None:
    """
    Without ``--apply`` it is told, and all stays.
    """
    result = invoke("sessions", "retention", "--session-days", "0", "--store", store)
    going = values("sessions", "retention", "--session-days", "0", "--store", store)

    assert result.exit_code == 0
    assert "Would go: session 2" in result.stdout
    assert {one["session"] for one in going} == {"support-42", HOSTILE}
    assert len(values("sessions", "list", "--store", store)) == 2


def test_retention_lets_go_when_sure(store: str) -> None:
    """
    With ``--apply`` somebody has to say yes; then it is gone.
    """
    command = ("sessions", "retention", "--session-days", "0", "--apply", "--store", store)

    unsure = invoke(*command)
    kept = len(values("sessions", "list", "--store", store))
    sure = invoke(*command, "--yes")

    assert (unsure.exit_code, kept) == (2, 2)
    assert "nothing went" in unsure.stderr
    assert sure.exit_code == 0
    assert "Went: session 2" in sure.stdout
    assert values("sessions", "list", "--store", store) == []


def test_retention_needs_a_rule(store: str) -> None:
    """
    Without a rule nothing would ever go: that is a mistake, told with the rules there are.
    """
    result = invoke("sessions", "retention", "--store", store)

    assert result.exit_code == 2
    assert "--run-log-days" in result.stderr


def test_names_are_no_markup(tmp_path: Path) -> None:
    """
    What looks like markup in a session's or a checkpoint's name is shown as it is.
    """
    path, name = str(tmp_path / "memory.db"), "[/red]:smile:"
    with Session.open(name, store=path) as session, checkpoint(session, name):
        session.history.append({"role": "user", "content": "hello"})

    for command in (["list"], ["show", name], ["snapshots", name]):
        shown = invoke("sessions", *command, "--store", path)
        assert shown.exit_code == 0
        assert name in shown.stdout


def test_what_is_no_store_is_not_made_one(tmp_path: Path) -> None:
    """
    An empty file, a text and a folder are refused by each command that reads stores, and stay.
    """
    empty, text, folder = tmp_path / "empty.db", tmp_path / "a.jsonl", tmp_path / "folder"
    empty.touch()
    text.write_text('{"session_id": "a"}\n')
    folder.mkdir()

    for command in (["verify"], ["sessions", "list", "--store"], ["report"]):
        for place in (empty, folder, *([text] if command != ["report"] else [])):
            result = invoke(*command, str(place))
            assert (result.exit_code, result.stdout) == (2, "")
            assert str(place) in result.stderr
    assert "memtrace diagnose" in invoke("verify", str(text)).stderr
    assert "no memtrace.db in it" in invoke("verify", f"sqlite:///{folder}").stderr
    assert empty.stat().st_size == 0
    assert not list(folder.iterdir())


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_figure_is_cut_on_a_narrow_terminal(columns: int, store: str) -> None:
    """
    Columns that can be spared go; what stays is whole, and within the terminal.
    """
    width = {"COLUMNS": str(columns)}
    for command in ("list", "show", "snapshots"):
        target = [] if command == "list" else ["support-42"]
        arguments = ["sessions", command, *target, "--store", store]
        lines = CliRunner().invoke(app, arguments, env=width).stdout.splitlines()
        table = [line.partition("of the budget")[0] for line in lines]
        assert all(len(line) <= columns for line in lines)
        assert not any(digit + "…" in line for line in table for digit in "0123456789,.")


def test_nobody_at_the_keyboard_says_no(store: str) -> None:
    """
    Where the question cannot be answered, that is told on a line of its own, with status 2.
    """
    result = invoke("sessions", "restore", "support-42", "1", "--store", store)

    assert result.exit_code == 2
    assert "\nmemtrace: nothing was changed\n" in result.stderr
