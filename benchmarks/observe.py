"""What observing a client's call adds: `python -m benchmarks.observe [--json PATH]`.

An agent's conversation as its loop sends it: 99 messages in the call before (not timed), then 100,
of which the last, of 2 KB, was never seen. What is compared with is counting that one message with
tiktoken, in the same run and in turn.

- *Added*: a call of a wrapped method, less the same call of the method itself, which does nothing:
  the relay, the reading of the request, the prints of 100 messages, the count of the new one, the
  place in its conversation, the span of memtrace's own with all its attributes, ended and handed to
  a processor.
- *Counting only the new message*: ``measure_tokens`` of it, with the same counter and no memo.

The messages are fresh dicts at each call, made within it as the clients make them of what they are
given (the bare call makes them too); their texts are the caller's own, which keep their hash.
*Fresh texts* has new texts too, as a server has that parses a conversation at each request.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import wrapt
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

import memtrace
from benchmarks._rounds import Row, report, rounds
from memtrace import measure_tokens
from memtrace.counters import EncodingCounter
from memtrace.observing import calls
from memtrace.observing.forms import read_posted
from memtrace.observing.relay import relay
from memtrace.vocabulary import offline_function, vocabulary_path

RESULTS = Path(__file__).parent / "results" / "observe.json"
MESSAGES = 100
SIZE = 2_048


KINDS: dict[str, dict[str, Any]] = {"": {}, " fresh": {"fresh": True}, " tools": {"tool": 50}}
"""Of calls: the one with a bar, and two harder ones."""


class Nowhere(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Client:
    """What stands where a provider's client does: `request`, which does nothing."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def request(self, cast_to: Any, options: Any) -> Any:
        """The answer that was given."""
        return self._answer


class Observed(Client):
    """The same, observed as the clients are."""


def text(number: int) -> str:
    """2 KB of a tool's output, no two alike."""
    lines = (
        f"src/module_{number}.py:{line}: def handle_{number * 31 + line}(request, user): ..."
        for line in itertools.count(1)
    )
    return "\n".join(itertools.islice(lines, 60))[:SIZE]


def conversation(first: int) -> list[dict[str, Any]]:
    """99 messages: a system prompt, a task, then tool calls and their results of 2 KB."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You read modules, and say what they do. " * 20},
        {"role": "user", "content": f"Read every module of package {first}."},
    ]
    for number in itertools.count(first):
        function = {"name": "read", "arguments": json.dumps({"path": f"src/module_{number}.py"})}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        result = {"role": "tool", "tool_call_id": f"call_{number}", "content": text(number)}
        if len(messages) == MESSAGES - 1:
            return messages
        messages.append(result)
        if len(messages) == MESSAGES - 1:
            return messages
    raise AssertionError


def tools(count: int) -> list[dict[str, Any]]:
    """So many tools, as OpenAI takes them."""
    parameters = {"type": "object", "properties": {"path": {"type": "string"}}}
    return [
        {
            "type": "function",
            "function": {"name": f"tool_{n}", "description": "Reads.", "parameters": parameters},
        }
        for n in range(count)
    ]


class Calls:
    """Calls of one conversation, each with a last message that was never seen."""

    def __init__(
        self, client: Client, given: list[Any], fresh: bool = False, tool: int = 5
    ) -> None:
        self._client, self._given, self._fresh = client, given, fresh
        self._tools = tools(tool)
        self._numbers = itertools.count(1_000_000)

    def prepare(self) -> None:
        """The call before, and the next message: not timed."""
        self._last = {"role": "tool", "tool_call_id": "call_x", "content": text(self._number())}
        self._whole = json.dumps([*self._given, self._last])
        self._client.request(None, self._request(self._given))

    def _number(self) -> int:
        return id(self) % 100_000 * 1_000 + next(self._numbers)

    def call(self) -> Any:
        """The next call, its request made of the caller's messages as a client makes it."""
        if self._fresh:
            return self._client.request(None, self._request(json.loads(self._whole)))
        return self._client.request(None, self._request([*self._given, self._last]))

    def _request(self, given: list[Any]) -> Any:
        body = {"model": "gpt-4o", "messages": rebuilt(given), "tools": rebuilt(self._tools)}
        return SimpleNamespace(url="/chat/completions", json_data=body, headers=None)


def rebuilt(value: Any) -> Any:
    """The same in new lists and dicts."""
    if type(value) is dict:
        return {key: rebuilt(held) for key, held in value.items()}
    return [rebuilt(held) for held in value] if type(value) is list else value


def timed(answer: Any, kind: str, counter: EncodingCounter, count: int) -> dict[str, float]:
    """Median seconds of a bare call, of an observed one, and of counting one message."""
    given = conversation(0)
    bare = Calls(Client(answer), given, **KINDS[kind])
    observed = Calls(Observed(answer), given, **KINDS[kind])
    new = [{"role": "tool", "content": text(number)} for number in range(500_000, 500_001 + count)]
    callables = {
        "bare": bare.call,
        "observed": observed.call,
        "counting": lambda: measure_tokens(new.pop(), counter=counter),
    }

    def renew() -> None:
        bare.prepare()
        observed.prepare()

    renew()
    # By the thread's own clock, which a busy machine does not move.
    return rounds(callables, count, between=renew, collecting=True, clock=time.thread_time)


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=301)
    options = parser.parse_args(arguments)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Nowhere()))
    memtrace.configure(tracer_provider=provider)
    # tiktoken itself, also where a faster counter is installed.
    counter = EncodingCounter("o200k_base")
    counter._count = offline_function("o200k_base", vocabulary_path("o200k_base"))
    calls._state = calls.State(counter)
    calls.default_counter = lambda: counter  # type: ignore[attr-defined]

    details = SimpleNamespace(cached_tokens=12_000)
    usage = SimpleNamespace(
        prompt_tokens=30_000, completion_tokens=50, prompt_tokens_details=details
    )
    answer = SimpleNamespace(usage=usage)
    wrapt.wrap_function_wrapper(
        Observed, "request", relay(read_posted, False, SimpleNamespace(on=True))
    )
    took = {kind: timed(answer, kind, counter, options.rounds) for kind in KINDS}

    def added(kind: str = "") -> float:
        return took[kind]["observed"] - took[kind]["bare"]

    def times(kind: str = "") -> float:
        return added(kind) / took[kind]["counting"]

    rows = [
        Row(
            "added by observing a call of 100 messages / counting the new one",
            times(),
            3,
        ),
        Row("the same with fresh texts", times(" fresh")),
        Row("the same with 50 tools instead of 5", times(" tools")),
        Row("counting only the new message of 2 KB", took[""]["counting"] * 1e6, unit="µs"),
        Row("added by observing", added() * 1e6, unit="µs"),
    ]
    return 0 if report("Observing a client's call", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
