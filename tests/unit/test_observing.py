"""Observing without a client: what a call carried, whose conversation it is, `memtrace run`."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import measure_tokens
from memtrace.observing import Observation, calls, install, listening, uninstall
from memtrace.observing.census import Census, Tally, fingerprint, prints_of
from memtrace.observing.clients import observed
from memtrace.observing.conversations import MAX_ALIKE, MAX_LISTS, Conversations
from memtrace.observing.facts import Request
from memtrace.observing.forms import message_billed, read_google, read_posted
from memtrace.observing.relay import relay
from memtrace.observing.summary import Summary
from memtrace.tokens import default_counter


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Client:
    """What stands in a client's place: `request` gives what it was made with."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer

    def request(self, cast_to: Any, options: Any) -> Any:
        return self.answer


def send(messages: list[Any], answer: Any = None, **body: Any) -> Any:
    """One observed call."""
    options = SimpleNamespace(
        url="/chat/completions",
        headers=None,
        json_data={"model": "gpt-4o", "messages": messages, **body},
    )
    called = relay(read_posted, False, SimpleNamespace(on=True))
    return called(Client(answer).request, None, (None, options), {})


@pytest.fixture
def seen() -> Iterator[list[Observation]]:
    calls._state = None
    told: list[Observation] = []
    with listening(told.append):
        yield told
    calls._state = None


# --- what it carried ------------------------------------------------------------------------------


def test_kinds(seen: list[Observation]) -> None:
    """
    A call's tokens are told by kind, and their sum is what they count.
    """
    call = {"id": "c", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}
    messages = [
        {"role": "system", "content": "Be brief."},
        user("Read a.py."),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "def a(): ..."},
    ]
    tools = [{"type": "function", "function": {"name": "read"}}]
    send(messages, tools=tools)
    (told,) = seen
    counts = [measure_tokens(message) for message in messages]
    assert told.kinds == {
        "system": counts[0],
        "tools": measure_tokens(tools),
        "user": counts[1],
        "assistant": counts[2],
        "tool_results": counts[3],
    }
    assert told.working_tokens == counts[0] + measure_tokens(tools)
    assert told.history_tokens == sum(counts[1:])


def test_results_beside_other_blocks() -> None:
    """
    Of a user's message that holds tool results and a text, each part is told by its kind.
    """
    text = "a long result " * 50
    blocks = [
        {"type": "tool_result", "tool_use_id": "c", "content": text},
        {"type": "text", "text": "go on"},
    ]
    message = {"role": "user", "content": blocks}
    request = Request("m", None, None, [message], message_billed)
    tally = Tally()
    Census(default_counter()).add(tally, request, prints_of(request))
    assert tally.kinds["tool_results"] == measure_tokens(text)
    assert tally.tokens == measure_tokens(message)


def test_duplicates(seen: list[Observation]) -> None:
    """
    A text that stands in a call twice is told once, whatever ids are around it.
    """
    text = "line\n" * 99
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": text} for n in range(3)]
    send([user("Go."), *results])
    assert seen[0].duplicate_tokens == 2 * measure_tokens(results[0])


def test_tokens_of_a_model_of_another_provider_are_an_estimate(seen: list[Observation]) -> None:
    """
    Counts are exact for models of the configured encoding only.
    """
    send([user("Hi.")], model="claude-x")
    send([user("Hi.")], model="gpt-4o")
    send([user("Hi.")], model="no_base")  # reads like an encoding that does not exist
    assert [told.exact for told in seen] == [False, True, False]


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": [{"type": "image", "data": b"\xff"}]},
        {"role": "user", "content": "\ud800"},
        {"role": "user", "content": [{"text": "\ud800"}]},
        {"role": "user", "content": object()},
        {1: {2: (3, None, True, 1.5)}},
        SimpleNamespace(role="user", content=["hi"]),
        {"role": "user", "content": {"a", "b"}},
        None,
    ],
    ids=range(8),
)
def test_fingerprint_of_anything(value: Any) -> None:
    """
    Anything has a print, and the same one again.
    """
    assert fingerprint(value) == fingerprint(value)


def test_fingerprint_passes_over_what_moves() -> None:
    """
    A cache marker that moves to another message makes no message a new one.
    """
    for text in ("hello", 'what "cache_control": means'):
        plain, marked = user(text), {**user(text), "cache_control": {"type": "ephemeral"}}
        assert fingerprint(plain) == fingerprint(marked)
        check_blocks(text)


def check_blocks(text: str) -> None:
    block = {"type": "text", "text": text}
    marked = {**block, "cache_control": {"type": "ephemeral"}}
    one = fingerprint({"role": "user", "content": [block]})
    assert fingerprint({"role": "user", "content": [marked]}) == one
    assert fingerprint({"role": "user", "content": [{**block, "text": "other"}]}) != one


def test_forgets_its_oldest() -> None:
    """
    What is known is bounded; what was forgotten is counted again.
    """
    census = Census(default_counter(), size=8)
    for number in range(100):
        request = Request("m", None, None, [user(f"message {number}")], message_billed)
        census.add(Tally(), request, prints_of(request))
    assert len(census._known) <= 8


def test_messages_are_not_kept(seen: list[Observation]) -> None:
    """
    No message lives longer for having been observed, not even while its answer is a stream.
    """

    class Message(dict[str, Any]):
        pass

    class Stream:
        def __init__(self) -> None:
            self._iterator = iter(())

        def __stream__(self) -> None: ...

    message = Message(user("Hi."))
    gone = weakref.ref(message)
    stream = send([message], Stream())
    del message
    gc.collect()
    assert gone() is None
    assert seen == []
    assert list(stream._iterator) == []
    assert len(seen) == 1


# --- whose conversation it is ---------------------------------------------------------------------


def test_conversations_side_by_side(seen: list[Observation]) -> None:
    """
    Two conversations that take turns are told apart, each with its own growth.
    """
    one, other = [user("one")], [user("other")]
    for number in range(3):
        for messages in (one, other):
            send(messages)
            messages += [assistant(f"answer {number}"), user(f"question {number}")]
    assert [told.turn for told in seen] == [1, 1, 2, 2, 3, 3]
    assert len({told.conversation for told in seen}) == 2
    assert seen[4].repeated_tokens == seen[2].tokens
    assert seen[5].growth_tokens == seen[5].tokens - seen[3].tokens


def test_same_beginning(seen: list[Observation]) -> None:
    """
    Conversations that begin with the same words are two, once they go on differently.
    """
    start = [user("hi")]
    send([*start, assistant("Hello!"), user("a")])
    send([*start, assistant("Good day."), user("b")])
    send([*start, assistant("Hello!"), user("a"), assistant("A."), user("c")])
    assert [told.turn for told in seen] == [1, 1, 2]
    assert seen[0].conversation == seen[2].conversation != seen[1].conversation


def test_changed_in_the_middle(seen: list[Observation]) -> None:
    """
    A list of which an old message was shortened is the same conversation, and shrank.
    """
    long = {"role": "tool", "tool_call_id": "c", "content": "result " * 200}
    rest = [assistant("I see."), user("Go on."), assistant("Done."), user("Thanks.")]
    send([user("Read."), assistant("Yes."), long, *rest[:2]])
    send([user("Read."), assistant("Yes."), {**long, "content": "(gone)"}, *rest])
    first, second = seen
    assert second.conversation == first.conversation
    assert second.growth_tokens == second.tokens - first.tokens < 0
    assert second.repeated_tokens == measure_tokens([user("Read."), assistant("Yes.")])


def test_changing_system_prompt(seen: list[Observation]) -> None:
    """
    A system prompt with the time in it makes no new conversation, but nothing can be cached.
    """
    for minute in range(2):
        system = {"role": "system", "content": f"It is 10:0{minute}."}
        send([system, user("Hi."), *([assistant("Yes?")] * minute)])
    assert [told.turn for told in seen] == [1, 2]
    assert seen[1].repeated_tokens == 0


def test_retry(seen: list[Observation]) -> None:
    """
    The same list once more is a retry: nothing in it is new.
    """
    for _ in range(2):
        send([user("Hi."), assistant("Yes?"), user("Well.")])
    assert (seen[1].turn, seen[1].new_tokens, seen[1].growth_tokens) == (2, 0, 0)


def test_conversations_are_bounded() -> None:
    """
    However many there are, so many are remembered.
    """
    known = Conversations()
    for number in range(3 * MAX_LISTS):
        known.place([0, 0, number], 3)
    assert len(known._lists) == MAX_LISTS == len(known._heads)
    for number in range(3 * MAX_ALIKE):
        known.place([0, 0, -1, number], 3)
    assert len(known._heads[-1]) == MAX_ALIKE
    assert known._prints == sum(len(sent.prints) for sent in known._lists.values())


# --- requests of other forms ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["/embeddings", "/responses/input_tokens", "/v1/messages/count_tokens", "/files", ""]
)
def test_other_requests(url: str) -> None:
    """
    What is no model call is not observed.
    """
    options = SimpleNamespace(url=url, json_data={"messages": [], "input": "x"}, headers=None)
    assert read_posted((None, options), {}) is None


def test_server_holds_the_rest() -> None:
    """
    Where the server holds what came before, billed and counted are not compared.
    """
    body = {"model": "m", "input": "Go on.", "previous_response_id": "resp_1"}
    options = SimpleNamespace(url="/responses", json_data=body, headers=None)
    request = read_posted((), {"options": options})
    assert request is not None
    assert request.partial
    assert request.messages == [user("Go on.")]


def test_google() -> None:
    """
    A request of `google.genai` is read: contents, system instruction, tools.
    """
    part = SimpleNamespace(text="Hello there")
    content = SimpleNamespace(role="user", parts=[part])
    config = SimpleNamespace(system_instruction="Be brief.", tools=None, cached_content=None)
    request = read_google((), {"model": "gemini-x", "contents": [content, "hi"], "config": config})
    assert request is not None
    tally = Tally()
    Census(default_counter()).add(tally, request, prints_of(request))
    assert tally.kinds["user"] == measure_tokens([content]) + measure_tokens(user("hi"))
    assert tally.kinds["system"] == measure_tokens({"role": "system", "content": "Be brief."})


def test_generator_of_a_stream(seen: list[Observation]) -> None:
    """
    A stream that is a plain generator stays one, and what it says was billed is read.
    """
    usage = SimpleNamespace(
        prompt_token_count=9, cached_content_token_count=4, candidates_token_count=2
    )
    events = [SimpleNamespace(usage_metadata=None), SimpleNamespace(usage_metadata=usage)]
    called = relay(read_google, False, SimpleNamespace(on=True))
    stream = called(lambda **_: (e for e in events), None, (), {"model": "g", "contents": "hi"})
    assert list(stream) == events
    assert seen[0].usage == (9, 4, 2)


# --- on and off -----------------------------------------------------------------------------------


def test_nothing_to_observe() -> None:
    """
    Without a client it is switched on and off all the same, as often as one likes.
    """
    for _ in range(2):
        install()
        install()
        uninstall()
        uninstall()
    assert observed() == []


def test_no_provider(seen: list[Observation], spans: InMemorySpanExporter) -> None:
    """
    The answer comes back as the same object, and the call is one span.
    """
    answer = SimpleNamespace(usage=None)
    assert send([user("Hi.")], answer) is answer
    assert [span.name for span in spans.get_finished_spans()] == ["memtrace.observe gpt-4o"]


# --- what is told at the end ----------------------------------------------------------------------


def test_summary(seen: list[Observation]) -> None:
    """
    A few lines say what the calls carried, the largest kind first.
    """
    summary = Summary()
    details = SimpleNamespace(cached_tokens=7)
    usage = SimpleNamespace(prompt_tokens=70, completion_tokens=1, prompt_tokens_details=details)
    messages = [user("Read it."), assistant("Yes.")]
    for number in range(3):
        result = f"result {number} " * 9
        messages += [{"role": "tool", "tool_call_id": f"c{number}", "content": result}]
        send(messages, SimpleNamespace(usage=usage))
    for told in seen:
        summary.add(told)
    lines = list(summary.lines())
    assert "3 model calls to gpt-4o in 1 conversation carried" in lines[0]
    assert lines[1].split()[:2] == ["tool", "results"]
    text = "\n".join(lines)
    assert "sent again" in text
    assert "21 were read from one" in text
    assert "growth" in text
    assert summary.as_values()["kinds"] == summary.kinds


# --- memtrace run ---------------------------------------------------------------------------------

PROGRAMS = {
    "prints": "import sys\nprint(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__)",
    "state": (
        "import sys, __main__, signal\n"
        "print(sorted(k for k in globals() if k != '__conditional_annotations__'))\n"
        "print(__main__.__dict__ is globals(), sys.stdout.errors, sys.stderr.errors)\n"
        "print(signal.getsignal(signal.SIGPIPE))"
    ),
    "raises": (
        "def inner():\n    1 / 0\n"
        "try:\n    inner()\nexcept Exception as e:\n    raise KeyError('x') from e"
    ),
    "syntax": "def broken(:\n    pass",
    "imports": "import no_such_module",
    "exits": "import sys\nsys.exit(3)",
    "exits with a text": "import sys\nsys.exit('no good')",
    "exits with None": "raise SystemExit",
    "exits with a bool": "import sys\nsys.exit(True)",
    "hook": "import sys\nsys.excepthook = lambda *e: print('hook', e[0])\nraise ValueError",
    "threads": (
        "import threading, atexit\natexit.register(print, 'at exit')\nevent = threading.Event()\n"
        "def late():\n    event.wait()\n    print('late')\n"
        "threading.Thread(target=late).start()\nthreading.Timer(.1, event.set).start()\n"
        "print('end')"
    ),
    "interrupted": "raise KeyboardInterrupt",
    "pickles": (
        "import multiprocessing as m\ndef f(x):\n    return x + 1\n"
        "if __name__ == '__main__':\n"
        "    with m.get_context('spawn').Pool(1) as pool:\n        print(pool.map(f, [1]))"
    ),
}


def launch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        check=False,
        cwd=cwd,
        encoding="utf-8",
        timeout=120,
    )


def by_memtrace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return launch("-m", "memtrace.cli", "run", *arguments, cwd=cwd)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("name", PROGRAMS)
def test_run_is_as_python_runs_it(name: str, tmp_path: Path) -> None:
    """
    Output, tracebacks and exit status are those of `python app.py a --json`, and one line more.
    """
    (tmp_path / "app.py").write_text(PROGRAMS[name] + "\n")
    theirs = launch("app.py", "a", "--json", "--help", cwd=tmp_path)
    ours = by_memtrace("app.py", "a", "--json", "--help", cwd=tmp_path)
    assert ours.stdout == theirs.stdout
    assert ours.stderr.removesuffix("memtrace: no model call was seen\n") == theirs.stderr
    assert ours.returncode == theirs.returncode
    if name == "interrupted":
        assert ours.returncode == -signal.SIGINT


@pytest.mark.parametrize("target", ["package", "package.inner", "package.fails"])
def test_run_of_a_module(target: str, tmp_path: Path) -> None:
    """
    A module is run as `python -m` runs it.
    """
    package = tmp_path / "package"
    package.mkdir()
    said = "import sys\nprint(sys.argv, sys.path[0], __name__, __package__, __spec__.name)\n"
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(said)
    (package / "inner.py").write_text("from . import __name__ as there\nprint(there)\n" + said)
    (package / "fails.py").write_text("raise ValueError('x')\n")
    theirs = launch("-m", target, "a", "-m", cwd=tmp_path)
    ours = by_memtrace("-m", target, "a", "-m", cwd=tmp_path)
    assert (ours.stdout, ours.returncode) == (theirs.stdout, theirs.returncode)
    # Those of the import system stand before `python -m`'s own.
    told = ours.stderr.removesuffix("memtrace: no model call was seen\n")
    assert told.splitlines()[1:] == without_runpy(theirs.stderr.splitlines()[1:])


def without_runpy(traceback: list[str]) -> list[str]:
    """A traceback's lines but for `python -m`'s own frames, which have no source from 3.11 on."""
    kept, own = [], False
    for line in traceback:
        if line.startswith("  File "):
            own = "runpy" in line
        if not (own and line.startswith("  ")):
            kept.append(line)
    return kept


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_run_of_a_folder(kind: str, tmp_path: Path) -> None:
    """
    A folder or an archive with a `__main__.py` is run.
    """
    import zipfile

    said = "import sys\nprint(sys.argv, sys.path[0], __file__)\n"
    if kind == "folder":
        (tmp_path / "app").mkdir()
        (tmp_path / "app" / "__main__.py").write_text(said)
    else:
        with zipfile.ZipFile(tmp_path / "app", "w") as archive:
            archive.writestr("__main__.py", said)
    ours, theirs = by_memtrace("app", "a", cwd=tmp_path), launch("app", "a", cwd=tmp_path)
    assert (ours.stdout, ours.returncode) == (theirs.stdout, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["missing.py"], 2, "can't open file"),
        (["-m", "missing_module"], 1, "no module named missing_module"),
        (["-m", "missing.module"], 1, "no module named missing"),
        (["."], 1, "can't find '__main__' module"),
        ([], 2, "argument"),
    ],
)
def test_run_of_nothing(arguments: list[str], status: int, said: str, tmp_path: Path) -> None:
    """
    What cannot be run is one line and a status, without a traceback.
    """
    done = by_memtrace(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr
    assert "Traceback" not in done.stderr
