"""What the store holds, against what the workers said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from memtrace import Session
from memtrace.stores import open_store

from .crew import Said


class Proof(NamedTuple):
    """What was found, each as a number of answers.

    Args:
        sessions: How many sessions there are.
        answers: Answers in the store.
        lost: Those that a worker was told were durable, and that are not there.
        interleaved: Those that are not where they belong: after their question, in order, once.
        stale: Those that are there although their worker was refused; and questions that two
            workers were told they had answered.
        shared: Workers that served a session, on average.
    """

    sessions: int
    answers: int
    lost: int
    interleaved: int
    stale: int
    shared: float

    @property
    def holds(self) -> bool:
        """Whether nothing was lost, interleaved or stale."""
        return not (self.lost or self.interleaved or self.stale)


def prove(url: str, said: Iterable[Said]) -> Proof:
    """Open every session that the store has, and compare it with what was said."""
    store = open_store(url)
    told: dict[str, dict[str, set[str]]] = {"answered": {}, "refused": {}, "known": {}}
    twice: Counter[tuple[str, int]] = Counter()
    for one in said:
        told[one.outcome].setdefault(one.session, set()).add(one.signed)
        twice[one.session, one.number] += one.outcome == "answered"
    answers = lost = interleaved = stale = shared = 0
    names = store.sessions()
    for name in names:
        found, astray = _answers(Session.open(name, store=store))
        answers += len(found)
        interleaved += astray
        lost += len(told["answered"].pop(name, set()) - set(found))
        stale += len(told["refused"].get(name, set()) & set(found))
        shared += len({signed.partition(".")[0] for signed in found})
    lost += sum(map(len, told["answered"].values()))  # of sessions that are not there at all
    stale += sum(times - 1 for times in twice.values() if times > 1)
    return Proof(len(names), answers, lost, interleaved, stale, shared / max(1, len(names)))


def _answers(session: Session) -> tuple[list[str], int]:
    """Whose each answer of a session is, in order; how many messages are out of place."""
    found: list[str] = []
    astray = 0
    for place, message in enumerate(session.history):
        words = str(message["content"]).split()
        if place % 2 == 0:
            astray += (message["role"], words[0]) != ("user", f"{place // 2 + 1}.")
        else:
            astray += (message["role"], words[-2]) != ("assistant", str(place // 2 + 1))
            found.append(words[-1])
    return found, astray + len(session.history) % 2
