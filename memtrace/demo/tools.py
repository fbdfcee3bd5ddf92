"""The demo's four tools, over the files of one folder: list, read, search, run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHOWN_LINES = 15
"""Lines of a search that are shown unless more are asked for; of the rest, files and how many."""

RUN_TIMEOUT_S = 30.0

_DESCRIPTIONS = {
    "list": ("Python files of the package, with their size in bytes.", {}),
    "read": ("The whole of one file.", {"path": "relative to the package"}),
    "search": (
        "Lines that match a regular expression.",
        {"pattern": "Python's syntax", "limit": f"lines shown; {SHOWN_LINES} unless given"},
    ),
    "run": ("Run Python code in a fresh process.", {"code": "a program"}),
}

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": {
                "type": "object",
                "properties": {
                    parameter: {"type": "string", "description": meaning}
                    for parameter, meaning in parameters.items()
                },
                "required": [name for name in parameters if name != "limit"],
            },
        },
    }
    for name, (description, parameters) in _DESCRIPTIONS.items()
]
"""The tools as a model would be told of them."""


class Tools:
    """What an agent may do. Every tool gives text, an error's text included.

    Args:
        root: The folder that the tools see; nothing outside it is read.
    """

    def __init__(self, root: Path) -> None:
        self.root: Path = root.resolve()
        self._tools: dict[str, Callable[..., str]] = {
            "list": self.list,
            "read": self.read,
            "search": self.search,
            "run": self.run,
        }

    def __call__(self, name: str, arguments: dict[str, str]) -> str:
        """Use a tool; what goes wrong is told in words, as a model would want it."""
        try:
            return self._tools[name](**arguments)
        except (OSError, ValueError, re.error, subprocess.SubprocessError) as error:
            return f"error: {error}"

    def list(self) -> str:
        """Python files below the root, one a line, with their size in bytes."""
        return "\n".join(f"{self._name(path)}  {path.stat().st_size}" for path in self._files())

    def read(self, path: str) -> str:
        """A file's text."""
        target = (self.root / path).resolve()
        if self.root not in target.parents:
            raise ValueError(f"{path} is outside the package")
        return target.read_text("utf-8")

    def search(self, pattern: str, limit: str = str(SHOWN_LINES)) -> str:
        """Matching lines as ``path:line: text``, then the files of those not shown."""
        matcher = re.compile(pattern, re.M)
        found: list[str] = []
        more: dict[str, int] = {}
        for path in self._files():
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                if matcher.search(line):
                    if len(found) < int(limit):
                        found.append(f"{self._name(path)}:{number}: {line.strip()}")
                    else:
                        more[self._name(path)] = more.get(self._name(path), 0) + 1
        found += [f"{name}: {count} more" for name, count in more.items()]
        return "\n".join(found) or f"nothing matches {pattern}"

    def run(self, code: str) -> str:
        """Exit status and output of a Python program."""
        done = subprocess.run(  # noqa: S603 (this interpreter, the demo's own code)
            [sys.executable, "-c", code],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        return f"exit {done.returncode}\n{(done.stdout or done.stderr).strip()}"

    def _files(self) -> tuple[Path, ...]:
        return tuple(sorted(self.root.rglob("*.py")))

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()
