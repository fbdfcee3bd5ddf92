"""A process of one peer: `python -m benchmarks._peers.worker PEER MODE`, told what to do by lines.

Answers go to the descriptor that standard output was; what the peer prints goes to standard error.
"""

from __future__ import annotations

import contextvars
import gc
import json
import os
import sys
from typing import Any

from .backend import Ended, block_network


def serve(name: str, mode: str) -> None:
    """Set the peer up, and answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    block_network()
    from .sdks import SDKS

    ended: list[Ended] | None = [] if mode == "checks" else None
    try:
        peer = SDKS[name](mode, ended)
        answer = _timing(peer) if ended is None else _checks(peer, ended)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers)
        raise
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        try:
            said = answer(*json.loads(line))
        except Exception as error:  # a peer's failure is its figure
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), file=answers)
    os._exit(0)  # none of its own flushing at exit


def _timing(peer: Any) -> Any:
    from .shapes import Timing

    return Timing(peer).turn


def _checks(peer: Any, ended: list[Ended]) -> Any:
    from .checks import CHECKS

    def check(row: str) -> None:
        gc.collect()  # what earlier ones left ends now
        ended.clear()
        # What a peer leaves current stays in here.
        contextvars.copy_context().run(CHECKS[row], peer, ended)

    return check


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
