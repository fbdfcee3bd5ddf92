"""What the console prints: golden text of real runs, and what it must survive."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inline_snapshot import snapshot
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import StatusCode, Tracer, set_span_in_context

from memtrace import Session, checkpoint, create_memory_snapshot, export_to, managed_agent
from memtrace import console as console_module
from memtrace.console import Console


def still(text: str) -> str:
    """The text with every duration the same."""
    return re.sub(r"[\d.]+ (ms|s)\b", "0 ms", text)


class Fed(SpanProcessor):
    """Gives a console what a provider's spans do."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.console.on_start(span)

    def on_end(self, span: ReadableSpan) -> None:
        self.console.on_end(span)


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def tracer(out: io.StringIO) -> Callable[[str], Tracer]:
    """Tracers by scope, whose spans a console of 100 columns prints."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Fed(Console(out, 100)))
    return provider.get_tracer


@managed_agent
def researcher(session: Session, topic: str) -> None:
    session.agent("researcher").state = {"topic": topic}
    session.history.append({"role": "assistant", "content": f"looking for {topic}"})
    if topic == "nothing":
        raise ValueError("no such topic")


@managed_agent
def planner(session: Session) -> None:
    session.history.append({"role": "user", "content": "make a plan"})
    with checkpoint(session, "read"):
        session.active_contexts.add("one two three four five")
        researcher(session, "all of it")
    with pytest.raises(ValueError, match="no such topic"):
        researcher(session, "nothing")
    researcher(Session("other", token_budget=50), "more")


def test_a_run_reads_as_a_tree(out: io.StringIO) -> None:
    """
    A run is printed when it ends: what it holds by layer, what changed below it, what failed.
    """
    with export_to("console", file=out):
        planner(Session("support-42", token_budget=1000))

    assert still(out.getvalue()) == snapshot("""\
invoke_agent planner  0 ms  0 -> 30 tokens (3% of 1,000)  session support-42
│  working 0 -> 5 · agents 0 -> 5 · history 0 -> 20
├─ memtrace.checkpoint read  0 ms  6 -> 26 tokens  snapshot
│  │  working 0 -> 5 · agents 0 -> 7 · history 6 -> 14
│  └─ invoke_agent researcher  0 ms  11 -> 26 tokens
│        agents 0 -> 7 · history 6 -> 14
├─ invoke_agent researcher  0 ms  26 -> 30 tokens  ERROR ValueError: no such topic
│     agents 7 -> 5 · history 14 -> 20
└─ invoke_agent researcher  0 ms  0 -> 11 tokens (22% of 50)  session other
      agents 0 -> 5 · history 0 -> 6
memtrace: 4 runs (1 failed), 1 checkpoint, at most 11 tokens, 22% of the budget
""")


def test_actions_and_alerts_say_what_they_did(
    out: io.StringIO, tracer: Callable[[str], Tracer]
) -> None:
    """
    An action says what it gave back, why, and how it ended; a crossed threshold stands out. Its
    event, for those who see no tree, is not told again.
    """
    ours = tracer("memtrace")
    with ours.start_as_current_span("invoke_agent a") as root:
        for name, before, after, outcome, more in (
            ("cleanup", 9000, 5600, "effective", {"memtrace.cleanup.removed.tokens": 3400}),
            ("compress", 12000, 11500, "ineffective", {"memtrace.compression.ratio": 0.958}),
            ("update_cache", 11500, 11600, "effective", {}),
        ):
            with ours.start_as_current_span(f"memtrace.{name}") as span:
                span.set_attributes(
                    {
                        **more,
                        "memtrace.action.outcome": outcome,
                        "memtrace.action.items": 12 if name == "cleanup" else 1,
                        "memtrace.action.tokens.before": before,
                        "memtrace.action.tokens.after": after,
                        "memtrace.action.reason": f"why {name}",
                    }
                )
        root.add_event(
            "memtrace.threshold.crossed",
            {
                "memtrace.threshold.name": "token_budget_usage",
                "memtrace.threshold.value": 0.9,
                "memtrace.threshold.observed": 0.9312,
                "memtrace.threshold.direction": "above",
            },
        )
        root.add_event("memtrace.cleanup.completed", {"memtrace.cleanup.removed.tokens": 3400})

    assert still(out.getvalue()) == snapshot("""\
invoke_agent a  0 ms
│  ! token_budget_usage 0.931 above 0.9
├─ memtrace.cleanup  0 ms  9,000 -> 5,600 tokens  gave back 3,400  12 items  why cleanup
│     effective
├─ memtrace.compress  0 ms  12,000 -> 11,500 tokens  gave back 500  1 item  why compress
│     ineffective
└─ memtrace.update_cache  0 ms  11,500 -> 11,600 tokens  1 item  why update_cache  effective
""")


def test_a_checkpoints_snapshot_stands_in_its_line(out: io.StringIO) -> None:
    """
    That a checkpoint took a snapshot, and went back to it, is said in its own line; a snapshot
    taken by hand has a line.
    """
    session = Session("s", token_budget=1000)
    session.active_contexts.add("one two")

    def attempt() -> None:
        with checkpoint(session, "try", rollback=True):
            session.active_contexts.add("one two three")
            create_memory_snapshot(session, "mine")
            raise ValueError("wrong")

    with export_to("console", file=out), pytest.raises(ValueError, match="wrong"):
        attempt()

    assert still(out.getvalue()) == snapshot("""\
memtrace.checkpoint try  0 ms  2 tokens (<1% of 1,000)  rolled back  snapshot  session s
│  ERROR ValueError: wrong
│  working 2
└─ memtrace.snapshot  0 ms  5 tokens in 2 items  effective
memtrace: 0 runs, 1 checkpoint, at most 2 tokens, 0% of the budget
""")


def test_a_failed_snapshot_has_a_line(out: io.StringIO, tracer: Callable[[str], Tracer]) -> None:
    """
    Where a checkpoint's snapshot failed, that is not folded away.
    """
    ours = tracer("memtrace")
    with (
        ours.start_as_current_span("memtrace.checkpoint a"),
        ours.start_as_current_span("memtrace.snapshot") as span,
    ):
        span.set_attribute("memtrace.action.outcome", "failed")

    assert still(out.getvalue()) == snapshot("""\
memtrace.checkpoint a  0 ms
└─ memtrace.snapshot  0 ms  failed
""")


def test_a_long_reason_is_wrapped(out: io.StringIO, tracer: Callable[[str], Tracer]) -> None:
    """
    A text that is longer than a line is broken between its words.
    """
    with tracer("memtrace").start_as_current_span("memtrace.compress") as span:
        span.set_attribute("memtrace.action.reason", "very long " * 11)

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert " ".join(line.strip() for line in lines).count("very long") == 11


def test_other_libraries_spans_stand_in_the_tree(
    out: io.StringIO, tracer: Callable[[str], Tracer]
) -> None:
    """
    A span of another library's is shown below a run, and prints nothing where there is no run.
    """
    ours, theirs = tracer("memtrace"), tracer("some.framework")
    with (
        theirs.start_as_current_span("POST /ask"),
        ours.start_as_current_span("invoke_agent a"),
        theirs.start_as_current_span("chat gpt-4o"),
        ours.start_as_current_span("memtrace.checkpoint b"),
    ):
        pass

    assert still(out.getvalue()) == snapshot("""\
invoke_agent a  0 ms
└─ chat gpt-4o  0 ms
   └─ memtrace.checkpoint b  0 ms
""")


def test_long_lines_are_wrapped(out: io.StringIO, tracer: Callable[[str], Tracer]) -> None:
    """
    What does not fit into the width goes on in the next line, below the name.
    """
    layers = ("working_memory", "long_term_memory", "cache", "agent_states", "conversation_history")
    attributes: dict[str, Any] = {
        "memtrace.profile.before.tokens": 1_234_567,
        "memtrace.profile.after.tokens": 2_345_678,
        "memtrace.profile.after.utilization": 1.2,
        "memtrace.budget.tokens": 2_000_000,
        "gen_ai.conversation.id": "a-session-with-a-rather-long-name",
    }
    for layer in layers:
        attributes[f"memtrace.layer.{layer}.before.tokens"] = 123_456
        attributes[f"memtrace.layer.{layer}.after.tokens"] = 234_567
    tracer("memtrace").start_span("invoke_agent " + "x" * 40, attributes=attributes).end()

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 100
    assert [line.strip() for line in lines[-2:]] == snapshot(
        [
            "working 123,456 -> 234,567 · long-term 123,456 -> 234,567 · cache 123,456 -> 234,567",
            "agents 123,456 -> 234,567 · history 123,456 -> 234,567",
        ]
    )


def test_names_cannot_reach_the_terminal(out: io.StringIO, tracer: Callable[[str], Tracer]) -> None:
    """
    Escapes, line ends and text direction marks in names, ids and messages print as nothing.
    """
    nasty = "a\x1b[2Jb\nc\u202ed\x07e\ud800"
    attributes = {"gen_ai.conversation.id": nasty, "error.type": nasty, "memtrace.cleanup.x": nasty}
    span = tracer("memtrace").start_span(f"invoke_agent {nasty}")
    span.set_attributes(attributes)
    span.add_event(f"memtrace.{nasty}", attributes)
    span.set_status(StatusCode.ERROR, nasty)
    span.end()

    assert not set(out.getvalue()) & set("\x1b\x07\u202e\ud800\r")
    assert out.getvalue().count("\n") == 3


def test_a_stream_of_few_characters_gets_plain_ones(
    tracer: Callable[[str], Tracer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where the stream cannot encode the lines of the tree, ASCII stands for them.
    """
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    with export_to("console", file=stream):
        planner(Session("support-42", token_budget=1000))

    text = raw.getvalue().decode("ascii")
    assert "|- memtrace.checkpoint read" in text
    assert "`- invoke_agent researcher" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_terminals(
    no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A terminal gets colour, unless NO_COLOR is set.
    """
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with export_to("console", file=out):
        researcher(Session(), "it")

    assert ("\x1b[" in out.getvalue()) is coloured


def test_what_does_not_end_is_bounded(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Runs that never end are forgotten, oldest first; one that ends after all stands alone.
    """
    monkeypatch.setattr(console_module, "MAX_SPANS", 10)
    console = Console(out)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Fed(console))
    ours = provider.get_tracer("memtrace")
    open_spans = [ours.start_span(f"invoke_agent {n}") for n in range(100)]

    assert len(console._root_of) == len(console._trees) == 10

    open_spans[0].end()
    assert out.getvalue().startswith("invoke_agent 0")


def test_a_huge_tree_is_cut(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of one run's spans so many are kept; the others are counted, with all that is below them.
    """
    monkeypatch.setattr(console_module, "MAX_SPANS_A_TREE", 3)
    session = Session("s")
    with export_to("console", file=out), checkpoint(session, "root"):
        for number in range(10):
            with checkpoint(session, f"child {number}"), checkpoint(session, "below"):
                pass

    lines = out.getvalue().splitlines()
    assert lines[2].startswith("   └─ memtrace.checkpoint below")
    assert lines[3:] == ["   … 18 more spans", "memtrace: 0 runs, 21 checkpoints"]


def test_a_deep_tree_is_printed(out: io.StringIO, tracer: Callable[[str], Tracer]) -> None:
    """
    Agents that call agents ever deeper are printed, on lines of bounded length.
    """
    ours = tracer("memtrace")
    spans = [ours.start_span("invoke_agent 0")]
    for depth in range(1, 400):
        context = set_span_in_context(spans[-1])
        spans.append(ours.start_span(f"invoke_agent {depth}", context=context))
    for span in reversed(spans):
        span.end()

    lines = out.getvalue().splitlines()
    assert len(lines) == 400
    assert max(map(len, lines)) <= 100


def test_a_run_that_has_not_ended_is_shown_at_the_end(out: io.StringIO) -> None:
    """
    A generator that nobody finished is printed as it stands when the block ends.
    """

    @managed_agent
    def steps(session: Session) -> Iterator[int]:
        with checkpoint(session, "first"):
            pass
        yield 1

    with export_to("console", file=out):
        stepping = steps(Session("s"))
        next(stepping)

    assert still(out.getvalue()) == snapshot("""\
invoke_agent steps  not ended
└─ memtrace.checkpoint first  0 ms  0 tokens (0% of 200,000)  session s
memtrace: 0 runs, 1 checkpoint
""")
    stepping.close()


def test_a_closed_stream_hurts_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """
    Where the stream was closed the agent runs all the same, and one traceback is logged.
    """
    out = io.StringIO()
    with export_to("console", file=out):
        out.close()
        researcher(Session(), "it")
        researcher(Session(), "it")

    assert "memtrace failed in export" in caplog.text
    assert caplog.text.count("Traceback") <= 1
