"""The ``memtrace`` command as a process of its own: its seconds, and the most memory it had."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "memtrace.cli")


class Spent(NamedTuple):
    """What a process took.

    Args:
        wall_s: From its start to its end.
        cpu_s: Of all cores, its children's included.
        peak_mb: Of it alone.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float


def spent(command: Sequence[str]) -> Spent:
    """Run a command to its end; one that fails ends the benchmark."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:6])} … ended with {process.returncode}")
    peak = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
    return Spent(wall, usage.ru_utime + usage.ru_stime, peak)
