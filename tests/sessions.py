"""Recorded sessions for tests and benchmarks: those under MEMTRACE_SESSIONS, else generated ones.

Needs the standard library alone. Generated sessions have what real ones were seen to have: tool
calls, an id used twice, calls without results, empty messages, long runs of spaces, base64,
terminal colours, several scripts, a beginning in the middle, and what was noted under ``_x``.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Message = dict[str, Any]

KINDS = ("coding_agent", "tool_agent", "dialogue_qa", "short_chat", "coding_chat")

_SENTENCES = {
    "en": "The second test fails on Windows because the path has backslashes in it. ",
    "de": "Größere Dateien werden übersprungen, weil der Speicher sonst nicht reicht. ",
    "zh": "这个函数在输入为空时会抛出异常，请先检查参数。",
    "ja": "設定ファイルを読み込む前に、文字コードを確かめてください。",
    "ko": "이 요청은 시간이 초과되어 다시 시도해야 합니다. ",
    "ar": "يجب أن نتحقق من صحة البيانات قبل حفظها. ",
    "hi": "कृपया फ़ाइल सहेजने से पहले उसकी जाँच करें। ",
    "emoji": "🙂👩‍👩‍👧‍👦🏳️‍🌈 it works 🎉 ",
}


def session_files(folder: Path) -> list[Path]:
    """Sessions' files: MEMTRACE_SESSIONS' where it is set, else generated in ``folder``."""
    given = os.environ.get("MEMTRACE_SESSIONS")
    if given is None:
        return generate(folder)
    manifest = Path(given) / "manifest.json"
    if manifest.is_file():
        listed = json.loads(manifest.read_text("utf-8"))["sessions"]
        return [Path(given) / entry["file"] for entry in listed]
    return sorted(Path(given).glob("*/*.jsonl"))


def generate(folder: Path, count: int = 20, seed: int = 0) -> list[Path]:
    """Write ``count`` sessions as ``<kind>/<id>.jsonl``; the same ones for the same seed."""
    files = []
    for number in range(count):
        rng = random.Random(seed * 10_000 + number)
        kind = KINDS[number % len(KINDS)]
        lang = list(_SENTENCES)[number % len(_SENTENCES)]
        path = folder / kind / f"generated-{seed}-{number}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [_header(path.stem, kind, lang, rng), *_messages(kind, lang, rng)]
        text = "".join(json.dumps(line, ensure_ascii=bool(number % 2)) + "\n" for line in lines)
        path.write_bytes(
            text.encode("utf-8", "backslashreplace")
        )  # a lone surrogate as JSON has it
        files.append(path)
    return files


def _header(session_id: str, kind: str, lang: str, rng: random.Random) -> Message:
    header: Message = {"session_id": session_id, "kind": kind, "lang": lang, "system": None}
    header["budget_hint"] = rng.choice([None, {"context_window": rng.choice([1_000, 32_000])}])
    if rng.random() < 0.5:
        header["system"] = _SENTENCES[lang] * 20
    if kind == "tool_agent":
        header["tools"] = [{"type": "function", "function": {"name": "read", "parameters": {}}}]
    return header


def _messages(kind: str, lang: str, rng: random.Random) -> Iterator[Message]:
    if kind == "dialogue_qa":
        yield {"role": "system", "content": "[2026-01-01]", "_x": {"session_boundary": True}}
    if kind == "coding_chat":  # begins in the middle
        yield {"role": "assistant", "content": "… and that was the last of the failures."}
    for turn in range(rng.randint(2, 12)):
        yield {"role": "user", "content": _text(lang, rng), "_x": {"ts": f"2026-01-01T00:{turn}Z"}}
        if kind in ("coding_agent", "tool_agent"):
            yield from _steps(turn, lang, rng)
        usage = {"input": turn * 100, "cache_read": 7, "cache_write": 0, "output": 12}
        reply = _text(lang, rng)
        yield {"role": "assistant", "content": reply, "_x": {"usage": usage, "model": "m-1"}}


def _steps(turn: int, lang: str, rng: random.Random) -> Iterator[Message]:
    for step in range(rng.randint(1, 8)):
        call_id = f"call_{step}"  # so an id comes again in the next turn
        arguments = json.dumps({"path": f"src/{turn}/{step}.py", "text": _text(lang, rng)})
        function = {"name": "read", "arguments": arguments}
        call = {"id": call_id, "type": "function", "function": function}
        yield {"role": "assistant", "content": rng.choice([None, ""]), "tool_calls": [call]}
        if rng.random() < 0.9:  # some calls are never answered
            yield {"role": "tool", "tool_call_id": call_id, "content": _output(lang, rng)}


def _text(lang: str, rng: random.Random) -> str:
    return _SENTENCES[lang] * rng.choice([0, 1, 1, 2, 5, 40])


def _output(lang: str, rng: random.Random) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return base64.b64encode(rng.randbytes(30_000)).decode()
    if kind == 1:
        return " " * 100_000 + "\n" * 1_000
    if kind == 2:
        return "\x1b[31mFAILED\x1b[0m tests/test_a.py::test_b\n" * 200
    if kind == 3:
        return "<|endoftext|>" * 50 + "\ud83d lone \x00"
    return _text(lang, rng)
