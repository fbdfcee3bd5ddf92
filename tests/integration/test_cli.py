"""The ``memtrace`` command, as somebody at a terminal or in a pipe meets it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memtrace import Policy, Session, __version__
from memtrace.cli.app import app
from memtrace.demo import ACTIONS, DEMO_TOKEN_BUDGET, TASK, Tools, Workbench, planner, run_demo
from memtrace.values import LAYER_NAMES

ESCAPE = "\x1b["


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, its output piped."""
    return subprocess.run(
        [sys.executable, "-m", "memtrace.cli", *arguments],
        capture_output=True,
        check=False,
        encoding=environ.get("PYTHONIOENCODING", "utf-8"),
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environ},
        timeout=60,
    )


def invoke(*arguments: str) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, arguments)


def session_file(path: Path, turns: int = 3, session_id: str = "s-1") -> str:
    """A recorded session of so many turns, each of two messages."""
    lines: list[dict[str, Any]] = [
        {"session_id": session_id, "kind": "short_chat", "budget_hint": {"context_window": 500}}
    ]
    for turn in range(turns):
        usage = {"input": 100 * turn + 1}
        lines.append({"role": "user", "content": f"question {turn}"})
        lines.append({"role": "assistant", "content": "answer " * 9, "_x": {"usage": usage}})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return str(path)


# --- demo ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def piped_demo() -> subprocess.CompletedProcess[str]:
    """`memtrace demo | cat`."""
    return run("demo")


@pytest.fixture(scope="module")
def demo_values() -> dict[str, Any]:
    """What `memtrace demo --json` gives."""
    values: dict[str, Any] = json.loads(run("demo", "--json").stdout)
    return values


def test_demo_prints_spans_curve_and_layers(
    piped_demo: subprocess.CompletedProcess[str],
) -> None:
    """
    All three agents' spans, the curve with its budget, a row for each layer; no stray log.
    """
    assert piped_demo.returncode == 0, piped_demo.stderr
    assert piped_demo.stderr == ""
    for agent in ("planner", "researcher", "writer"):
        assert f"invoke_agent {agent}" in piped_demo.stdout
    for layer in LAYER_NAMES:
        assert re.search(rf"^. {layer.replace('_', ' ')} .*\d", piped_demo.stdout, re.M), layer
    assert "╌ budget" in piped_demo.stdout
    assert re.search(r"^\d\d+ steps in ", piped_demo.stdout, re.M)


def test_demo_shows_what_the_loop_did(piped_demo: subprocess.CompletedProcess[str]) -> None:
    """
    Each action has its span and its row; alert and rollback stand out; the last line sums up.
    """
    shown = piped_demo.stdout
    for action in ACTIONS:
        assert f"─ memtrace.{action}  " in shown
        assert re.search(rf"^ *\d+  \w+ +{action} +[\d,]+ +[\d,]+ +", shown, re.M), action
    assert re.search(r"memtrace.checkpoint .* rolled back", shown)
    assert re.search(r"^ *\d+  writer +rollback +[\d,]+ +[\d,]+ +", shown, re.M)
    assert re.search(r"! \w+ [\d.]+ (above|below) [\d.]+$", shown, re.M)
    assert re.search(r"^! memtrace alert for session demo: ", shown, re.M)
    assert re.search(
        r" Kept under 40,000 tokens (through|at every model call of) \d+ steps; "
        r"gave back [\d,]+ tokens in \d+ actions; "
        r"nothing lost: \d+ originals kept\.$",
        " ".join(shown.split()),
    )


def test_demo_has_no_colours_in_a_pipe(piped_demo: subprocess.CompletedProcess[str]) -> None:
    """
    What is piped is plain text, at most 100 columns wide.
    """
    assert ESCAPE not in piped_demo.stdout
    assert max(map(len, piped_demo.stdout.splitlines())) <= 100


def test_demo_fills_every_layer(demo_values: dict[str, Any]) -> None:
    """
    At the end no layer is empty, and the layers add up.
    """
    profile = demo_values["profile"]

    assert all(profile[layer] > 0 for layer in LAYER_NAMES), profile
    assert sum(profile[layer] for layer in LAYER_NAMES) == profile["total_tokens"]


def test_demo_makes_everything_happen(demo_values: dict[str, Any]) -> None:
    """
    By itself every action runs and helps; an alert fires; a step is rolled back and done again.
    """
    done = {action["action"] for action in demo_values["actions"] if action["items"] > 0}
    gave_back = {a["action"] for a in demo_values["actions"] if a["tokens_freed"] > 0}

    assert done == set(ACTIONS)
    assert gave_back >= {"cleanup", "compress", "consolidate"}
    assert all(action["outcome"] != "failed" for action in demo_values["actions"])
    assert demo_values["alerts"]
    assert demo_values["checkpoints"] > len(demo_values["rollbacks"]) > 0
    assert all(back["tokens_after"] < back["tokens_before"] for back in demo_values["rollbacks"])
    assert demo_values["originals"] > 0


def test_demo_is_kept_under_its_budget(demo_values: dict[str, Any]) -> None:
    """
    At no call of a model is memory above its budget, or above where the loop acts in any case.
    """
    budget = demo_values["token_budget"]
    totals = [step["call_tokens"] for step in demo_values["steps"]]

    assert budget / 2 < max(totals) <= Policy().budget_alert * budget


def test_demo_is_real_work(demo_values: dict[str, Any]) -> None:
    """
    Three agents use all four tools in some two hundred steps, and ask the cache again with success.
    """
    steps = demo_values["steps"]

    assert 50 <= len(steps) <= 400
    assert {step["agent"] for step in steps} == {"planner", "researcher", "writer"}
    assert {step["tool"] for step in steps} == {"list", "read", "search", "run"}
    assert 0 < demo_values["cache_hit_rate"] < 1
    assert any(step["cached"] for step in steps)


def test_demo_writes_a_true_report(demo_values: dict[str, Any]) -> None:
    """
    The report has every public name, each could be imported, and the examples ran.
    """
    import memtrace

    report = demo_values["report"]

    assert [name for name in memtrace.__all__ if f"- {name}: " not in report] == []
    assert f"Imports: {len(memtrace.__all__)} imported" in report
    assert re.search(r"^Examples: .*failed=0, attempted=[1-9]", report, re.M)


def test_demo_is_the_same_each_time() -> None:
    """
    No network, no model, no chance: two runs have the same steps and the same totals.
    """
    first, again, smaller = run_demo(), run_demo(), run_demo(token_budget=32_000)

    assert first.profile == again.profile
    assert [step.argument for step in first.steps] == [step.argument for step in smaller.steps]
    assert first.report == again.report == smaller.report


@pytest.fixture(scope="module")
def worked(root: Path) -> Session:
    """The demo's session after the work, which it was too small for."""
    session = Session(token_budget=DEMO_TOKEN_BUDGET)
    planner(session, Workbench(session, Tools(root / "memtrace")))
    return session


def test_demo_keeps_calls_and_results_together(worked: Session) -> None:
    """
    The history is one that a model's provider would take: calls are answered at once, in order.
    """
    messages = worked.messages()

    assert messages[0] == {"role": "user", "content": TASK}
    calls = [place for place, message in enumerate(messages) if "tool_calls" in message]
    asked = [[call["id"] for call in messages[place]["tool_calls"]] for place in calls]
    for place, identities in zip(calls, asked, strict=True):
        results = messages[place + 1 : place + 1 + len(identities)]
        assert [result["tool_call_id"] for result in results] == identities
    assert sum(message["role"] == "tool" for message in messages) == sum(map(len, asked))
    assert worked.profile() == worked.recount()


def test_demo_loses_nothing(worked: Session) -> None:
    """
    Each tool's result is shown as it was or reachable whole, but for the one rolled back.
    """
    kept = []
    for item in worked.history.items:
        original = worked.original(item.id)
        kept += original if isinstance(original, list) else [original]
    results = [message["tool_call_id"] for message in kept if message["role"] == "tool"]
    last = max(int(identity.removeprefix("call_")) for identity in results)

    assert any(item.derived_from for item in worked.history.items)
    assert len(set(results)) == len(results) == last - 1
    assert not any("set aside" in message["content"] for message in kept if message["content"])


@pytest.mark.parametrize("path", ["../pyproject.toml", "/etc/hostname", "missing.py", "."])
def test_demo_reads_nothing_outside_its_folder(root: Path, path: str) -> None:
    """
    A path that leads elsewhere, or nowhere, is refused in words.
    """
    assert Tools(root / "memtrace")("read", {"path": path}).startswith("error: ")


def test_demo_prints_its_report_when_asked() -> None:
    """
    `--report` shows what the agents wrote.
    """
    assert "# Public API" in run("demo", "--report").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_demo_has_colours_on_a_terminal(no_color: str, coloured: bool) -> None:
    """
    On a terminal there are colours, unless NO_COLOR asks for none.
    """
    import pty

    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": no_color}
    with subprocess.Popen(
        [sys.executable, "-m", "memtrace.cli", "demo"],
        stdout=follower,
        stderr=follower,
        env=environ,
    ) as process:
        os.close(follower)
        shown = _read_all(leader)

    assert process.returncode == 0
    assert ("\x1b[34m█" in shown) == coloured, shown[-500:]


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


# --- replay -------------------------------------------------------------------------------------


def test_replay_prints_a_row_for_each_turn(tmp_path: Path) -> None:
    """
    One session: its turns with tokens before and after, its spans, its curve, its layers.
    """
    done = invoke("replay", session_file(tmp_path / "a.jsonl"))

    assert done.exit_code == 0, done.output
    rows = re.findall(r"^ +(\d) +2 +([\d,]+) +([\d,]+) +\+\d+ +\d+%", done.output, re.M)
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert [row[1] for row in rows[1:]] == [row[2] for row in rows[:-1]]
    assert done.output.count("invoke_agent replay") == 3
    assert "conversation history" in done.output


def test_replay_folds_many_turns(tmp_path: Path) -> None:
    """
    A long session takes 24 rows, in which every message is counted; `--every` shows each turn.
    """
    file = session_file(tmp_path / "a.jsonl", turns=100)
    folded, every = invoke("replay", file).output, invoke("replay", file, "--every").output

    rows = re.findall(r"^ *\d+–\d+ +(\d+) ", folded, re.M)
    assert len(rows) == 24
    assert sum(map(int, rows)) == 200
    assert len(re.findall(r"^ *\d+ +2 ", every, re.M)) == 100
    assert "invoke_agent" not in folded


@pytest.mark.parametrize(("flags", "spans"), [((), 3), (("--spans",), 3), (("--no-spans",), 0)])
def test_replay_prints_spans_as_asked(tmp_path: Path, flags: Sequence[str], spans: int) -> None:
    """
    Spans of few turns are printed unless that is refused.
    """
    done = invoke("replay", session_file(tmp_path / "a.jsonl"), *flags)

    assert done.output.count("invoke_agent replay") == spans


def test_replay_gives_json(tmp_path: Path) -> None:
    """
    `--json` gives one object a line for each session, with every turn's layers.
    """
    files = [session_file(tmp_path / f"{name}.jsonl", session_id=name) for name in "ab"]
    done = invoke("replay", "--json", "--budget", "700", *files)

    values = [json.loads(line) for line in done.output.splitlines()]
    assert [value["session_id"] for value in values] == ["a", "b"]
    assert values[0]["token_budget"] == 700
    turn = values[0]["turns"][-1]
    assert turn["after"] == values[0]["profile"]
    assert set(LAYER_NAMES) < set(turn["after"])
    assert turn["billed_tokens"] == 201


def test_replay_tells_what_went(tmp_path: Path) -> None:
    """
    Under a small budget each turn says what was given back and by what; what is saved comes last.
    """
    done = invoke("replay", "--budget", "200", session_file(tmp_path / "a.jsonl", turns=20))

    assert done.exit_code == 0, done.output
    rows = re.findall(
        r"^ +\d+ +2 +([\d,]+) +([\d,]+) +\+(\d+) +(\d*) +\d+%  (\S*)", done.output, re.M
    )
    assert len(rows) == 20
    for before, after, added, gave_back, by in rows:
        assert int(after) == int(before) + int(added) - int(gave_back or 0)
        assert bool(gave_back) == ("compress" in by or "cleanup" in by)
    assert any(by for *_, by in rows)
    assert re.search(
        r" \d+ passes, \d+ tokens given back; 20 model calls sent [\d,]+ tokens, not [\d,]+: "
        r"\d+% saved\. The prompt cache was rewritten \d+ times: [\d,]+ tokens read again\.$",
        " ".join(done.output.split()),
    )


def test_replay_names_what_cannot_be_reached(tmp_path: Path) -> None:
    """
    Where a budget is too small for what must stay, moments over it are counted, and why.
    """
    done = invoke("replay", "--budget", "8", session_file(tmp_path / "a.jsonl", turns=6))

    assert done.exit_code == 0, done.output
    assert re.search(r"\bover\s*×\d+", done.output)
    assert re.search(r"^Over budget at \d+ moments?, in turn \d", done.output, re.M)
    assert re.search(r"^Not reached: unreachable: \d+ tokens are left", done.output, re.M)
    assert done.stderr == ""


def test_replay_gives_json_of_what_the_loop_did(tmp_path: Path) -> None:
    """
    `--json` has every report and alert of every turn, and the tokens that were sent.
    """
    file = session_file(tmp_path / "a.jsonl", turns=20)
    values = json.loads(invoke("replay", "--json", "--budget", "200", file).output)

    reports = [report for turn in values["turns"] for report in turn["reports"]]
    assert {report["action"] for report in reports} <= set(ACTIONS)
    assert sum(report["tokens_freed"] for report in reports) > 0
    assert values["passes"] == sum(turn["passes"] for turn in values["turns"]) > 0
    assert values["sent"]["calls"] == 20
    assert 0 < values["sent"]["tokens"] < values["sent"]["raw_tokens"]
    assert 0 < values["sent"]["saved_share"] < 1
    assert values["over_budget"] == 0


def test_replay_of_several_is_a_row_each(tmp_path: Path) -> None:
    """
    Several sessions are compared in one table.
    """
    files = [session_file(tmp_path / f"{name}.jsonl", session_id=f"id-{name}") for name in "ab"]
    done = invoke("replay", *files)

    assert done.exit_code == 0
    assert re.findall(r"^(id-\w) +3 +6 +[\d,]+ +500", done.output, re.M) == ["id-a", "id-b"]
    assert re.search(r"^No room had to be made: 6 model calls sent ", done.output, re.M)


def test_replay_names_what_it_cannot_read(tmp_path: Path) -> None:
    """
    A bad file is one line on standard error and exit status 2; the good ones are still shown.
    """
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"session_id": "s"}\n{"role": "us', "utf-8")
    good = session_file(tmp_path / "good.jsonl")
    done = run("replay", str(bad), good, str(tmp_path / "missing.jsonl"))

    assert done.returncode == 2
    first, second = done.stderr.splitlines()
    assert first.startswith(f"memtrace: {bad}, line 2: not JSON")
    assert "missing.jsonl cannot be read: No such file" in second
    assert "s-1" in done.stdout


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "x", "--budget", "0"], ["reply"]])
def test_bad_use_is_explained(arguments: list[str]) -> None:
    """
    A call that cannot work says what would, with exit status 2.
    """
    done = run(*arguments)

    assert done.returncode == 2
    assert "Usage: memtrace" in done.stderr
    assert "Traceback" not in done.stderr


def test_replay_prints_nothing_that_moves_the_cursor(tmp_path: Path) -> None:
    """
    Whatever a recording is called, its name cannot write to the terminal.
    """
    file = session_file(tmp_path / "a.jsonl", session_id="id\x1b[2J\x07\ud800 [bold]x[/bold]")
    done = run("replay", file)

    assert done.returncode == 0, done.stderr
    assert not set(done.stdout) & {"\x1b", "\x07"}
    assert "[bold]x[/bold]" in done.stdout


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(missing: str) -> None:
    """
    Without typer or rich there is no traceback, but the command that brings them.
    """
    code = f"import sys; sys.modules[{missing!r}] = None; from memtrace.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"], capture_output=True, check=False, text=True
    )

    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert 'pip install "memtrace-otel[cli]"' in line


def test_version() -> None:
    """
    `--version` prints the version.
    """
    assert run("--version").stdout == f"memtrace {__version__}\n"


@pytest.mark.parametrize("environ", [{"COLUMNS": "30"}, {"COLUMNS": "300"}, {"TERM": "dumb"}])
def test_any_width_will_do(tmp_path: Path, environ: dict[str, str]) -> None:
    """
    Narrow, wide or dumb: the output fits, and the command succeeds.
    """
    done = run("replay", "--no-spans", session_file(tmp_path / "a.jsonl"), **environ)

    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= int(environ.get("COLUMNS", "100"))


def test_output_that_cannot_be_encoded_is_replaced(tmp_path: Path) -> None:
    """
    A terminal that knows ASCII alone ends nothing.
    """
    done = run("replay", session_file(tmp_path / "a.jsonl"), PYTHONIOENCODING="ascii")

    assert done.returncode == 0, done.stderr
    assert "conversation history" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
@pytest.mark.parametrize("command", ["demo", "replay"])
def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path, command: str) -> None:
    """
    `memtrace demo | head -1` ends quietly.
    """
    arguments = (
        [session_file(tmp_path / "a.jsonl", 3_000), "--every"] if command == "replay" else []
    )
    with subprocess.Popen(
        [sys.executable, "-m", "memtrace.cli", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()

        assert process.stderr.read() == b""
