"""Zero code: the real clients, observed. What they send is the same, whatever memtrace does."""

from __future__ import annotations

import asyncio
import gc
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FunctionType
from typing import Any

import anthropic
import openai
import pytest
import stub
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stub import Script, Server, part, task

import memtrace
from memtrace import observing
from memtrace.observing import Observation, calls, clients, listening
from memtrace.observing.instrumentor import MemtraceInstrumentor

MESSAGES = [{"role": "user", "content": "The code word is heron-17."}]
COUNT = memtrace.measure_tokens(MESSAGES)
TOOL = {
    "name": "read",
    "description": "What stands in a part.",
    "parameters": {"type": "object", "properties": {"part": {"type": "integer"}}},
}


# --- a server that answers the same each time, and keeps what it was sent -------------------------


PATHS = {
    "/v1/chat/completions": stub.chat,
    "/v1/responses": stub.responses,
    "/v1/messages": stub.anthropic,
}


def _payloads() -> dict[tuple[str, bool], bytes]:
    made: dict[tuple[str, bool], bytes] = {}
    for path, make in PATHS.items():
        body = {"messages": MESSAGES, "input": MESSAGES, "model": "m", "stream_options": {}}
        body["stream_options"] = {"include_usage": True}
        whole, events = make(Server(Script(0)), body)
        lines = [
            (f"event: {name}\n" if name else "")
            + f"data: {data if isinstance(data, str) else json.dumps(data)}\n\n"
            for name, data in events
        ]
        made[path, False], made[path, True] = json.dumps(whole).encode(), "".join(lines).encode()
    return made


PAYLOADS = _payloads()


class Kept:
    """Where requests are kept, as they came."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[tuple[str, str]], bytes]] = []
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_parts: Any) -> None: ...

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = [h for h in self.headers.items() if h[0].lower() != "host"]
                kept.sent.append((self.path, headers, body))
                streamed = bool(json.loads(body).get("stream"))
                payload = PAYLOADS[self.path.partition("?")[0], streamed]
                kind = "text/event-stream" if streamed else "application/json"
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def taken(self) -> list[Any]:
        """What was sent since the last time."""
        sent, self.sent = self.sent, []
        return sent


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


# --- calls, as users and frameworks make them -----------------------------------------------------

CHAT: dict[str, Any] = {"model": "m", "messages": MESSAGES}
STREAM: dict[str, Any] = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
CHAT_TOOLS: dict[str, Any] = {**CHAT, "tools": [{"type": "function", "function": TOOL}]}
RESPONSE: dict[str, Any] = {"model": "m", "input": MESSAGES, "instructions": "Be brief."}
MESSAGE: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": MESSAGES, "system": "Be."}


def chat(client: Any) -> Any:
    return client.chat.completions.create(**CHAT_TOOLS).choices[0].message.content


def chat_streamed(client: Any) -> Any:
    return [chunk.model_dump() for chunk in client.chat.completions.create(**STREAM)]


def chat_parsed(client: Any) -> Any:
    return client.chat.completions.parse(**CHAT).choices[0].message.content


def chat_events(client: Any) -> Any:
    with client.chat.completions.stream(**CHAT) as stream:
        return [event.type for event in stream]


def chat_raw(client: Any) -> Any:
    raw = client.chat.completions.with_raw_response.create(**CHAT)
    return raw.parse().choices[0].message.content, raw.text


def chat_raw_streamed(client: Any) -> Any:
    raw = client.chat.completions.with_raw_response.create(**STREAM)
    return [chunk.model_dump() for chunk in raw.parse()]


def chat_body(client: Any) -> Any:
    with client.chat.completions.with_streaming_response.create(**CHAT) as response:
        return list(response.iter_lines())


def response(client: Any) -> Any:
    return client.responses.create(**RESPONSE).output_text


def response_streamed(client: Any) -> Any:
    with client.responses.create(**RESPONSE, stream=True) as stream:
        return [event.type for event in stream]


def response_events(client: Any) -> Any:
    with client.responses.stream(**RESPONSE) as stream:
        return stream.get_final_response().output_text


def message(client: Any) -> Any:
    return client.messages.create(**MESSAGE).content[0].text


def message_streamed(client: Any) -> Any:
    return [event.type for event in client.messages.create(**MESSAGE, stream=True)]


def message_events(client: Any) -> Any:
    with client.messages.stream(**MESSAGE) as stream:
        return stream.get_final_text()


def message_beta(client: Any) -> Any:
    return client.beta.messages.create(**MESSAGE).content[0].text


async def achat(client: Any) -> Any:
    return (await client.chat.completions.create(**CHAT_TOOLS)).choices[0].message.content


async def achat_streamed(client: Any) -> Any:
    return [chunk.model_dump() async for chunk in await client.chat.completions.create(**STREAM)]


async def achat_events(client: Any) -> Any:
    async with client.chat.completions.stream(**CHAT) as stream:
        return [event.type async for event in stream]


async def achat_raw(client: Any) -> Any:
    raw = await client.chat.completions.with_raw_response.create(**CHAT)
    return raw.parse().choices[0].message.content


async def aresponse(client: Any) -> Any:
    return (await client.responses.create(**RESPONSE)).output_text


async def aresponse_streamed(client: Any) -> Any:
    return [event.type async for event in await client.responses.create(**RESPONSE, stream=True)]


async def amessage(client: Any) -> Any:
    return (await client.messages.create(**MESSAGE)).content[0].text


async def amessage_streamed(client: Any) -> Any:
    return [event.type async for event in await client.messages.create(**MESSAGE, stream=True)]


async def amessage_events(client: Any) -> Any:
    async with client.messages.stream(**MESSAGE) as stream:
        return await stream.get_final_text()


OPENAI = [chat, chat_streamed, chat_parsed, chat_events, chat_raw, chat_raw_streamed, chat_body]
OPENAI += [response, response_streamed, response_events]
ANTHROPIC = [message, message_streamed, message_events, message_beta]
AOPENAI: list[Any] = [achat, achat_streamed, achat_events, achat_raw, aresponse, aresponse_streamed]
AANTHROPIC: list[Any] = [amessage, amessage_streamed, amessage_events]
ALL = [*OPENAI, *ANTHROPIC, *AOPENAI, *AANTHROPIC]
SOME = [chat, chat_streamed, message_streamed, achat_streamed, amessage]


def make(call: Any, url: str) -> Any:
    """Make one call with a client of its kind."""
    package: Any = anthropic if call in (*ANTHROPIC, *AANTHROPIC) else openai
    url = url if package is anthropic else f"{url}/v1"
    options: dict[str, Any] = {"api_key": "none", "max_retries": 0, "base_url": url}
    if call in (*OPENAI, *ANTHROPIC):
        # Without certificates, which take the longest to load.
        options["http_client"] = package.DefaultHttpxClient(verify=False)
        kind = package.Anthropic if package is anthropic else package.OpenAI
        with kind(**options) as client:
            return call(client)

    async def asked() -> Any:
        options["http_client"] = package.DefaultAsyncHttpxClient(verify=False)
        kind = package.AsyncAnthropic if package is anthropic else package.AsyncOpenAI
        async with kind(**options) as client:
            return await call(client)

    return asyncio.run(asked())


@pytest.fixture(scope="module")
def bare(kept: Kept) -> dict[str, Any]:
    """What each call sends and gives without memtrace."""
    return {call.__name__: (make(call, kept.url), kept.taken()) for call in ALL}


@pytest.fixture
def on() -> Iterator[None]:
    instrumentor = MemtraceInstrumentor()
    instrumentor.instrument()
    calls._state = None  # what other tests sent is no conversation of this one
    calls.state().load()
    yield
    instrumentor.uninstrument()


@pytest.fixture
def seen(on: None) -> Iterator[list[Observation]]:
    told: list[Observation] = []
    with listening(told.append):
        yield told


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ALL, ids=lambda call: call.__name__)
def test_sends_the_same_bytes(
    call: Any, bare: dict[str, Any], kept: Kept, seen: list[Observation]
) -> None:
    """
    Observed, a call sends the same bytes, gives the same, and is told once.
    """
    assert (make(call, kept.url), kept.taken()) == bare[call.__name__]
    gc.collect()
    (told,) = seen
    assert (told.messages, told.model, told.error) == (1, "m", None)
    if call is not chat_body:  # whose answer is the caller's to read
        assert told.usage.input_tokens is not None
        assert told.usage.output_tokens == 20


def functions(*packages: str) -> dict[str, FunctionType]:
    """Every function of some packages, methods too, by name."""
    found: dict[str, FunctionType] = {}
    for package in packages:
        module = importlib.import_module(package)
        names = [package]
        if hasattr(module, "__path__"):
            names += [f"{package}.{m.name}" for m in pkgutil.iter_modules(module.__path__)]
        for name in names:
            module = importlib.import_module(name)
            for holder in (module, *filter(inspect.isclass, vars(module).values())):
                if getattr(holder, "__module__", name) != name:
                    continue
                for value in vars(holder).values():
                    held = getattr(value, "fget", None) or getattr(value, "__func__", value)
                    held = inspect.unwrap(held) if callable(held) else held
                    if isinstance(held, FunctionType) and (
                        held.__code__.co_filename == module.__file__ and not held.__closure__
                    ):
                        found[f"{name.removeprefix('memtrace.')}:{held.__qualname__}"] = held
    return found


OWN = {
    name: function
    for name, function in functions("memtrace.observing").items()
    # The relay is what was wrapped; the instrumentor's methods are called by who switches it on.
    if not name.startswith(("observing.relay:", "observing.instrumentor:"))
}
BELOW = functions(
    *("memtrace.counters", "memtrace.tokens", "memtrace.messages", "memtrace.telemetry")
)


def fails(*_args: Any, **_kwargs: Any) -> Any:
    raise RuntimeError("broken on purpose")


def interrupts(*_args: Any, **_kwargs: Any) -> Any:
    raise KeyboardInterrupt


@pytest.fixture
def broken() -> Iterator[Callable[..., None]]:
    """Make functions raise, wherever they are referred to from."""
    whole: list[tuple[FunctionType, Any]] = []

    def break_(*given: FunctionType, how: FunctionType = fails) -> None:  # type: ignore[assignment]
        for function in given:
            whole.append((function, function.__code__))
            function.__code__ = how.__code__

    yield break_
    for function, code in reversed(whole):
        function.__code__ = code


def check(bare: dict[str, Any], kept: Kept) -> None:
    for call in SOME:
        assert (make(call, kept.url), kept.taken()) == bare[call.__name__]


def test_every_function_is_found() -> None:
    """
    What is broken one by one below is all of the package.
    """
    assert {"observing.calls:begin", "observing.census:Census.add"} <= OWN.keys()
    assert {"observing.facts:Observation.tokens", "observing.calls:listening"} <= OWN.keys()
    assert len(OWN) > 60
    assert {"telemetry.spans:failure", "tokens:measure_tokens"} <= BELOW.keys()


@pytest.mark.parametrize("name", [*OWN, *BELOW])
def test_one_function_fails(
    name: str, bare: dict[str, Any], kept: Kept, on: None, broken: Callable[..., None]
) -> None:
    """
    Whichever function of memtrace's raises, calls send the same bytes and give the same.
    """
    broken({**OWN, **BELOW}[name])
    check(bare, kept)


def test_every_function_fails(
    bare: dict[str, Any], kept: Kept, on: None, broken: Callable[..., None]
) -> None:
    """
    If all of them raise, calls still send the same bytes and give the same.
    """
    broken(*OWN.values(), *BELOW.values())
    for call in ALL:
        assert (make(call, kept.url), kept.taken()) == bare[call.__name__]


@pytest.mark.parametrize("name", [name for name in OWN if name.startswith("observing.clients:")])
def test_installing_fails(
    name: str, bare: dict[str, Any], kept: Kept, broken: Callable[..., None]
) -> None:
    """
    Whatever fails while it is switched on, the application runs as it did.
    """
    instrumentor = MemtraceInstrumentor()
    broken(OWN[name])
    instrumentor.instrument()
    check(bare, kept)


@pytest.fixture(autouse=True)
def _off() -> Iterator[None]:
    yield
    MemtraceInstrumentor()._is_instrumented_by_opentelemetry = False
    observing.uninstall()


def test_interruption_goes_through(kept: Kept, on: None, broken: Callable[..., None]) -> None:
    """
    KeyboardInterrupt, wherever it hits, ends the call.
    """
    broken(OWN["observing.census:prints_of"], how=interrupts)
    with pytest.raises(KeyboardInterrupt):
        make(chat, kept.url)


# --- switched on and off --------------------------------------------------------------------------


def standing() -> list[Any]:
    """What stands in the clients' classes."""
    owners = [openai.OpenAI, openai.AsyncOpenAI, anthropic.Anthropic, anthropic.AsyncAnthropic]
    return [vars(c)["request"] for o in owners for c in o.__mro__ if "request" in vars(c)]


def test_uninstrumented(kept: Kept) -> None:
    """
    Uninstrumented, the same functions stand where they stood, and nothing is observed.
    """
    before = standing()
    instrumentor = MemtraceInstrumentor()
    instrumentor.instrument()
    assert len(clients.observed()) >= 4
    assert all(now is not was for now, was in zip(standing(), before, strict=True))
    instrumentor.uninstrument()

    assert all(now is was for now, was in zip(standing(), before, strict=True))
    told: list[Observation] = []
    with listening(told.append):
        make(chat, kept.url)
    assert told == []


def test_wrapped_by_another_meanwhile(kept: Kept) -> None:
    """
    What somebody else wrapped around it stays theirs, and ours does nothing any more; once on
    again, a call is told once.
    """
    import wrapt

    owner = next(c for c in openai.OpenAI.__mro__ if "request" in vars(c))
    before = vars(owner)["request"]
    observing.install()
    theirs = wrapt.wrap_function_wrapper(
        owner, "request", lambda wrapped, _, args, kwargs: wrapped(*args, **kwargs)
    )
    observing.uninstall()
    told: list[Observation] = []
    try:
        assert vars(owner)["request"] is theirs
        with listening(told.append):
            make(chat, kept.url)
            assert told == []
            observing.install()
            make(chat, kept.url)
            assert len(told) == 1
    finally:
        observing.uninstall()
        owner.request = before  # type: ignore[attr-defined]


def test_client_made_before(kept: Kept) -> None:
    """
    A client that was made and used before is observed too.
    """
    told: list[Observation] = []
    with openai.OpenAI(base_url=f"{kept.url}/v1", api_key="none") as client, listening(told.append):
        chat_raw(client)
        observing.install()
        chat_raw(client)
    assert len(told) == 1


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A program in a process of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MEMTRACE_", "OTEL_"))}
    return subprocess.run(
        arguments,
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**clean, **environ},
        timeout=120,
    )


def test_client_imported_later(kept: Kept, tmp_path: Path) -> None:
    """
    Switching it on imports no client; one that is imported afterwards is observed.
    """
    program = tmp_path / "later.py"
    program.write_text(
        "import sys\n"
        "from memtrace.observing import install, listening\n"
        "install()\n"
        "assert 'openai' not in sys.modules and 'anthropic' not in sys.modules\n"
        "from openai import OpenAI\n"
        "told = []\n"
        "with listening(told.append):\n"
        f"    client = OpenAI(base_url='{kept.url}/v1', api_key='x')\n"
        f"    client.chat.completions.create(model='m', messages={MESSAGES})\n"
        "print(len(told))\n"
    )
    done = run(sys.executable, "-W", "error", str(program))
    assert (done.stdout, done.stderr) == ("1\n", "")


# --- what is told ---------------------------------------------------------------------------------


def test_agent_is_told(seen: list[Observation]) -> None:
    """
    Of an agent's loop: one conversation, what each call carried by kind, what was new, what the
    provider billed.
    """
    with (
        Server(Script(4)) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
    ):
        messages: list[Any] = [{"role": "user", "content": task()}]
        while calls_ := (
            reply := client.chat.completions.create(model="gpt-4o", messages=messages)
            .choices[0]
            .message
        ).tool_calls:
            messages.append(reply)
            for call in calls_:
                number = json.loads(call.function.arguments)["part"] % 3
                result = {"role": "tool", "tool_call_id": call.id, "content": part(number, 400)}
                messages.append(result)
        sent = server.tokens
    assert [told.turn for told in seen] == [1, 2, 3, 4, 5]
    assert len({told.conversation for told in seen}) == 1
    assert [told.tokens for told in seen] == sent
    assert [told.repeated_tokens for told in seen] == [0, *sent[:-1]]
    grown = [after - before for before, after in itertools.pairwise(sent)]
    assert [told.growth_tokens for told in seen] == [None, *grown]
    assert [told.billed_ratio for told in seen] == [1.0] * 5
    assert seen[3].duplicate_tokens == 0
    assert seen[4].duplicate_tokens == seen[1].kinds["tool_results"]  # part 0 was read twice
    assert seen[4].kinds["user"] == sent[0]


def test_span_of_its_own(spans: InMemorySpanExporter, kept: Kept, on: None) -> None:
    """
    Where no model call's span is current, the call has an INTERNAL one, which is none itself.
    """
    make(message, kept.url)
    (span,) = spans.get_finished_spans()
    attributes = dict(span.attributes or {})
    assert len(str(attributes.pop("memtrace.call.conversation"))) == 16
    assert (span.name, span.kind.name) == ("memtrace.observe m", "INTERNAL")
    assert attributes == {
        "memtrace.call.turn": 1,
        "memtrace.call.messages": 1,
        "memtrace.call.tokens": 5 + COUNT,
        "memtrace.call.system.tokens": 5,
        "memtrace.call.tools.tokens": 0,
        "memtrace.call.user.tokens": COUNT,
        "memtrace.call.assistant.tokens": 0,
        "memtrace.call.tool_results.tokens": 0,
        "memtrace.call.duplicate.tokens": 0,
        "memtrace.call.repeated.tokens": 0,
        "memtrace.call.new.tokens": 5 + COUNT,
        "memtrace.layer.working_memory.tokens": 5,
        "memtrace.layer.conversation_history.tokens": COUNT,
        "memtrace.counting": "estimate",
        "memtrace.usage.input_tokens": COUNT,
        "memtrace.usage.cache_read.input_tokens": COUNT // 2,
        "memtrace.usage.output_tokens": 20,
        "memtrace.usage.billed_ratio": COUNT / (5 + COUNT),
        "gen_ai.request.model": "m",
    }


@pytest.mark.parametrize(
    "attributes",
    [{"gen_ai.operation.name": "chat"}, {"openinference.span.kind": "LLM"}],
    ids=["conventions", "openinference"],
)
def test_span_of_the_model_call(
    attributes: dict[str, str],
    spans: InMemorySpanExporter,
    tracer_provider: TracerProvider,
    kept: Kept,
    on: None,
) -> None:
    """
    Where a model call's span is current, memtrace's attributes are put on it, and no other is made.
    """
    tracer = tracer_provider.get_tracer("another instrumentation")
    with tracer.start_as_current_span("chat m", attributes=attributes):
        make(chat_streamed, kept.url)
    (span,) = spans.get_finished_spans()
    assert span.name == "chat m"
    assert (span.attributes or {})["memtrace.call.tokens"] == COUNT
    assert (span.attributes or {})["memtrace.usage.output_tokens"] == 20


def test_other_spans_stay_where_they_stood(
    spans: InMemorySpanExporter, tracer_provider: TracerProvider, kept: Kept, on: None
) -> None:
    """
    Its own span is below the current one, and current to nobody.
    """
    with tracer_provider.get_tracer("app").start_as_current_span("work") as work:
        make(chat, kept.url)
    observed = spans.get_finished_spans()[0]
    assert observed.parent == work.get_span_context()


def test_refused(seen: list[Observation], spans: InMemorySpanExporter) -> None:
    """
    What the provider refuses reaches the application as it was, and is told as failed.
    """
    orphan = [{"role": "tool", "tool_call_id": "x", "content": "?"}]
    with (
        Server(Script(0)) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.BadRequestError),
    ):
        client.chat.completions.create(model="m", messages=orphan)  # type: ignore[arg-type]
    assert [told.error for told in seen] == ["openai.BadRequestError"]
    (span,) = spans.get_finished_spans()
    assert span.status.status_code.name == "ERROR"


@pytest.mark.parametrize("how", ["close", "drop"])
def test_stream_left_early(how: str, seen: list[Observation], kept: Kept) -> None:
    """
    A stream that is not read to its end is told once, when it goes.
    """
    with openai.OpenAI(base_url=f"{kept.url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(**STREAM)
        next(iter(stream))
        if how == "close":
            stream.close()
        del stream
        gc.collect()
    assert [told.usage.input_tokens for told in seen] == [None]


async def test_cancelled(seen: list[Observation]) -> None:
    """
    Cancelling reaches the call, and is told.
    """
    with Server(Script(0)) as server:

        async def slow(_request: Any) -> None:
            await asyncio.Event().wait()

        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "none"}
        async with openai.AsyncOpenAI(**options) as client:
            client._client.event_hooks["request"] = [slow]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.chat.completions.create(**CHAT), 0.05)
    assert [told.error for told in seen] == ["asyncio.exceptions.CancelledError"]


async def test_long_list_is_counted_aside(seen: list[Observation], kept: Kept) -> None:
    """
    On an event loop a long list is counted by a thread, and told all the same.
    """
    long = [{"role": "user", "content": part(1, 60_000)}]
    async with openai.AsyncOpenAI(base_url=f"{kept.url}/v1", api_key="none") as client:
        await client.chat.completions.create(model="m", messages=long)  # type: ignore[arg-type]
    for thread in threading.enumerate():
        if thread.name == "memtrace-count":
            thread.join()
    assert [told.tokens for told in seen] == [memtrace.measure_tokens(long)]


def test_switched_off(seen: list[Observation], kept: Kept) -> None:
    """
    With memtrace disabled nothing is observed.
    """
    memtrace.configure(enabled=False)
    make(chat, kept.url)
    assert seen == []


# --- without a line of code -----------------------------------------------------------------------

PROGRAM = """
from openai import OpenAI
client = OpenAI(base_url={url!r} + "/v1", api_key="none")
print(client.chat.completions.create(model="m", messages={messages}).choices[0].message.content)
"""


@pytest.fixture
def program(kept: Kept, tmp_path: Path) -> Path:
    file = tmp_path / "app.py"
    file.write_text(PROGRAM.format(url=kept.url, messages=MESSAGES))
    return file


def test_opentelemetry_instrument_finds_it(program: Path) -> None:
    """
    `opentelemetry-instrument python app.py` exports a span with what the call carried.
    """
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    done = run(
        *(str(command), sys.executable, str(program)),
        OTEL_TRACES_EXPORTER="console",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    assert "memtrace.observe m" in done.stdout
    assert f'"memtrace.call.tokens": {COUNT}' in done.stdout
    assert "The code word is heron-17." in done.stdout


def test_memtrace_run(program: Path, root: Path) -> None:
    """
    `memtrace run` runs the program, and tells on standard error what its calls carried.
    """
    done = run(sys.executable, "-m", "memtrace.cli", "run", str(program))
    assert (done.returncode, done.stdout) == (0, "The code word is heron-17.\n")
    assert f"1 model call to m in 1 conversation carried about {COUNT} tokens" in done.stderr

    done = run(sys.executable, "-m", "memtrace.cli", "run", str(root / "examples/zero_code.py"))
    assert "13 model calls to gpt-4o in 1 conversation" in done.stderr
    assert "tool results" in done.stderr
    assert "duplicates" in done.stderr


def test_memtrace_run_as_json(program: Path) -> None:
    """
    `memtrace run --json` tells it as one line of JSON, after the program's own output.
    """
    done = run(sys.executable, "-m", "memtrace.cli", "run", "--json", str(program))
    assert done.stdout == "The code word is heron-17.\n"
    values = json.loads(done.stderr)
    assert (values["calls"], values["tokens"], values["billed_tokens"]) == (1, COUNT, COUNT)
