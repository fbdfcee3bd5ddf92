"""Recall: what of everything a session ever held has to do with a query."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import memtrace
from memtrace import (
    ConfigurationError,
    Policy,
    Session,
    checkpoint,
    cleanup_expired_items,
    consolidate_memory,
    create_memory_snapshot,
    measure_tokens,
    trigger_cleanup,
)
from memtrace.actions.pairs import faults
from memtrace.messages import facts
from memtrace.recalling import Passage
from memtrace.recalling.passages import LARGEST, LONG, passages, text_of
from memtrace.recalling.words import MOST, sought, words

FILLER = [f"Nothing much was going on in week {n}; everybody was away." for n in range(40)]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def told(*texts: str, **options: Any) -> Session:
    """A session that received these messages."""
    session = Session(**options)
    session.history.extend(user(text) for text in texts)
    return session


def found(session: Session, query: str, k: int = 10) -> list[str]:
    """What a query finds, as text."""
    return [text_of(item.content) for item in session.recall(query, k)]


# --- finding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("What was connected?", "The connections were made on Friday."),
        ("what did I buy", "I bought a bicycle."),
        ("get user id", "call getUserId first"),
        ("user_id", "the user id is wrong"),
        ("KARTON", "Karton und Papier"),
        ("resume", "my résumé is attached"),
        ("設定はどこ", "このファイルに設定を書きます。"),
        ("数据库在哪里", "我们的数据库用的是 PostgreSQL。"),
        ("시간", "회의 시간은 세 시입니다."),
        ("โรงพยาบาล", "เขาไปโรงพยาบาลเมื่อวาน"),
        ("ＡＢＣ１２３", "the order ABC123"),
    ],
)
def test_a_text_is_found_by_its_words(query: str, text: str) -> None:
    """
    Other forms of a word, parts of a name, other cases, accents and widths, and in scripts
    without spaces any two characters are found.
    """
    assert found(told(*FILLER[:20], text, *FILLER[20:]), query)[0] == text


def test_items_come_once_and_the_best_first() -> None:
    """
    Of a long message one passage comes, not all; no more items come than were asked for.
    """
    long = " ".join(f"The budget of year {year} was tight." for year in range(60))
    session = told(long, *FILLER, "The budget of the year is spent.")

    items = session.recall("budget of the year", k=2)
    assert len(items) == 2
    assert len({(item.derived_from or (item.id,))[0] for item in items}) == 2
    assert session.recall("budget", k=0) == []


def test_a_long_message_is_found_by_a_passage() -> None:
    """
    The passage says which item it is of and where in its text it stands; the item is reachable.
    """
    long = " ".join([*FILLER, "The key lies under the blue flowerpot.", *FILLER])
    session = told("Hello.", long)
    (whole,) = session.history.items[1:]

    item = session.recall("where is the key?")[0]
    assert isinstance(item, Passage)
    assert "blue flowerpot" in item.content
    assert item.derived_from == (whole.id,)
    start, stop = item.span
    assert long[start:stop] == item.content
    assert item.tokens == measure_tokens(item.content) <= LARGEST * 1.2
    assert session.original(item.id) == session.original(item.derived_from[0]) == user(long)


def test_a_short_reply_is_found_by_its_question() -> None:
    """
    A short message that has none of the words comes where its neighbour has them.
    """
    session = told(*FILLER[:10], "Which town is grandmother from?", "Kiel.", *FILLER[10:])

    assert "Kiel." in found(session, "grandmother's town", 3)


def test_what_came_since_is_found_too() -> None:
    """
    Each recall finds what was added, and no longer what was cut off, since the one before.
    """
    session = told("one apple", "two pears")
    assert found(session, "apple")[0] == "one apple"
    session.history.append(user("three apples"))
    session.active_contexts.add("An apple a day.", key="saying")
    assert set(found(session, "apple")) >= {"one apple", "three apples", "An apple a day."}
    session.history.pop()
    session.active_contexts.remove("saying")
    session.history.replace(0, user("one plum"))
    assert found(session, "apple") == []
    session.history.clear()
    assert found(session, "plum pears") == []


# --- everything there was -----------------------------------------------------------------------


@pytest.fixture(params=["in memory", "in memory, kept", "in a file", "opened again"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """What makes a session of each kind, and has it do what sessions of that kind do."""
    durable = request.param in ("in a file", "opened again")
    store = tmp_path / "memory.db" if durable else None

    def settled(session: Session) -> Session:
        if request.param != "in memory":
            create_memory_snapshot(session)
        if request.param != "opened again":
            return session
        session.close()
        assert store is not None
        return Session.open(session.id, store=store, policy=session.policy)

    def made(**options: Any) -> Session:
        return Session("s", store=store, **options)

    return made, settled


def test_dropped_messages_are_recalled_as_they_came(place: Any) -> None:
    """
    What a cleanup replaced or dropped is recalled in its original form.
    """
    made, settled = place
    session = made(token_budget=2_000)
    session.history.append(user("Begin."))
    secret = user("The treasure is buried below the old windmill.")
    session.history.extend([secret, *map(user, FILLER * 4)])
    trigger_cleanup(session, 0.3)
    assert secret not in session.history.messages()

    session = settled(session)
    assert session.recall("where is the treasure?")[0].content == secret


def test_contexts_are_recalled_wherever_they_went(place: Any) -> None:
    """
    Consolidated, expired, or spilled out of long-term memory: the original is recalled.
    """
    made, settled = place
    session = made(token_budget=4_000)
    texts = {f"d{n}": f"Report {n}: the {n}th pump leaked. " + FILLER[n] * 8 for n in range(12)}
    for key, text in texts.items():
        session.active_contexts.add(text, key=key)
    session.active_contexts.add("Tonight's code is 4711.", key="code", ttl_s=1e-9)
    cleanup_expired_items(session)
    consolidate_memory(session)
    trigger_cleanup(session, 0.05)
    assert len(session.archived_contexts) < 12
    assert not session.active_contexts.items

    session = settled(session)
    assert found(session, "4711")[0] == "Tonight's code is 4711."
    for n in range(12):
        (item,) = session.recall(f"{n}th pump report", 1)
        whole = item.derived_from[0] if item.derived_from else item.id
        assert session.original(whole) == texts[f"d{n}"]


def test_long_term_memory_over_its_allocation_stays_recallable(place: Any) -> None:
    """
    What a cleanup spills because long-term memory is over its own allocation can be recalled.
    """
    made, settled = place
    session = made(token_budget=4_000, policy=Policy(keep_recent=0))
    session.history.append(user("Begin."))
    for n in range(40):
        session.active_contexts.add(f"Valve {n} is rated {n * 17 + 5000} bar.", key=f"v{n}")
    for item in session.active_contexts.items:
        for _ in range(3):
            session.active_contexts.touch(item.id)
    consolidate_memory(session)
    limit = session.budget.limit("long_term_memory")
    for n in range(40, 120):
        session.archived_contexts.add(f"Valve {n} is rated {n * 17 + 5000} bar.", key=f"v{n}")
    session.history.extend(map(user, FILLER * 4))
    assert session.archived_contexts.tokens > limit
    trigger_cleanup(session, 0.1)
    assert session.archived_contexts.tokens <= limit

    session = settled(session)
    for n in (0, 20, 60, 119):
        assert found(session, f"valve {n}", 1) == [f"Valve {n} is rated {n * 17 + 5000} bar."]


def test_what_its_owner_took_out_is_not_recalled(place: Any) -> None:
    """
    A context removed by hand is not recalled, in whichever form it was held.
    """
    made, settled = place
    session = made()
    session.active_contexts.add("The red door is open.", key="red")
    session.active_contexts.add("The green door is open. " + "Well. " * 60, key="green")
    session.active_contexts.add("The blue door is open.", key="blue")
    session.active_contexts.remove("red")
    consolidate_memory(session)
    session.archived_contexts.remove("green")

    assert found(settled(session), "door") == ["The blue door is open."]


def test_what_was_undone_is_not_recalled(place: Any) -> None:
    """
    After going back to a snapshot, what was added since is not recalled; what there was, is.
    """
    made, settled = place
    session = made()
    session.history.append(user("The plan is to sail."))
    session.active_contexts.add("Plan of the harbour.", key="harbour")
    create_memory_snapshot(session, "before")
    session.active_contexts.remove("harbour")
    session.history.append(user("The plan is to fly."))
    session.active_contexts.add("Plan of the airport.", key="airport")
    consolidate_memory(session)
    assert len(session.recall("plan")) == 3
    session.restore(session.snapshots()[0])

    assert set(found(settled(session), "plan")) == {"The plan is to sail.", "Plan of the harbour."}


def test_rollback_undoes_what_a_block_did() -> None:
    """
    What a failed block with ``rollback=True`` added is not recalled.
    """
    session = told("The plan is to sail.")
    with suppress(ValueError), checkpoint(session, rollback=True):
        session.history.append(user("The plan is to fly."))
        session.recall("plan")
        raise ValueError("no")

    assert found(session, "plan") == ["The plan is to sail."]


def test_a_branch_recalls_what_there_was(place: Any) -> None:
    """
    A branch recalls what its origin held, and from then on each only its own.
    """
    made, _ = place
    session = made()
    session.history.append(user("The plan is to sail."))
    session.active_contexts.add("Plan of the harbour.", key="harbour")
    consolidate_memory(session)
    other = session.branch()
    session.history.append(user("The plan is to fly."))
    other.history.append(user("The plan is to walk."))

    both = {"The plan is to sail.", "Plan of the harbour."}
    assert set(found(session, "plan")) == both | {"The plan is to fly."}
    assert set(found(other, "plan")) == both | {"The plan is to walk."}


# --- in a file ----------------------------------------------------------------------------------


def test_an_id_that_comes_again_is_not_mistaken(tmp_path: Path) -> None:
    """
    What was indexed, and lost in a crash before it was stored, is not found; what has its id is.
    """
    path = tmp_path / "memory.db"
    session = Session.open("s", store=path)
    session.history.append(user("kept"))
    create_memory_snapshot(session)
    session.history.append(user("a lost apple"))
    assert found(session, "apple")
    lost = session.history.items[-1].id
    del session  # as if the process had died

    session = Session.open("s", store=path)
    for n in range(3):
        session.history.append(user(f"a new pear {n}"))
    assert lost in [item.id for item in session.history.items]
    assert found(session, "apple") == []
    assert [text[:10] for text in found(session, "pear", 3)] == ["a new pear"] * 3


def test_two_that_hold_one_session_find_their_own(tmp_path: Path) -> None:
    """
    Where a session is open twice, each finds what it holds itself.
    """
    path = tmp_path / "memory.db"
    Session.open("s", store=path).close()
    one, other = Session.open("s", store=path), Session.open("s", store=path)
    one.history.append(user("an apple"))
    other.history.append(user("a pear"))

    for _ in range(3):
        assert found(one, "apple pear") == ["an apple"]
        assert found(other, "apple pear") == ["a pear"]


def test_a_secret_is_not_indexed(tmp_path: Path) -> None:
    """
    What is taken out of what a store is given cannot be found, nor is it in the file.
    """
    key = "sk-proj-" + "a1B2c3D4" * 6
    session = Session.open("s", store=tmp_path / "memory.db")
    session.history.append(user(f"My key is {key}, do not lose it."))

    assert "do not lose it" in found(session, "key")[0]
    assert found(session, key) == [] or key not in found(session, key)[0]
    session.close()
    for file in tmp_path.iterdir():
        assert key.encode() not in file.read_bytes()
        assert key.lower().encode() not in file.read_bytes()


def test_many_threads_recall_at_once(tmp_path: Path) -> None:
    """
    Recalls while others append and recall find what there was before they began.
    """
    session = Session.open("s", store=tmp_path / "memory.db")
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for n in range(10):
                session.history.append(user(f"{name} number{n}"))
                assert f"{name} number{n}" in found(session, f"{name} number{n}", 20)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("anna", "bert", "carl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


FORKS = """
import os
from memtrace import Session
session = Session()
session.history.append({"role": "user", "content": "an apple"})
assert session.recall("apple")
child = os.fork()
if child == 0:
    os._exit(0 if len(session.recall("apple")) == 1 else 1)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_child_process_recalls() -> None:
    """
    After a fork a session of its parent's can be searched.
    """
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- queries ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        " \n\t",
        '"',
        "'; DROP TABLE words; --",
        "apple AND OR NOT NEAR(",
        'said:apple* ^ "pear',
        "{apple} : + - (",
        "nul\0inside",
        "\ud800 lone",
        "🙂👩‍👩‍👧‍👦",
        "the of and",
        "apple " * 10_000,
        " ".join(f"w{n}" for n in range(10_000)),
        "x" * 1_000_000,
        "設" * 10_000,
        "\u0301\u0301\u0301",
    ],
)
def test_any_query_is_answered(query: str) -> None:
    """
    A query of anything gives items or nothing, and never an error; so does a context.
    """
    session = told("apple and pear", "to be or not to be", "🙂 it works", "設設設")

    assert all(item.id for item in session.recall(query))
    assert measure_tokens(session.context_for(query, 30)) <= 30


def test_a_query_of_many_words_searches_for_some() -> None:
    """
    Of very many words the longest are searched for; stopwords only where there are no others.
    """
    assert len(sought(" ".join(f"word{n}" for n in range(10_000)))) == MOST
    assert sought("what is the budget for it?") == ["budget"]
    assert sought("to be or not") == ["to", "be", "or", "not"]
    assert words("🙂 \0 \ud800 !?") == []


@pytest.mark.parametrize("query", [None, 7, b"apple", ["apple"]])
def test_what_is_no_text_is_refused(query: Any) -> None:
    """
    A query that is no text is refused, and so is a number of items that is none.
    """
    session = Session()
    with pytest.raises(ConfigurationError, match="a query is text"):
        session.recall(query)
    with pytest.raises(ConfigurationError, match="a query is text"):
        session.context_for(query, 100)
    with pytest.raises(ConfigurationError, match="k must be a whole number"):
        session.recall("apple", k=-1)


def test_passages_are_whole_and_in_order() -> None:
    """
    The passages of a text are all of it, none longer than the longest, whatever it is made of.
    """
    for text in ("word " * 5_000, "x" * 50_000, "Yes. " * 3_000, "a\n" * 9_000, "好。" * 4_000):
        tokens = len(text) // 3
        spans = passages(text, tokens)
        assert "".join(text[start:stop] for start, stop in spans) == text
        longest = max(stop - start for start, stop in spans) * tokens / len(text)
        assert longest <= LARGEST * 1.6
    assert passages("short", LONG) == [(0, 5)]


# --- meaning ------------------------------------------------------------------------------------

TOPICS = ("car automobile vehicle", "dog puppy hound", "rain weather storm")


def embedded(texts: list[str]) -> list[list[float]]:
    """A vector of how much each text has of three topics."""
    return [
        [0.1 + sum(word in text.lower() for word in topic.split()) for topic in TOPICS]
        for text in texts
    ]


async def aembedded(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return embedded(texts)


@pytest.mark.parametrize("embed", [embedded, aembedded])
async def test_meaning_finds_what_words_do_not(embed: Any) -> None:
    """
    With an embedding function, sync or async, a text without any of the words is found, by
    either form of recall; and a text found by both comes before one found by one.
    """
    session = told(*FILLER, "My puppy sleeps.", policy=Policy(embed=embed))

    assert found(session, "hound", 1) == ["My puppy sleeps."]
    assert [i.content for i in await session.arecall("hound", 1)] == [user("My puppy sleeps.")]
    session.history.append(user("A puppy is a young dog."))
    assert found(session, "dog", 1) == ["A puppy is a young dog."]
    session.history.pop()
    assert found(session, "dog", 1) == ["My puppy sleeps."]


async def test_an_async_function_runs_on_the_callers_loop() -> None:
    """
    A client that is bound to an event loop can be used.
    """
    loops = []

    async def embed(texts: list[str]) -> list[list[float]]:
        loops.append(asyncio.get_running_loop())
        return embedded(texts)

    session = told("My puppy sleeps.", policy=Policy(embed=embed))
    await session.arecall("hound")
    await session.acontext_for("hound", 100)
    assert set(loops) == {asyncio.get_running_loop()}


def fails(texts: list[str]) -> Any:
    raise OSError("no network")


@pytest.mark.parametrize(
    "embed",
    [
        fails,
        lambda texts: None,
        lambda texts: [],
        lambda texts: [[1.0]] * (len(texts) + 1),
        lambda texts: [[1.0] * (n + 1) for n in range(len(texts))],
        lambda texts: [[] for _ in texts],
        lambda texts: [["a"] for _ in texts],
        lambda texts: [[float("nan")] for _ in texts],
    ],
)
def test_a_failing_function_leaves_words(embed: Any, caplog: pytest.LogCaptureFixture) -> None:
    """
    Where the function fails, or gives what is no vectors, words alone are searched, and one
    warning says so.
    """
    session = told("an apple", "a pear", policy=Policy(embed=embed))
    with caplog.at_level(logging.WARNING, "memtrace"):
        assert found(session, "apple")[0] == "an apple"
        assert found(session, "pear")[0] == "a pear"

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "words alone" in caplog.text


def test_a_failing_function_raises_where_strict() -> None:
    """
    ``configure(strict=True)`` raises what it raised.
    """
    memtrace.configure(strict=True)
    with pytest.raises(OSError, match="no network"):
        told("an apple", policy=Policy(embed=fails)).recall("apple")


def test_each_text_is_embedded_once() -> None:
    """
    What was embedded is not given to the function again.
    """
    given: list[str] = []

    def embed(texts: list[str]) -> list[list[float]]:
        given.extend(texts)
        return embedded(texts)

    session = told("a dog", "a car", policy=Policy(embed=embed))
    session.recall("hound")
    session.recall("hound")
    assert sorted(given) == ["a car", "a dog", "hound", "hound"]


def test_an_embedder_must_be_callable() -> None:
    """
    Anything else is refused where it is given.
    """
    with pytest.raises(ConfigurationError, match=r"Policy\.embed"):
        Policy(embed="text-embedding-3-small")  # type: ignore[arg-type]


# --- contexts -----------------------------------------------------------------------------------


def call(number: int, path: str, output: str) -> list[dict[str, Any]]:
    """A tool call and its result."""
    function = {"name": "read", "arguments": f'{{"path": "{path}"}}'}
    asked = {"id": f"c{number}", "type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": output},
    ]


def test_a_context_fits_and_keeps_its_order() -> None:
    """
    It holds the system prompt, what was recalled and the last turns, in the conversation's order,
    within the budget, as the caller's own objects.
    """
    session = Session()
    prompt = {"role": "system", "content": "Be brief."}
    told_ = user("My sister's name is Ottilie.")
    session.history.extend([prompt, *map(user, FILLER[:20]), told_, *map(user, FILLER[20:])])
    messages = session.context_for("what is my sister called, her name?", 120)

    assert messages[0] is prompt
    assert any(message is told_ for message in messages)
    assert messages[-1] is session.history[-1]
    assert measure_tokens(messages) <= 120
    order = [session.history.messages().index(message) for message in messages]
    assert order == sorted(order)


def test_passages_of_long_messages_are_marked() -> None:
    """
    Of a long message only the passages that matter are shown, with its id and what is left out.
    """
    long = " ".join([*FILLER, "The key lies under the blue flowerpot.", *FILLER])
    session = told("Hello.", long, *FILLER)
    (message,) = (m for m in session.context_for("key", 150) if "flowerpot" in m["content"])

    assert message["role"] == "user"
    assert message["content"].startswith("[passage of a longer message, id m2]\n[…]\n")
    assert message["content"].endswith("\n[…]")
    assert measure_tokens(message) < measure_tokens(user(long)) / 3


def test_calls_and_results_are_never_parted() -> None:
    """
    A result comes with its call and a call with its result; a half without the other not at all.
    """
    session = told("Look at the files.")
    for number in range(20):
        output = f"file {number} defines the colour number {number * 31}. " + FILLER[number] * 12
        session.history.extend(call(number, f"src/{number}.py", output))
    session.history.extend(call(99, "src/last.py", "never mind")[:1])
    for limit in (40, 90, 200, 400, 1_000, 10_000):
        messages = session.context_for("which file defines colour 310?", limit)
        assert faults([facts(message) for message in messages]) == []
        assert measure_tokens(messages) <= limit
        assert all(facts(m).results or not facts(m).calls for m in messages[-1:])
    assert "310" in str(session.context_for("which file defines colour 310?", 400))


def test_the_question_itself_is_kept() -> None:
    """
    The latest user turn is shown where it is the query, however little the recent turns may have.
    """
    question = "What was the colour of the third house on the left side of our street?"
    session = told(*FILLER, question, token_budget=100_000)

    assert session.context_for(question, 30) == [user(question)]


def test_a_context_begins_with_a_user() -> None:
    """
    Where the first that was chosen is not a user's, a user's line comes before it.
    """
    session = told(*FILLER)
    session.history.append({"role": "assistant", "content": "The capital of Peru is Lima."})
    session.history.extend(map(user, FILLER))
    messages = session.context_for("capital of Peru", 40)

    assert [m["role"] for m in messages[:2]] == ["user", "assistant"]
    assert measure_tokens(messages) <= 40


def test_contexts_stand_before_the_conversation() -> None:
    """
    A recalled document is told as a user's words, with its name.
    """
    session = told(*FILLER)
    session.active_contexts.add("The pump is rated 17 bar.", key="pump.md")
    messages = session.context_for("pump rating bar", 100)

    assert messages[0] == user("[from memory: document pump.md]\nThe pump is rated 17 bar.")


def test_a_budget_below_the_system_prompt_is_refused() -> None:
    """
    The system prompt is never left out: too small a budget is an error that says both figures.
    """
    session = Session()
    session.history.append({"role": "system", "content": "Be brief. " * 20})
    with pytest.raises(ConfigurationError, match="max_tokens is 10, and the system prompt"):
        session.context_for("apple", 10)
    with pytest.raises(ConfigurationError, match="max_tokens must be a whole number"):
        session.context_for("apple", 1.5)  # type: ignore[arg-type]
    assert Session().context_for("apple", 0) == []


# --- telemetry ----------------------------------------------------------------------------------


def test_a_recall_is_a_span(spans: InMemorySpanExporter) -> None:
    """
    It is the convention's `search_memory`, and says nothing of what was sought or found.
    """
    session = told("an apple", "a pear", "a plum")
    session.recall("apple", k=1)
    (span,) = spans.get_finished_spans()

    assert span.name == "search_memory"
    assert span.kind.name == "INTERNAL"
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "search_memory",
        "gen_ai.conversation.id": session.id,
        "gen_ai.memory.store.id": session.id,
        "gen_ai.memory.record.count": 1,
    }


def test_content_is_told_where_it_is_switched_on(spans: InMemorySpanExporter) -> None:
    """
    With ``capture_content`` the query and the records are on the span.
    """
    memtrace.configure(capture_content=True)
    session = told("an apple", "a pear \ud800")
    session.recall("apple \ud800", k=1)
    (span,) = spans.get_finished_spans()

    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.memory.query.text"] == "apple ?"
    assert attributes["gen_ai.memory.records"] == (
        '[{"id": "m1", "content": "an apple", '
        '"metadata": {"kind": "user", "layer": "conversation_history"}}]'
    )


def test_a_context_is_a_span(spans: InMemorySpanExporter) -> None:
    """
    It tells how many items were recalled, and how many tokens of how many they make.
    """
    session = told("an apple", *FILLER)
    messages = session.context_for("apple", 50)
    (span,) = spans.get_finished_spans()

    attributes = dict(span.attributes or {})
    assert span.name == "search_memory"
    assert attributes["memtrace.context.limit"] == 50
    assert attributes["memtrace.context.tokens"] == measure_tokens(messages)
    assert attributes["gen_ai.memory.record.count"] >= 1  # type: ignore[operator]


def test_a_recall_that_fails_says_so(spans: InMemorySpanExporter) -> None:
    """
    An error ends the span with it, and passes.
    """
    session = Session()
    session.history.append({"role": "system", "content": "Be brief. " * 20})
    with pytest.raises(ConfigurationError):
        session.context_for("apple", 10)
    (span,) = spans.get_finished_spans()

    assert span.status.status_code.name == "ERROR"
    assert (span.attributes or {})["error.type"] == "memtrace.errors.ConfigurationError"


# --- off the event loop -------------------------------------------------------------------------


async def test_the_async_forms_work_elsewhere() -> None:
    """
    `arecall` and `acontext_for` give the same, from a thread of their own.
    """
    threads = []

    def embed(texts: list[str]) -> list[list[float]]:
        threads.append(threading.get_ident())
        return embedded(texts)

    session = told("an apple", *FILLER, policy=Policy(embed=embed))
    assert await session.arecall("apple") == session.recall("apple")
    threads.clear()
    assert await session.acontext_for("apple", 80)
    assert threading.get_ident() not in threads
    assert session.context_for("apple", 80) == await session.acontext_for("apple", 80)
