"""Whether a decorated callable keeps its type: what pyright says of calls, right and wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from .environments import PACKAGES, interpreter

_CALLS = """\
from collections.abc import AsyncIterator, Generator
from typing_extensions import assert_type
{setup}

@{decorator}
def plain(question: str, times: int = 1) -> list[str]:
    return [question] * times

@{decorator}
async def coroutine(question: str) -> str:
    return question

@{decorator}
def generator(question: str) -> Generator[int, str, bytes]:
    yield 1
    return b""

@{decorator}
async def async_generator(question: str) -> AsyncIterator[int]:
    yield 1

class Agent:
    @{decorator}
    def step(self, question: str) -> str:
        return question

async def use(agent: Agent) -> None:
    assert_type(plain("a", times=2), list[str])
    assert_type(await coroutine("a"), str)
    assert_type(generator("a"), Generator[int, str, bytes])
    assert_type(agent.step("a"), str)
    async for number in async_generator("a"):
        assert_type(number, int)
    plain(1)  # refused
    plain("a", time=2)  # refused
    await coroutine()  # refused
    generator(b"a")  # refused
    agent.step(1)  # refused
"""
CHECK_S = 120.0


def fault(peer: str, folder: Path) -> str:
    """What pyright finds wrong with a peer's decorator; empty where types are kept."""
    setup, decorator = PACKAGES[peer].typed
    text = _CALLS.format(setup=setup, decorator=decorator)
    file = folder / f"{peer} types.py".replace(" ", "_").replace("(", "").replace(")", "")
    file.write_text(text, encoding="utf-8")
    beside = Path(sys.executable).parent / "pyright"
    pyright = str(beside) if beside.exists() else shutil.which("pyright")
    if pyright is None:
        return "pyright is not installed"
    command = [pyright, "--outputjson", "--pythonpath", str(interpreter(peer)), str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=CHECK_S, check=False, cwd=folder
    )
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = {f["range"]["start"]["line"]: f["message"] for f in found if f["severity"] == "error"}
    refused = {n for n, line in enumerate(text.splitlines()) if line.endswith("# refused")}
    wrong = [f"line {n + 1}: {message}" for n, message in errors.items() if n not in refused]
    wrong += [f"line {n + 1} passes" for n in sorted(refused - set(errors))]
    return wrong[0] if wrong else ""
