"""A summarizer of the user's own is used where it serves; where it does not, nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from inline_snapshot import snapshot

from memtrace import ConfigurationError, Policy, Session, compress_memory, consolidate_memory
from memtrace.actions.draft import DIGEST
from memtrace.actions.summaries import ask
from memtrace.testing import capture

Summarizer = Callable[[list[Any], str], Any]


def session_with(summarizer: Summarizer | None, turns: int = 12, **constants: Any) -> Session:
    """A session over its budget, with old turns to fold; the last one speaks of `ORD-4711`."""
    policy = Policy(summarizer=summarizer, keep_recent=4, **constants)
    session = Session(token_budget=1500, policy=policy)
    session.history.append({"role": "system", "content": "You help with orders."})
    for turn in range(turns):
        order = "ORD-4711" if turn == 3 else f"ORD-{1000 + turn}"
        session.history.append({"role": "user", "content": f"Turn {turn}: what about {order}?"})
        text = (
            f"Order {order} left the depot. " + "It is on its way to the customer, as planned. " * 8
        )
        session.history.append({"role": "assistant", "content": text})
    session.history.append({"role": "user", "content": "And what became of ORD-4711 in the end?"})
    return session


def digests(session: Session) -> list[str]:
    """Texts of the digests that are shown."""
    return [item.content["content"] for item in session.history.items if item.kind == DIGEST]


def good(messages: list[Any], previous: str) -> str:
    """A summary that extends the one before, and names the order that is still spoken of."""
    return f"{previous}\nSUMMARY of {len(messages)}: ORD-4711 left the depot.".strip()


def raising(error: BaseException) -> Summarizer:
    """A summarizer that raises."""

    def summarize(messages: list[Any], previous: str) -> str:
        raise error

    return summarize


def test_a_summary_stands_for_what_was_folded() -> None:
    """What the summarizer says is shown in place of the extracted digest, and frees as much."""
    session = session_with(good)
    report = compress_memory(session, 0.5)
    assert report.outcome == "effective"
    assert ["SUMMARY" in text for text in digests(session)] == [True]
    assert session.recount() == session.profile().total_tokens or session.history.tokens > 0


def test_originals_stay_reachable() -> None:
    """A summary loses nothing: what it stands for is given back byte for byte."""
    session = session_with(good)
    before = {item.id: item.content for item in session.history.items}
    compress_memory(session, 0.5)
    (digest,) = [item for item in session.history.items if item.kind == DIGEST]
    for identity in digest.derived_from:
        assert session.original(identity) is before[identity]


def test_a_running_summary_is_extended() -> None:
    """The next fold is given the summary so far and the new messages, and nothing twice."""
    seen: list[tuple[list[Any], str]] = []

    def summarize(messages: list[Any], previous: str) -> str:
        seen.append((messages, previous))
        return good(messages, previous)

    session = session_with(summarize)
    compress_memory(session, 0.5)
    for turn in range(12, 24):
        session.history.append({"role": "user", "content": f"Turn {turn}: go on with ORD-4711"})
        session.history.append({"role": "assistant", "content": "It is on its way. " * 20})
    compress_memory(session, 0.5)
    first, second = seen
    assert first[1] == ""
    assert second[1] == good(first[0], "")
    assert not [m for m in second[0] if any(m is old for old in first[0])]
    assert digests(session)[0].count("SUMMARY") == 2


async def later(messages: list[Any], previous: str) -> str:
    """An async summarizer."""
    await asyncio.sleep(0)
    return good(messages, previous)


def test_an_async_summarizer_serves_a_sync_session() -> None:
    """It runs on a loop of its own, in a thread of its own."""
    session = session_with(later)
    compress_memory(session, 0.5)
    assert "SUMMARY" in digests(session)[0]


@pytest.mark.parametrize("summarizer", [good, later])
async def test_it_runs_off_the_event_loop(summarizer: Summarizer) -> None:
    """`amessages` has it called in another thread; the loop is never waited in."""
    threads: list[int] = []

    def noting(messages: list[Any], previous: str) -> Any:
        threads.append(threading.get_ident())
        return summarizer(messages, previous)

    session = session_with(noting, turns=24)
    view = await session.amessages()
    assert threads and threading.get_ident() not in threads  # noqa: PT018
    assert any("SUMMARY" in str(message["content"]) for message in view)


async def test_on_an_event_loop_messages_does_without() -> None:
    """The sync call on a loop would stop the loop, so it keeps to the pipeline."""
    session = session_with(good, turns=24)
    session.messages()
    assert digests(session)
    assert "SUMMARY" not in "".join(digests(session))


BAD: dict[str, Summarizer] = {
    "raises": raising(ValueError("no key")),
    "exits": raising(SystemExit(1)),
    "is interrupted": raising(KeyboardInterrupt()),
    "is cancelled": raising(asyncio.CancelledError()),
    "times out": raising(TimeoutError()),
    "says nothing": lambda messages, previous: "",
    "says spaces": lambda messages, previous: " \n ",
    "gives None": lambda messages, previous: None,
    "gives a dict": lambda messages, previous: {"summary": "ORD-4711"},
    "gives bytes": lambda messages, previous: b"ORD-4711",
    "echoes": lambda messages, previous: "\n".join(str(m["content"]) for m in messages),
    "grows": lambda messages, previous: "ORD-4711 " + "and so on " * 5000,
    "loses a name": lambda messages, previous: "Orders were on their way.",
    "takes no arguments": lambda: "ORD-4711",  # type: ignore[misc,dict-item]
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_serve_falls_back_to_the_pipeline(name: str) -> None:
    """The view is what it would be without a summarizer, and its history whole."""
    session, plain = session_with(BAD[name]), session_with(None)
    assert compress_memory(session, 0.5).outcome == compress_memory(plain, 0.5).outcome
    assert session.messages() == plain.messages()
    assert session.profile().total_tokens == plain.profile().total_tokens


def test_another_language_serves_if_the_names_are_there() -> None:
    """A summary in another language is a summary."""
    session = session_with(lambda messages, previous: "订单 ORD-4711 已离开仓库。")
    compress_memory(session, 0.5)
    assert "订单 ORD-4711" in digests(session)[0]


def test_one_that_hangs_is_left_to_itself() -> None:
    """After its time the pass goes on without it; while it hangs it is not asked again."""
    release = threading.Event()
    calls: list[int] = []

    def hang(messages: list[Any], previous: str) -> str:
        calls.append(1)
        release.wait()
        return good(messages, previous)

    try:
        session = session_with(hang, summarizer_timeout_s=0.01)
        assert compress_memory(session, 0.5).outcome == "effective"
        assert ask(hang, [], "", 5.0) == ("busy", None)
        assert calls == [1]
    finally:
        release.set()


def test_an_async_one_that_hangs_is_cancelled() -> None:
    """It gets its CancelledError, and the pass goes on without it."""
    cancelled: list[bool] = []

    async def hang(messages: list[Any], previous: str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return ""

    assert ask(hang, [], "", 0.01) == ("timeout", None)
    assert cancelled == [True]


def test_what_is_written_meanwhile_stays() -> None:
    """Messages appended, and one replaced, while the summarizer works are kept as written."""
    box: list[Session] = []

    def writing(messages: list[Any], previous: str) -> str:
        box[0].history.append({"role": "user", "content": "written meanwhile"})
        return good(messages, previous)

    session = session_with(writing)
    box.append(session)
    compress_memory(session, 0.5)
    assert session.messages()[-1]["content"] == "written meanwhile"
    assert "SUMMARY" in digests(session)[0]


def test_no_lock_is_held_while_it_is_asked() -> None:
    """Another thread can write and read the session while a summary is made."""
    box: list[Session] = []

    def reading(messages: list[Any], previous: str) -> str:
        done = threading.Event()

        def use() -> None:
            box[0].history.append({"role": "user", "content": "from another thread"})
            box[0].profile()
            done.set()

        threading.Thread(target=use, daemon=True).start()
        assert done.wait(5)
        return good(messages, previous)

    session = session_with(reading)
    box.append(session)
    compress_memory(session, 0.5)
    assert "SUMMARY" in digests(session)[0]


def test_consolidated_contexts_are_summarized() -> None:
    """A context's short form is what the summarizer says of it."""
    asked: list[Any] = []

    def summarize(messages: list[Any], previous: str) -> str:
        asked.append((messages, previous))
        return "The guide says: restart pump P-7."

    session = Session(policy=Policy(summarizer=summarize, keep_runs=0))
    guide = "Restart pump P-7 first. " + "Then wait for the light to turn green, and go on. " * 20
    item = session.active_contexts.add(guide, key="guide")
    assert consolidate_memory(session).outcome == "effective"
    (stored,) = session.archived_contexts.items
    assert stored.content == "The guide says: restart pump P-7."
    assert asked == [([{"role": "user", "content": guide}], "")]
    assert session.original(item.id) == guide


def test_the_span_tells_that_it_was_used() -> None:
    """The compress span names the strategy, and what became of the summary."""
    with capture() as telemetry:
        compress_memory(session_with(good), 0.5)
        compress_memory(session_with(BAD["grows"]), 0.5)
        compress_memory(session_with(None), 0.5)
    keys = ("memtrace.compression.strategy", "memtrace.summary.outcome", "memtrace.action.outcome")
    spans = [span for span in telemetry.spans if span.name == "memtrace.compress"]
    assert [[span.attributes.get(key) for key in keys] for span in spans] == snapshot(
        [
            ["summarizer", "used", "effective"],
            ["extractive", "larger", "effective"],
            ["extractive", None, "effective"],
        ]
    )


@pytest.mark.parametrize(
    "constants", [{"summarizer": "gpt"}, {"summarizer_timeout_s": 0}, {"summarizer_timeout_s": "9"}]
)
def test_nonsense_is_refused_by_name(constants: dict[str, Any]) -> None:
    """What is no function, or no time, is one clear error."""
    with pytest.raises(ConfigurationError, match=next(iter(constants))):
        Policy(**constants)
