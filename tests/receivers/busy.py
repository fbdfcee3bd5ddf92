"""One full session among many idle ones, at work until standard input ends."""

import select
import sys

from memtrace import Session, managed_agent

IDLE = 40


@managed_agent
def crowded(session: Session) -> None:
    """What it holds may not go, so that no pass can help."""


@managed_agent
def idle(session: Session) -> None:
    """Next to nothing is held."""


def main() -> None:
    """Run each session's agent again and again."""
    full = Session("full", token_budget=1_000)
    full.active_contexts.add("word " * 380, key="rules", pinned=True)
    others = [Session(f"idle {n}", token_budget=100_000) for n in range(IDLE)]
    while not select.select([sys.stdin], [], [], 0.05)[0]:
        crowded(full)
        for session in others:
            idle(session)


if __name__ == "__main__":
    main()
