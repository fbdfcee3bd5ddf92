"""Each reducer does one thing, says what it did, and leaves in sight what is referred to."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from memtrace import Policy, Session, compress_memory
from memtrace.actions.calls import signature, touches
from memtrace.actions.caps import cap
from memtrace.actions.folding import fold_logs, fold_runs
from memtrace.actions.lossless import minified, plainer, without_base64, without_codes
from memtrace.actions.names import listed, names_in
from memtrace.messages import Call

Message = dict[str, Any]

TASK = {"role": "user", "content": "Find out why the second test fails."}
GENTLY = 1e-9


def call(name: str, **arguments: Any) -> Call:
    return Call("c", name, json.dumps(arguments))


def pair(number: int, text: str, name: str = "read", **arguments: Any) -> list[Message]:
    """A call and its result."""
    identity = f"c{number}"
    function = {"name": name, "arguments": json.dumps(arguments or {"n": number})}
    return [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": identity, "function": function}],
        },
        {"role": "tool", "tool_call_id": identity, "content": text},
    ]


def said(number: int, lines: int = 30) -> str:
    """An output with a name in each line, among words that all outputs have."""
    words = "the quick brown fox jumps over the lazy dog and sleeps for a while"
    return "\n".join(f"{words} in part{number}/file{n}.py" for n in range(lines))


def shown(*turns: list[Message], **policy: Any) -> list[Any]:
    """What is shown of a conversation that was compressed gently; no message is spared."""
    session = Session(policy=Policy(**{"keep_recent": 0, "keep_tool_outputs": 0} | policy))
    session.history.append(TASK)
    for turn in turns:
        session.history.extend(turn)
    compress_memory(session, GENTLY, gently=True)
    assert session.profile() == session.recount()
    return session.history.messages()[1:]


# --- superseded ----------------------------------------------------------------------------------


def test_an_earlier_read_of_the_same_file_gives_way() -> None:
    """
    A later read of the whole file replaces earlier reads of it and of its parts.
    """
    part = pair(1, said(1), "Read", file_path="a.py", offset=3)
    whole = pair(2, said(2), "Read", file_path="a.py")

    first, second = [m["content"] for m in shown(part, whole) if m["role"] == "tool"]

    assert first.startswith("[read again later, set aside: ")
    assert second.startswith("[output set aside: ")


def test_a_later_read_of_a_part_leaves_the_whole() -> None:
    """
    What a part does not show again is not replaced by it.
    """
    whole = pair(1, said(1), "Read", file_path="a.py")
    part = pair(2, said(2), "Read", file_path="a.py", offset=3)

    first = shown(whole, part)[1]["content"]

    assert first.startswith("[output set aside: ")


def test_an_edit_makes_an_earlier_read_stale() -> None:
    """
    After an edit of the file an earlier read is stale; a read of another file is not.
    """
    read = pair(1, said(1), "Read", file_path="a.py")
    other = pair(2, said(2), "Read", file_path="b.py")
    edit = pair(3, "done", "Edit", file_path="a.py", old_string="x", new_string="y")

    first, second, _ = [m["content"] for m in shown(read, other, edit) if m["role"] == "tool"]

    assert first.startswith("[edited since, set aside: ")
    assert second.startswith("[output set aside: ")


def test_an_edit_that_failed_changes_nothing() -> None:
    """
    The read before it is as good as it was.
    """
    read = pair(1, said(1), "Read", file_path="a.py")
    edit = pair(2, "Error: old_string not found", "Edit", file_path="a.py", new_string="y")

    assert shown(read, edit)[1]["content"].startswith("[output set aside: ")


def test_what_is_superseded_still_names_what_no_later_output_does() -> None:
    """
    A file's earlier names may be referred to, though the file has others now.
    """
    first = pair(1, "one_name " + "and words " * 60, "Read", file_path="a.py")
    later = pair(2, said(2), "Read", file_path="a.py")

    assert shown(first, later)[1]["content"].endswith(" one_name")


@pytest.mark.parametrize(
    ("made", "path", "edits"),
    [
        (call("Read", file_path="a.py"), "a.py", False),
        (call("write_file", path="a.py", content="x"), "a.py", True),
        (call("str_replace_based_edit_tool", command="view", path="a.py"), "a.py", False),
        (call("str_replace_editor", command="create", path="a.py", file_text=""), "a.py", True),
        (call("bash", command="cat src/a.py"), "src/a.py", False),
        (call("apply_patch", input="*** Update File: a.py\n@@"), "a.py", True),
        (Call("c", "apply_patch", "*** Add File: a.py\n+x"), "a.py", True),
    ],
)
def test_reads_and_edits_are_told_by_names_and_arguments(
    made: Call, path: str, edits: bool
) -> None:
    """
    The file tools of coding agents, and the plainest of shell commands, are known.
    """
    assert [(touch.path, touch.edits) for touch in touches(made)] == [(path, edits)]


@pytest.mark.parametrize(
    "made",
    [call("search", query="a"), call("bash", command="ls; rm a"), Call("c", "f", "{no"), call("f")],
)
def test_what_cannot_be_told_touches_nothing(made: Call) -> None:
    """
    A call of which nothing is known neither reads nor edits.
    """
    assert touches(made) == []
    assert signature(made) == signature(made)


# --- lossless ------------------------------------------------------------------------------------


def test_json_is_minified_and_nothing_in_it_changes() -> None:
    """
    Keys that come twice, long numbers and escapes stay as they are spelled.
    """
    text = '{ "a": 1.50,\n  "a": "x\\u00e9 \\" y" , "b": [1e5,  12345678901234567890] }'

    assert minified(text) == '{"a":1.50,"a":"x\\u00e9 \\" y","b":[1e5,12345678901234567890]}'


@pytest.mark.parametrize("text", ["{not json}", "[1, 2", "words { }", "", "[" * 5000])
def test_what_is_no_json_stays(text: str) -> None:
    """
    Text that only looks like JSON is left alone.
    """
    assert minified(text) is text


def test_a_terminals_codes_go() -> None:
    """
    Colours, titles, overwritten progress and trailing spaces say nothing.
    """
    text = "\x1b[1;31mred\x1b[0m \x1b]0;title\x07end\r\n10%\r20%\r100%\t \nok"

    assert without_codes(text) == "red end\n100%\nok"


def test_base64_becomes_a_reference() -> None:
    """
    A payload is told by its length and an id; a rule, a hash and a long word are none.
    """
    payload = "iVBORw0KGgoAAAANSUhEUgAA" * 20
    assert without_base64(f"data:image/png;base64,{payload}=") == "[base64: 503 characters]"
    for text in ("-" * 500, "a" * 500, "deadbeef1" * 9, "x " * 500):
        assert without_base64(text) == text


# --- folding -------------------------------------------------------------------------------------


def test_a_repeated_block_is_told_once() -> None:
    """
    Lines around a run stay, and twice is no run.
    """
    assert fold_runs("a\nb\nb\nb\nb\nc") == "a\nb\n[… the last line 3 times more]\nc"
    assert fold_runs("a\na\nb\nb\nc\nc") == "a\na\nb\nb\nc\nc"


def test_a_log_is_told_by_its_first_and_last_line() -> None:
    """
    Lines that differ in numbers and hex alone are folded; those with other names are not.
    """
    log = "\n".join(f"12:00:{n:02} worker took {n * 7} ms at 0x{n:06x}" for n in range(20))
    assert fold_logs(log).count("\n") == 2
    assert "[… 18 lines alike but for numbers]" in fold_logs(log)

    paths = "\n".join(f"wrote src/module_{n}.py in {n} ms" for n in range(20))
    assert fold_logs(paths) == paths
    table = "\n".join(f"{n} {n * n} {n * n * n}" for n in range(20))
    assert fold_logs(table) == table


def test_a_folded_output_may_still_become_a_stub() -> None:
    """
    A stub lists the names of the output as it came, not those that the fold left.
    """
    log = "\n".join(f"worker took {n} ms at 0x{n:06x}" for n in range(40))
    session = Session(token_budget=100_000, policy=Policy(keep_recent=0, keep_tool_outputs=0))
    session.history.extend([TASK, *pair(1, f"{log}\nof run_tests")])
    compress_memory(session, 0.003, gently=True)
    folded = session.history[2]["content"]
    assert "lines alike but for numbers" in folded

    compress_memory(session, GENTLY, gently=True)

    assert len(session.history[2]["content"]) <= len(folded)
    assert "run_tests" in session.history[2]["content"]
    assert session.original(session.history.items[2].id)["content"].startswith("worker took 0")


# --- stubs ---------------------------------------------------------------------------------------


def test_a_stub_leaves_out_what_is_in_sight_elsewhere() -> None:
    """
    A name that a message still shows needs no saving; when that goes too, it is told there.
    """
    words = "words without any meaning at all " * 12
    shared = pair(1, words + "shared_name only_here")
    other = pair(2, words + "shared_name second_name")

    first, second = [m["content"] for m in shown(shared, other) if m["role"] == "tool"]

    assert first.endswith("] only_here")
    assert second.endswith("] shared_name second_name")


def test_long_arguments_become_stubs_and_stay_json() -> None:
    """
    What a file was written with is told by its beginning and its names; short arguments stay.
    """
    content = "import os\n\n\ndef run_tests():\n" + "    pass  # and words\n" * 60
    message = shown(pair(1, "done", "Write", file_path="src/a.py", content=content))[0]

    told = json.loads(message["tool_calls"][0]["function"]["arguments"])

    assert told["file_path"] == "src/a.py"
    assert told["content"].startswith("import os def run_tests(): pass")
    assert told["content"].endswith(" run_tests")
    assert f"{len(content)} characters set aside, id m2" in told["content"]


def test_the_last_calls_arguments_stay() -> None:
    """
    As many calls as outputs are kept whole.
    """
    turns = [pair(n, "done", "Write", path=f"{n}", content="word " * 200) for n in range(3)]

    calls = [str(m) for m in shown(*turns, keep_tool_outputs=2) if m["role"] == "assistant"]

    assert ["set aside" in text for text in calls] == [True, False, False]


def test_too_many_names_are_chosen_paths_first_and_told_in_order() -> None:
    """
    Numbers go first, plain names next; what stays is in the order of its mention.
    """
    names = ["20211", "run_tests", "src/app.py", "a1b2c3d4e5", "src/lib.py"]

    assert listed(names, 100) == " ".join(names)
    assert listed(names, 32) == "run_tests src/app.py src/lib.py"
    assert listed(names, 22) == "src/app.py src/lib.py"
    assert listed(names, 3) == ""


def test_a_name_keeps_what_it_begins_with() -> None:
    """
    An absolute path is told as one, and a file that begins with a dot.
    """
    assert list(names_in("See /etc/app.conf, .env.local and __init__.py.")) == [
        "/etc/app.conf",
        ".env.local",
        "__init__.py",
    ]


# --- prose, caps, digests ------------------------------------------------------------------------


def test_inactive_prose_becomes_an_extract() -> None:
    """
    What a long answer named stays in sight, with the id of the whole.
    """
    plain = "It was a long and quiet day and nothing much was said about it. "
    answer = {
        "role": "assistant",
        "content": plain * 20 + "We moved build_7 to host-7.example.org.",
    }

    (told,) = shown([answer])

    assert "build_7" in told["content"]
    assert "characters set aside, id m2]" in told["content"]
    assert len(told["content"]) < len(answer["content"]) / 2


def test_a_cap_keeps_the_names_that_it_cuts_out() -> None:
    """
    Names of the middle take up to half of the room; the beginning and the end have the rest.
    """
    text = "begin " + "words " * 300 + "middle_name " + "words " * 300 + "end"

    short = cap(text, 300, "m7", ["middle_name"])

    assert len(short) <= 300
    assert short.startswith("begin")
    assert short.endswith("end")
    assert "characters left out, id m7 …]\nmiddle_name\n" in short


def test_one_huge_fresh_output_does_not_cost_all_that_is_older() -> None:
    """
    Where the last messages alone are past the target, the huge one is capped first.
    """
    turns = [message for n in range(8) for message in pair(n, said(n, 12))]
    session = Session(token_budget=12_000, policy=Policy(keep_recent=2))
    session.history.extend([TASK, *turns, *pair(99, said(99, 600))])

    session.messages()

    assert session.profile().utilization_rate <= 0.70
    assert "characters left out" in session.history[-1]["content"]
    assert not any(item.kind == "digest" for item in session.history.items)


def test_nothing_is_given_up_for_a_call_that_cannot_fit() -> None:
    """
    Where what must stay is over the budget by itself, the last messages stay whole.
    """
    session = Session(token_budget=1_000, policy=Policy(keep_recent=4))
    session.history.extend([{"role": "user", "content": "word " * 2_000}, *pair(1, said(1, 12))])

    session.messages()

    assert session.history[-1]["content"] == said(1, 12)
    assert session.reports[-1].reason.startswith("unreachable: ")


@dataclass
class Part:
    content: str
    part_kind: str


@dataclass
class Request:
    """A framework's own message, with an id and parts."""

    parts: list[Part]
    kind: str = "request"
    run_id: str | None = "r1"


@dataclass
class Human:
    content: str
    type: str = "human"
    id: str | None = "h1"
    name: str | None = "ann"
    extra: dict[str, Any] = field(default_factory=dict)


def test_a_digest_of_message_objects_is_nobodys_message() -> None:
    """
    It takes a message's form and none of what a framework knows it by.
    """
    small = Session(token_budget=2_000, policy=Policy(keep_recent=2))
    small.history.extend([Human("word " * 90) for _ in range(30)])

    compress_memory(small, 0.3)

    digest = next(item.content for item in small.history.items if item.kind == "digest")
    assert (digest.type, digest.id, digest.name) == ("human", None, None)


def test_a_digest_is_said_by_the_user_and_not_by_the_system_prompt() -> None:
    """
    Of a message that holds both, only the user's part is taken.
    """
    requests = [
        Request([Part("Be brief.", "system-prompt"), Part("word " * 90, "user-prompt")])
        for _ in range(30)
    ]
    session = Session(token_budget=2_000, policy=Policy(keep_recent=2))
    session.history.extend(requests)

    compress_memory(session, 0.3)

    digest = next(item.content for item in session.history.items if item.kind == "digest")
    assert [part.part_kind for part in digest.parts] == ["user-prompt"]
    assert "earlier messages left out" in digest.parts[0].content
    assert digest.run_id is None


# --- gently --------------------------------------------------------------------------------------


def test_gently_every_message_stays_in_its_place() -> None:
    """
    No turn is folded and none of the last messages is touched, however low the target.
    """
    turns = [message for n in range(20) for message in pair(n, said(n))]
    session = Session(token_budget=100_000)
    session.history.extend([TASK, *turns])

    report = compress_memory(session, GENTLY, gently=True)

    assert report.tokens_after < report.tokens_before / 2
    assert len(session.history) == 41
    assert session.history.messages()[-10:] == turns[-10:]


def test_a_text_in_all_its_forms_is_never_longer_and_stays_as_it_is() -> None:
    """
    Doing it twice does nothing more.
    """
    for text in ('{"a": [1,  2]}', "\x1b[1mx\x1b[0m \n", "plain", said(1)):
        once = plainer(text)
        assert len(once) <= len(text)
        assert plainer(once) == once
