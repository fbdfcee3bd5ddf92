"""Programs that tests start: found or missed, on free ports, watched, and ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from otlp import until

HERE = Path(__file__).parent
ENDING_S = 20.0


def missing(what: str, remedy: str) -> Any:
    """A test cannot run: a failure where everything is installed, else left out."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed; {remedy}")
    pytest.skip(f"{what} is not installed; {remedy}")


def program(name: str, package: str) -> str:
    """Path of a program of Debian's."""
    return shutil.which(name) or missing(name, f"Debian's package {package} has it")


def json_python() -> str:
    """The interpreter of the environment with the exporter that speaks OTLP's JSON."""
    python = Path(sys.prefix) / "json" / "bin" / "python"
    return str(python) if python.exists() else missing("OTLP's JSON exporter", "make pytest does")


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with settings."""
    return {**os.environ, **settings}


def python(*arguments: str, executable: str = sys.executable, **settings: str) -> str:
    """What a program of ours prints; it ends well, and its telemetry arrived."""
    done = subprocess.run(
        [executable, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment(**settings),
    )
    assert done.returncode == 0, done.stderr
    assert "did not reach" not in done.stderr, done.stderr
    return done.stdout


@contextmanager
def running(command: Sequence[str], log: Path, **settings: str) -> Iterator[subprocess.Popen[Any]]:
    """A program for the length of a block; what it says is shown where the block fails."""
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment(**settings)
        )
        try:
            yield process
        except BaseException:
            print(f"{command[0]} said:\n{log.read_text('utf-8', errors='replace')[-4000:]}")
            raise
        finally:
            with suppress(OSError):
                assert process.stdin is not None
                process.stdin.close()
            process.terminate()
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url: str) -> bytes | None:
    """What a server says at an address; None: nothing good yet."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            body: bytes = response.read()
            return body or b" "
    except (urllib.error.URLError, OSError):
        return None


def ready(process: subprocess.Popen[Any], url: str) -> None:
    """Wait until a program answers at an address."""

    def answering() -> bytes | None:
        assert process.poll() is None, f"it ended with status {process.returncode}"
        return answers(url)

    until(answering)


def listening(process: subprocess.Popen[Any], port: int) -> None:
    """Wait until a program listens on a port."""

    def open_() -> bool:
        assert process.poll() is None, f"it ended with status {process.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(open_)
