"""A worker: takes a session, answers its next question, and takes another.

    python -m examples.scaling.worker postgresql://... NAME [EVERY]

It says what came of each turn in a line: ``answered``, ``refused`` or ``known``, then the session,
the question's number, and the words by which the answer is known. Every so many turns (EVERY) it
takes a session that another worker is at.
"""

from __future__ import annotations

import logging
import os
import sys
from itertools import count

from memtrace import Session, StaleSessionError, managed_agent

from .turns import Turn, Turns

ASK = "How far did we come with the report, and which of its figures are still missing?"
SAY = "Two chapters are written; the table of costs waits for the figures of the third quarter."


@managed_agent
def answer(session: Session, number: int, signed: str) -> None:
    """What stands here for an agent: a question, and an answer that says whose it is."""
    session.history.append({"role": "user", "content": f"{number}. {ASK}"})
    session.history.append({"role": "assistant", "content": f"{SAY} {number} {signed}"})


def serve(url: str, turn: Turn, signed: str) -> str:
    """One turn; what came of it. Once it returns, the answer is durable."""
    session = Session.open(turn.session, store=url, token_budget=32_000)
    if len(session.history) >= 2 * turn.number:
        return "known"  # by one who died, or was slow, before it could say so
    answer(session, turn.number, signed)
    try:
        session.close()
    except StaleSessionError:
        return "refused"
    return "answered"


def work(url: str, name: str, every: int = 0) -> None:
    """Turns, as long as there are any that nobody has."""
    with Turns(url, name) as turns:
        for number in count(1):
            snatched = turns.snatch() if every and number % every == 0 else None
            turn = snatched or turns.take()
            if turn is None:
                return
            signed = f"{name}.{number}"
            outcome = serve(url, turn, signed)
            # In one piece, and at once: what was said is never more than what is durable.
            os.write(1, f"{outcome}|{turn.session}|{turn.number}|{signed}\n".encode())
            if outcome != "refused":
                turns.answered(turn)
            elif snatched is None:
                turns.give_back()


if __name__ == "__main__":
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # who is refused says so itself
    work(sys.argv[1], sys.argv[2], int(sys.argv[3]) if sys.argv[3:] else 0)
