"""What compression keeps of recorded agents' work: `python -m benchmarks.traces [--json PATH]`.

Needs recorded sessions: MEMTRACE_SESSIONS (kinds coding_agent and coding_chat) or ``--folder``.
A step is an assistant's message. Sessions are replayed message by message.

*At every step*: before each step the session is compressed by ``compress_memory(gently=True)``:
every step that leaves each message in its place, and no target to stop at. Of every assistant step
(each third one past 40 in a session):

- *saved*: 1 − Σ tokens of the view sent / Σ tokens of the raw prefix, call arguments included,
  base64 of 2,000 characters and more left out. Over all steps (micro), and the median of sessions
  of 20,000 tokens and more.
- *RS*: of the identifiers that a step uses and that occurred earlier only in tool outputs, the
  share still literally visible before it, as words. An identifier: punctuation stripped first; at
  least four characters with a digit, ``_``, ``/``, ``.``, ``-`` or an inner capital.
- *RS-all*: the same of those that occurred anywhere earlier.
- *window*, *random*: RS and RS-all of a sliding window, and of messages taken at random, of as
  many tokens as the view that was sent.

*At a budget*: the loop alone, with cleanup at 85% down to 70% of 32,000 and 64,000 tokens: RS and
RS-all over all steps, and over those of sessions that exceed the budget.

- *calls over budget*: steps before which memory was above its budget. *Unreachable*: those of
  them where the last pass said so, and pins, system prompts, first task and latest user turn are
  above the budget by themselves, with the last messages cut to a line.
- *originals lost*: messages that are replaced, and not given back byte for byte. *Pairs broken*:
  calls shown without the result they had, or results without their call. *Pins changed*: pinned
  contexts that are not what they were. All three at the end of every replay, pairs at every step.
- *speed*: the text of a session a second through one compression of it all / through tiktoken
  counting it; both timed in turn in one thread's time, all sessions together. *With counting*:
  what came in is counted too, as it is at entry.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks._agents import tiktoken_counter, tiktoken_function
from benchmarks._played import Found, Player
from benchmarks._rounds import Row, report
from benchmarks._traces import size_of, texts_of
from memtrace import Policy, Session, compress_memory, create_memory_snapshot
from memtrace.replay import Recorded, open_session, read_session

RESULTS = Path(__file__).parent / "results" / "traces.json"
KINDS = ("coding_agent", "coding_chat")
BUDGETS = (32_000, 64_000)
LARGE = 20_000
AT_BUDGET = Policy(compress_above=0.85)
"""Cleanup alone: at 85%, down to 70%."""

EVERY_STEP = 1e-9
"""A target that is never reached."""


# --- figures ------------------------------------------------------------------------------------


def at_every_step(recorded: Recorded) -> Found:
    """Compressed gently before every step."""
    session = open_session(recorded, token_budget=10**9)
    return Player(recorded, session, lambda s: compress_memory(s, EVERY_STEP, gently=True)).play()


def at_budget(recorded: Recorded, budget: int) -> Found:
    """The loop alone, at a budget."""
    session = Session(recorded.session_id, token_budget=budget, policy=AT_BUDGET)
    for kind in ("system", "tools"):
        if content := recorded.header.get(kind):
            session.active_contexts.add(content, key=kind, kind=kind, pinned=True)
    return Player(recorded, session, Session.messages).play()


def total(found: Sequence[Found]) -> Found:
    """All sessions together."""
    together = Found()
    for one in found:
        together.add(one)
    return together


def step_rows(label: str, found: dict[str, Found], bars: bool) -> list[Row]:
    """Figures of compression at every step."""
    all_of_them, size = total(list(found.values())), len(found)
    saved = [one.saved for one in found.values() if one.counts["tokens"] >= LARGE]
    rows = [
        Row(f"{label} ({size}): saved, micro", all_of_them.saved, unit="", least=_if(bars, 0.50)),
        Row(
            f"{label}: saved, median of large sessions", statistics.median(saved or [0.0]), unit=""
        ),
    ]
    for name, shown in (
        ("", all_of_them.shown),
        ("window: ", all_of_them.window),
        ("random: ", all_of_them.random),
    ):
        least = _if(bars and not name, 0.98)
        rows.append(Row(f"{label}: {name}RS", shown.share("outputs"), unit="", least=least))
        rows.append(Row(f"{label}: {name}RS-all", shown.share("any"), unit="", least=least))
    return rows


def budget_rows(label: str, budget: int, found: dict[str, Found], bars: bool) -> list[Row]:
    """Figures of the loop at a budget."""
    over = total([one for one in found.values() if one.counts["tokens"] > budget])
    every = total(list(found.values()))
    least = _if(bars, 0.90 if budget == BUDGETS[0] else 0.97)
    head = f"{label}, budget {budget}"
    return [
        Row(f"{head}: RS", every.shown.share("outputs"), unit="", least=least),
        Row(f"{head}: RS-all", every.shown.share("any"), unit=""),
        Row(f"{head}: RS, sessions that exceed it", over.shown.share("outputs"), unit=""),
        Row(f"{head}: RS-all, sessions that exceed it", over.shown.share("any"), unit=""),
        Row(f"{head}: window: RS, sessions that exceed it", over.window.share("outputs"), unit=""),
        Row(f"{head}: random: RS, sessions that exceed it", over.random.share("outputs"), unit=""),
    ]


def never_rows(found: Sequence[Found]) -> list[Row]:
    """What must not happen in any replay."""
    counts = total(found).counts
    names = ("over budget", "originals lost", "pairs broken", "pins changed")
    rows = [Row(name, counts[name], 0, "") for name in names]
    told = ("over budget, unreachable", "messages replaced")
    return rows + [Row(name, counts[name], unit="") for name in told]


def _if(bars: bool, value: float) -> float | None:
    return value if bars else None


# --- speed --------------------------------------------------------------------------------------


def speed_rows(recordings: Sequence[Recorded], rounds: int) -> list[Row]:
    """One compression of each whole session against tiktoken counting its text."""
    count = tiktoken_function()
    counter = tiktoken_counter(count)
    held = []
    for recorded in recordings:
        session = open_session(recorded, token_budget=10**9)
        session.history.extend(message.message for message in recorded.messages)
        create_memory_snapshot(session)
        held.append((session.latest_snapshot, recorded))
    spent: Counter[str] = Counter()
    for _ in range(rounds):
        for snapshot, recorded in held:
            messages = [message.message for message in recorded.messages]
            texts = [text for message in messages for text in texts_of(message)]
            session = Session(token_budget=10**9, counter=counter)
            session.restore(snapshot)  # type: ignore[arg-type]
            spent["tiktoken"] += timed(lambda t=texts: [count(x) for x in t])  # type: ignore[misc]
            spent["pass"] += timed(lambda s=session: compress_memory(s, EVERY_STEP, gently=True))  # type: ignore[misc]
            fresh = Session(token_budget=10**9, counter=counter)
            spent["entry"] += timed(lambda s=fresh, m=messages: s.history.extend(m))  # type: ignore[misc]
    whole = spent["pass"] + spent["entry"]
    return [
        Row("speed: one compression / tiktoken", spent["tiktoken"] / spent["pass"], least=0.3),
        Row("speed, with counting at entry / tiktoken", spent["tiktoken"] / whole),
    ]


def timed(call: Callable[[], Any]) -> float:
    """Seconds of this thread's own time that a call takes."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


# --- all of it ----------------------------------------------------------------------------------


def sessions_in(folder: Path, kind: str) -> list[Recorded]:
    """The recorded sessions of one kind."""
    return [read_session(path) for path in sorted((folder / kind).glob("*.jsonl"))]


def rows_of(kind: str, recordings: Sequence[Recorded], told: bool) -> tuple[list[Row], list[Found]]:
    """All figures of one kind but speed, and what they were made of."""
    bars, label = kind == "coding_agent", kind.replace("_", " ")
    every: dict[str, Found] = {}
    budgets: dict[int, dict[str, Found]] = {budget: {} for budget in BUDGETS}
    for recorded in recordings:
        name = recorded.path.stem
        tokens = sum(size_of(message.message) for message in recorded.messages)
        every[name] = at_every_step(recorded)
        for budget in BUDGETS:
            budgets[budget][name] = at_budget(recorded, budget)
        for found in (every[name], *(budgets[budget][name] for budget in BUDGETS)):
            found.counts["tokens"] = tokens
        if told:
            _tell(name, tokens, [every[name], *(budgets[budget][name] for budget in BUDGETS)])
    rows = step_rows(label, every, bars)
    for half in (0, 1):
        part = dict(list(every.items())[half::2])
        rows += step_rows(f"{label}, {'odd' if half else 'even'} ones", part, False)[:4]
    for budget in BUDGETS:
        rows += budget_rows(label, budget, budgets[budget], bars)
    return rows, [*every.values(), *(f for held in budgets.values() for f in held.values())]


def _tell(name: str, tokens: int, found: Sequence[Found]) -> None:
    shares = "  ".join(f"{f.shown.share('outputs'):.3f} {f.shown.share('any'):.3f}" for f in found)
    used = found[0].shown.used
    print(f"{name:<38} {tokens:>7} {found[0].saved:.3f}  {shares}  {used}")


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, default=os.environ.get("MEMTRACE_SESSIONS"))
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--rounds", type=int, default=3, help="of the timing; 0: none")
    parser.add_argument("--each", action="store_true", help="a line for each session")
    options = parser.parse_args(arguments)
    if options.folder is None:
        parser.error("name recorded sessions with --folder or MEMTRACE_SESSIONS")
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # alerts are what is expected here
    rows: list[Row] = []
    found: list[Found] = []
    recordings: list[Recorded] = []
    for kind in options.kinds:
        held = sessions_in(Path(options.folder), kind)
        more, seen = rows_of(kind, held, options.each)
        rows, found, recordings = rows + more, found + seen, recordings + held
    rows += never_rows(found)
    if options.rounds:
        rows += speed_rows(recordings, options.rounds)
    for reason in dict.fromkeys(total(found).reasons):
        print(f"unreachable: {reason}")
    return 0 if report("Compression of recorded agents' work", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
