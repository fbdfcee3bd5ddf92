"""Reading recorded sessions, and playing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memtrace import ConfigurationError, measure_tokens
from memtrace.replay import Sent, open_session, play, read_session, turns
from memtrace.testing import capture

HEADER = {"session_id": "s-1", "kind": "short_chat", "system": "Be brief."}
HELLO = {"role": "user", "content": "hello"}
REPLY = {"role": "assistant", "content": "hi"}


def write(path: Path, *lines: dict[str, Any]) -> Path:
    """A recorded session's file."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test writes its session."""
    return tmp_path / "session.jsonl"


# --- reading ------------------------------------------------------------------------------------


def test_header_and_messages_are_read(file: Path) -> None:
    """
    Line 1 is the header, every further line one message.
    """
    recorded = read_session(write(file, HEADER, HELLO, REPLY))

    assert recorded.session_id == "s-1"
    assert recorded.header == HEADER
    assert [message for message, _ in recorded.messages] == [HELLO, REPLY]


def test_notes_are_kept_beside_the_message(file: Path) -> None:
    """
    What the recorder noted under `_x` is taken off the message; the bill is read from it.
    """
    usage = {"input": 10, "cache_read": 200, "cache_write": 3, "output": 9}
    noted = {**REPLY, "_x": {"usage": usage, "model": "m"}}

    message = read_session(write(file, HEADER, HELLO, noted)).messages[1]

    assert message.message == REPLY
    assert message.notes["model"] == "m"
    assert message.billed_tokens == 213


@pytest.mark.parametrize("notes", [None, [], {}, {"usage": None}, {"usage": {"input": "10"}}])
def test_a_bill_that_cannot_be_read_is_none(file: Path, notes: object) -> None:
    """
    Notes of any other shape tell nothing, and break nothing.
    """
    recorded = read_session(write(file, HEADER, {**HELLO, "_x": notes}))

    assert recorded.messages[0].billed_tokens is None


@pytest.mark.parametrize("separator", ["\u2028", "\x0b", "\x85", "\r"])
def test_lines_end_at_newlines_alone(file: Path, separator: str) -> None:
    """
    Other characters that some call line ends are part of a message.
    """
    content = f"one{separator}two"
    lines = [HEADER, {"role": "user", "content": content}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    file.write_bytes(text.encode())

    assert read_session(file).messages[0].message["content"] == content


def test_windows_files_are_read(file: Path) -> None:
    """
    A byte order mark, carriage returns and blank lines do no harm.
    """
    lines = ["\ufeff" + json.dumps(HEADER), json.dumps(HELLO), "", json.dumps(REPLY), ""]
    file.write_bytes("\r\n".join(lines).encode())

    assert len(read_session(file).messages) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"# Notes\n", "line 1: not JSON"),
        (b"\x1f\x8b\x08\x00binary", "line 1: not UTF-8"),
        ('{"session_id": "é"}'.encode("utf-16"), "line 1: not UTF-8"),
        (b"[1, 2]\n", "line 1: a JSON array, not an object"),
        (b"{}\n", "line 1: an empty object, and no session_id"),
        (b'{"resourceSpans": []}', "line 1: an object with resourceSpans, and no session_id"),
        (b'{"role": "user", "content": "hi"}\n', "line 1: an object with role, content"),
        (b'{"session_id": 7}\n', "no session_id"),
        (b'{"session_id": "s", "budget_hint": {"context_window": -5}}\n', "budget_hint"),
        (b'{"session_id": "s", "budget_hint": {"context_window": "8k"}}\n', "got '8k'"),
        (b'{"session_id": "s"}\n', "a header and no message"),
        (b'{"session_id": "s"}\n\n{"content": "hi"}\n', "line 3: an object with content, and no"),
        (b'{"session_id": "s"}\n{"role": null}\n', "line 2: an object with role, and no role"),
        (b'{"session_id": "s"}\n{"role": "user", "con', "line 2: not JSON"),
        (b'{"session_id": "s"}\n{"role": "user", "con', "ends in the middle of it"),
        (b'{"session_id": "s"}\n{"role": "us\xff"}\n', "line 2: not UTF-8"),
        (b'{"session_id": "s"}\n' + b'{"a":' * 100_000, "line 2: not JSON"),
        (b'{"session_id": "s"}\n{"role": ' + b"9" * 5_000 + b"}\n", "line 2"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_line(file: Path, content: bytes, said: str) -> None:
    """
    What is no recorded session gives one clear error, before anything of it is played.
    """
    file.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        read_session(file)

    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["missing.jsonl", ""])
def test_what_cannot_be_opened_is_refused_by_name(tmp_path: Path, name: str) -> None:
    """
    A file that is not there, or is a folder, is named.
    """
    with pytest.raises(ConfigurationError, match="cannot be read: "):
        read_session(tmp_path / name)


# --- playing ------------------------------------------------------------------------------------


def test_each_user_message_starts_a_turn(file: Path) -> None:
    """
    A turn is a user's message and all that follows it until the next.
    """
    recorded = read_session(write(file, HEADER, HELLO, REPLY, HELLO, HELLO, REPLY))

    assert [turn.messages for turn in play(recorded).turns] == [2, 1, 2]


def test_a_system_message_belongs_to_the_turn_it_opens(file: Path) -> None:
    """
    A system message in the middle comes with the user's message after it.
    """
    system = {"role": "system", "content": "[next day]"}
    recorded = read_session(write(file, HEADER, system, HELLO, REPLY, system, HELLO, REPLY, system))

    assert [turn.messages for turn in play(recorded).turns] == [3, 3, 1]


def test_a_session_that_begins_in_the_middle_has_a_turn_for_that(file: Path) -> None:
    """
    What comes before the first user's message is a turn of its own.
    """
    recorded = read_session(write(file, HEADER, REPLY, REPLY, HELLO, REPLY))

    assert [turn.messages for turn in play(recorded).turns] == [2, 2]


def test_system_prompt_and_tools_are_pinned_contexts(file: Path) -> None:
    """
    What the header says of the prompt stands in working memory, pinned, before the first turn.
    """
    tools = [{"type": "function", "function": {"name": "read"}}]
    recorded = read_session(write(file, {**HEADER, "tools": tools}, HELLO))

    session = open_session(recorded)

    items = session.active_contexts.items
    assert [(item.kind, item.content, item.pinned) for item in items] == [
        ("system", "Be brief.", True),
        ("tools", tools, True),
    ]


@pytest.mark.parametrize(
    ("hint", "given", "expected"),
    [
        ({"context_window": 8_000}, None, 8_000),
        ({"context_window": 8_000}, 500, 500),
        ({"context_window": 8_000, "model": "m"}, None, 8_000),
        ({}, None, 200_000),
        (None, None, 200_000),
        (None, 500, 500),
    ],
)
def test_budget_is_the_given_one_or_the_recorded_window(
    file: Path, hint: object, given: int | None, expected: int
) -> None:
    """
    A budget that is asked for holds; else the window of the recording; else the default.
    """
    recorded = read_session(write(file, {**HEADER, "budget_hint": hint}, HELLO))

    assert play(recorded, token_budget=given).profile.token_budget == expected


def test_a_turn_tells_memory_before_and_after(file: Path) -> None:
    """
    Each turn has two profiles, a span with the same figures, and the last bill in it.
    """
    bills = [{**REPLY, "_x": {"usage": {"input": count}}} for count in (20, 30)]
    recorded = read_session(write(file, HEADER, HELLO, *bills))

    with capture() as captured:
        (turn,) = play(recorded).turns

    assert turn.billed_tokens == 30
    assert turn.before.conversation_history == 0
    assert turn.after.conversation_history > 0
    (span,) = captured.spans
    assert span.name == "invoke_agent replay"
    assert span.attributes["memtrace.profile.before.tokens"] == turn.before.total_tokens
    assert span.attributes["memtrace.profile.after.tokens"] == turn.after.total_tokens


OUTPUT = {"role": "tool", "tool_call_id": "c", "content": "src/a.py: one line of many\n" * 40}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    ],
}


def test_a_turn_tells_what_the_loop_did(file: Path) -> None:
    """
    Each turn has its own reports, and with what they freed its totals add up.
    """
    steps = [message for _ in range(20) for message in (CALL, OUTPUT)]
    recorded = read_session(write(file, HEADER, HELLO, *steps, REPLY, HELLO, *steps, REPLY))
    raw = play(recorded, token_budget=100_000)
    replay = play(recorded, token_budget=4_000)

    assert raw.reports == ()
    assert replay.reports == tuple(r for turn in replay.turns for r in turn.reports)
    assert replay.passes == sum(turn.passes for turn in replay.turns) > 0
    for turn, unhelped in zip(replay.turns, raw.turns, strict=True):
        added = unhelped.after.total_tokens - unhelped.before.total_tokens
        assert turn.freed_tokens == sum(r.tokens_freed for r in turn.reports) > 0
        assert turn.after.total_tokens == turn.before.total_tokens + added - turn.freed_tokens
    assert replay.over_budget == 0


def test_tokens_sent_are_summed_over_model_calls(file: Path) -> None:
    """
    Each assistant's message is a model call, which is sent what stood before it.
    """
    recorded = read_session(write(file, HEADER, HELLO, CALL, OUTPUT, REPLY, HELLO, REPLY))
    hello, call, output, reply = map(measure_tokens, (HELLO, CALL, OUTPUT, REPLY))
    before = [hello, hello + call + output, hello + call + output + reply + hello]

    replay = play(recorded, token_budget=100_000)

    assert [turn.sent.calls for turn in replay.turns] == [2, 1]
    assert replay.sent == Sent(3, sum(before), sum(before))
    assert replay.sent.saved_share == 0
    assert play(recorded, token_budget=400).sent.raw_tokens == sum(before)


def test_what_cannot_be_kept_under_is_told(file: Path) -> None:
    """
    Moments over the budget are counted, with the reasons.
    """
    long = {"role": "user", "content": "word " * 100}
    recorded = read_session(write(file, HEADER, long, REPLY, HELLO, REPLY, long, REPLY))

    last = play(recorded, token_budget=60).turns[-1]

    assert last.over_budget == 2
    assert last.unreachable
    assert all(reason.startswith("unreachable: ") for reason in last.unreachable)


def test_turns_are_played_one_at_a_time(file: Path) -> None:
    """
    Nothing of a turn happens before it is asked for.
    """
    recorded = read_session(write(file, HEADER, HELLO, REPLY, HELLO, REPLY))
    session = open_session(recorded)

    played = turns(recorded, session)
    next(played)

    assert len(session.history) == 2


def test_a_recording_can_be_played_again(file: Path) -> None:
    """
    Playing changes nothing of what was read.
    """
    recorded = read_session(write(file, HEADER, HELLO, REPLY))

    assert play(recorded).profile == play(recorded).profile
