"""``memtrace whatif``: what other budgets and policies would have done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memtrace import Policy
from memtrace.cli.app import app
from memtrace.counters import get_counter
from memtrace.replay import Names, play, read_session
from memtrace.replay.whatif import Outcome, Setting, whatif


def invoke(*arguments: str) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, arguments)


def session_file(path: Path, messages: Sequence[dict[str, Any]]) -> Path:
    header = {"session_id": path.stem}
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *messages]), "utf-8")
    return path


def asking(turns: int, last: str = "done") -> list[dict[str, Any]]:
    """Turns whose tool output is large and names one file each; the last reply says `last`."""
    messages: list[dict[str, Any]] = []
    for turn in range(turns):
        function = {"name": "read", "arguments": "{}"}
        call = {"id": f"call_{turn}", "type": "function", "function": function}
        output = f"src/part_{turn}.py\n" + "nothing to see here. " * 60
        reply = last if turn == turns - 1 else "go on"
        messages += [
            {"role": "user", "content": "read the next"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": output},
            {"role": "assistant", "content": reply},
        ]
    return messages


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sessions of several lengths."""
    folder = tmp_path_factory.mktemp("sessions")
    return [session_file(folder / f"{turns}.jsonl", asking(turns)) for turns in (3, 9, 16)]


SETTINGS = [Setting(1_000), Setting(1_500, {"keep_recent": 4}), Setting(10**6)]


def test_it_finds_what_replays_find(files: list[Path]) -> None:
    """
    Each setting's outcome is the sum of replays with that budget and policy, one by one.
    """
    found = whatif(files, SETTINGS, workers=1)

    assert found.refused == []
    for setting, outcome in zip(SETTINGS, found.outcomes, strict=True):
        alone = Outcome()
        for file in files:
            recorded = read_session(file)
            budget, policy = setting.token_budget, Policy(**setting.constants)
            names = Names(recorded)
            alone += Outcome.of(play(recorded, token_budget=budget, policy=policy, names=names))
        assert outcome == alone
    tight, _, ample = found.outcomes
    assert tight.compactions > ample.compactions == ample.sent.rewrites == ample.sighted.lost == 0
    assert tight.sent.tokens < ample.sent.tokens == ample.sent.raw_tokens


def test_processes_find_the_same(files: list[Path]) -> None:
    """
    Several processes, even more than there are files, find what one finds; each replay is told.
    """
    told: list[int] = []
    alone = whatif(files[:1], SETTINGS, workers=1, encoding="approx")
    several = whatif(files[:1], SETTINGS, workers=2, encoding="approx", told=told.append)

    assert several == alone
    assert sum(told) == len(SETTINGS)
    assert len(told) == 2


def test_a_name_is_lost_or_missed(tmp_path: Path) -> None:
    """
    Lost: shown nowhere at the end. Missed: a reply used it, and its prompt did not show it.
    """
    plain = session_file(tmp_path / "plain.jsonl", asking(12))
    using = session_file(tmp_path / "using.jsonl", asking(12, last="see src/part_0.py again"))
    policy = {"stub_share": 0.001, "digest_share": 0.001}  # no room for names
    lost = whatif([plain], [Setting(1_500, policy)], workers=1).outcomes[0].sighted
    used = whatif([using], [Setting(1_500, policy)], workers=1).outcomes[0].sighted
    ample = whatif([using], [Setting(10**6)], workers=1).outcomes[0].sighted

    assert lost.said == 12
    assert lost.lost > 0 == lost.used == lost.missed
    assert (used.used, used.missed) == (1, 1)
    assert used.lost == lost.lost - 1  # the last reply said it again
    assert (ample.used, ample.missed, ample.lost) == (1, 0, 0)


def test_texts_are_counted_once(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A recorded text is counted for the first setting, and known to the others.
    """
    seen: list[str] = []

    class Listening:
        name, exact = "listening", True

        def count_text(self, text: str) -> int:
            seen.append(text)
            return get_counter("approx").count_text(text)

    monkeypatch.setitem(
        sys.modules["memtrace.counters"].__dict__["_counters"], "heard", Listening()
    )
    whatif(files[:2], [Setting(10**6)] * 3, encoding="heard", workers=1)

    assert seen
    assert len(seen) <= 2 * len(set(seen))  # once for each of the two files


def test_a_table_and_a_picture(tmp_path: Path) -> None:
    """
    A row for every budget with every policy, and bars that show who is highest.
    """
    file = session_file(tmp_path / "a.jsonl", asking(12))
    careful = tmp_path / "careful.toml"
    careful.write_text("keep_recent = 4\n", "utf-8")
    other = tmp_path / "other.toml"
    other.write_text("keep_tool_outputs = 2\n", "utf-8")
    done = invoke(
        "whatif", str(file), "--budget", "1500,3k", "--policy", f"{careful}, {other}"
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    table, picture = done.output.split("tokens sent")
    rows = [line.split()[:2] for line in table.splitlines() if ".toml" in line]
    names = ["careful.toml", "other.toml"]
    assert rows == [[budget, name] for name in names for budget in ("1,500", "3,000")]
    assert picture.count("█") > 4
    assert max(map(len, done.output.splitlines())) <= 100


def test_json_has_a_line_for_each_setting(tmp_path: Path) -> None:
    """
    `--json` gives for each setting what was sent, compactions, names and rewrites.
    """
    file = session_file(tmp_path / "a.jsonl", asking(12))
    done = invoke("whatif", str(file), "--budget", "1500,1M", "--json")
    tight, ample = map(json.loads, done.output.splitlines())

    assert (tight["token_budget"], ample["token_budget"]) == (1_500, 1_000_000)
    assert tight["policy"] == "default"
    assert tight["compactions"] > 0 == ample["compactions"]
    assert tight["sent"]["rewrites"] > 0 == ample["sent"]["rewrites"]
    assert tight["sent"]["reread_tokens"] > 0
    assert ample["sent"]["saved_share"] == 0
    assert set(tight["names"]) == {"said", "lost", "used", "missed"}


def test_a_bad_file_does_not_spoil_the_others(tmp_path: Path) -> None:
    """
    It is named on standard error; the others are compared; the exit status tells.
    """
    good = session_file(tmp_path / "a.jsonl", asking(2))
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{", "utf-8")
    done = invoke("whatif", str(bad), str(good), "--json")

    assert done.exit_code == 2
    assert done.stderr.startswith(f"memtrace: {bad}, line 1: not JSON")
    assert json.loads(done.stdout)["sessions"] == 1


def test_the_command_uses_several_processes(files: list[Path]) -> None:
    """
    `--jobs 2` prints what one process prints, and nothing that moves the cursor.
    """
    arguments = [*map(str, files), "--encoding", "approx"]
    shown = [
        subprocess.run(
            [sys.executable, "-m", "memtrace.cli", "whatif", *arguments, "--jobs", jobs],
            capture_output=True,
            check=True,
            encoding="utf-8",
            env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            timeout=120,
        )
        for jobs in ("1", "2")
    ]

    assert shown[0].stdout == shown[1].stdout != ""
    assert shown[0].stderr == shown[1].stderr == ""
    assert "\x1b" not in shown[0].stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
@pytest.mark.parametrize("command", ["replay", "whatif"])
def test_a_bar_shows_how_far_it_is(files: list[Path], tmp_path: Path, command: str) -> None:
    """
    On a terminal, standard error has a bar that is gone at the end; standard output is as ever.
    """
    import pty

    leader, follower = pty.openpty()
    arguments = [*map(str, files), "--encoding", "approx", "--json"]
    with (
        (tmp_path / "out.jsonl").open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "memtrace.cli", command, *arguments],
            stdout=out,
            stderr=follower,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        ) as process,
    ):
        os.close(follower)
        bar = _read_all(leader)

    assert process.returncode == 0
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert "playing" in bar


def _read_all(descriptor: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(descriptor, 65_536)
        except OSError:  # how Linux tells that the other end is closed
            chunk = b""
        if not chunk:
            os.close(descriptor)
            return b"".join(chunks).decode("utf-8", "replace")
        chunks.append(chunk)
