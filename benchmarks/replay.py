"""What the loop does to recorded sessions: `python -m benchmarks.replay [--json PATH]`.

Each session (under MEMTRACE_SESSIONS, else generated) is replayed turn by turn through a managed
agent against budgets of 25, 50 and 100% of its own size in tokens, with ``session.messages()``
before each assistant's message: a model call. Counts of what must not happen, over all replays:

- *Over budget*: after a run or a ``messages()``, memory above the budget. Excused where the last
  pass reported ``unreachable`` and what cannot be made smaller (pins, system prompts, first task,
  latest user turn, and the last outputs capped) is above the budget by itself.
- *Removals under target*: passes that removed something where neither the whole nor working memory
  was above its target.
- *Pairs broken*: calls shown without the result they had, or results without their call.
- *Pins changed*: pinned contexts that are not what they were.
- *Originals lost*: messages that are replaced, and not given back byte for byte.
- *Compressed twice*: runs in which a message was replaced by a shorter form, and that by another
  again. *Later*: runs in which what an earlier run had replaced was. Of all second times: a digest
  taken into another *digest*, or a *stub* or cut taken into one or made shorter.
- *Small gains*: passes that gained less than 2% of the budget, as a share of passes. A pass is all
  cleaning up and compressing before one model call, before one run, or after one; what
  changed nothing is none.
- *Common prefix*: tokens of the messages that two consecutive views begin with alike / tokens of
  the earlier view; the mean of a session, and of coding agents' sessions at 50% the median.

And what ``memtrace replay`` of all of them, each at its own window, costs: CPU seconds of reading
and playing them against tiktoken counting their texts once, medians of interleaved rounds in one
process; and the most memory that the command has.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._commands import COMMAND, spent
from benchmarks._rounds import Row, ratio, report, rounds
from memtrace import Event, Item, MemoryProfile, Session, managed_agent
from memtrace.actions.draft import DIGEST
from memtrace.counters import pieces
from memtrace.messages import facts, texts
from memtrace.replay import Recorded, RecordedMessage, open_session, play, read_session
from memtrace.vocabulary import offline_function, vocabulary_path
from tests.sessions import session_files

RESULTS = Path(__file__).parent / "results" / "replay.json"
SHARES = (0.25, 0.5, 1.0)
SMALL_GAIN = 0.02
CODING = "coding_agent"


@dataclass
class Findings:
    """What one replay showed.

    Args:
        counts: How often each thing that must not happen did, and what there was of the rest.
        prefixes: Common-prefix shares between consecutive model calls.
    """

    counts: Counter[str] = field(default_factory=Counter)
    prefixes: list[float] = field(default_factory=list)


class Watcher:
    """Plays one recorded session against one budget, and looks at memory at every step."""

    def __init__(self, recorded: Recorded, budget: int) -> None:
        self.session = session = open_session(recorded, token_budget=budget)
        self.found = Findings()
        self._recorded = recorded
        self._profile = session.profile()  # before what may act next
        self._reports: list[Any] = []
        self._view: dict[str, int] = {}  # tokens by item id of the last model call's view
        # By place, once it was replaced: the id and kind of what stands there, and in which run.
        self._forms: dict[int, tuple[str | None, str, int]] = {}
        self._again: set[str] = set()  # in which ways something was replaced again in this run
        self._pairs: list[tuple[int, int]] = []
        self._asking: dict[str, list[int]] = {}
        self._pins = [item for item in session.active_contexts if item.pinned]
        self._sent: list[tuple[str, str]] = []  # id and JSON of every message, as received
        for stage in ("cleanup", "compress"):
            session.on(stage)(self._reported)

    def play(self) -> Findings:
        """Play it to its end."""
        for messages in self._recorded.runs():
            self._again.clear()
            self._acting(lambda messages=messages: run(self.session, self, messages))  # type: ignore[misc]
            self._check_budget()
            self.found.counts["runs"] += 1
            self.found.counts.update(self._again)
        self._check_end()
        self.session.close()
        return self.found

    def turn(self, messages: Sequence[RecordedMessage]) -> None:
        """The body of a run."""
        self._settle(self._profile)
        for message in messages:
            if message.role == "assistant":
                self._acting(self.session.messages)
                self._check_budget()
                self._compare_views()
            self._append(message.message)
        self._profile = self.session.profile()

    # --- passes ---------------------------------------------------------------------------------

    def _reported(self, event: Event) -> None:
        self._reports.append(event.report)

    def _acting(self, call: Callable[[], Any]) -> None:
        self._profile = self.session.profile()
        call()
        self._settle(self._profile)

    def _settle(self, before: MemoryProfile) -> None:
        """Look at the pass that was just done, if there was one."""
        reports, self._reports = self._reports, []
        # What was declined, or given up before it changed anything, is no pass.
        reports = [report for report in reports if report.items]
        if not reports:
            return
        session, counts = self.session, self.found.counts
        policy = session.policy
        counts["passes"] += 1
        gained = reports[0].tokens_before - reports[-1].tokens_after
        counts["small gains"] += gained < SMALL_GAIN * session.token_budget
        called_for = (
            before.total_tokens > policy.cleanup_target * session.token_budget
            or before.working_memory_utilization > policy.compress_target
        )
        counts["removals under target"] += gained > 0 and not called_for
        counts["pairs broken"] += self._broken()
        self._look_for_second_time()

    def _look_for_second_time(self) -> None:
        counts = self.found.counts
        for place, item in enumerate(self.session.history._shown):
            form, kind = (None, DIGEST) if item is None else (item.id, item.kind)
            if form == self._sent[place][0]:
                continue
            before = self._forms.get(place)
            if before is not None and before[0] == form:
                continue
            self._forms[place] = form, kind, counts["runs"]
            if before is not None:
                again = before[2] == counts["runs"]
                self._again.add("compressed twice" if again else "compressed again later")
                counts["digests again" if before[1] == DIGEST else "stubs again"] += 1

    # --- checks -----------------------------------------------------------------------------------

    def _check_budget(self) -> None:
        session = self.session
        total = session.profile().total_tokens
        if total <= session.token_budget:
            return
        passes = [r for r in session.reports if r.action in ("cleanup", "compress")]
        said = bool(passes) and "unreachable" in passes[-1].reason
        excused = said and self._irreducible() > session.token_budget
        self.found.counts["over budget, unreachable" if excused else "over budget"] += 1

    def _irreducible(self) -> int:
        session = self.session
        limit = max(1, int(session.token_budget * session.policy.cap_share))
        items: list[Item] = list(session.history.items)
        users = [item for item in items if item.kind == "user" and not item.derived_from]
        outputs = [item for item in items if item.kind == "tool"]
        outputs = outputs[-session.policy.keep_tool_outputs :]
        kept = {item.id: item.tokens for item in items if item.kind == "system"}
        kept |= {item.id: item.tokens for item in (*users[:1], *users[-1:])}
        kept |= {item.id: min(item.tokens, limit) for item in outputs}
        return session.profile().pinned_tokens + sum(kept.values())

    def _broken(self) -> int:
        """Pairs of which one half is shown without the other."""
        shown = self.session.history._shown
        told = [None if item is None else facts(item.content) for item in shown]

        def has(place: int, kind: str) -> bool:
            fact = told[place]
            return fact is not None and bool(getattr(fact, kind))

        return sum(has(call, "calls") != has(result, "results") for call, result in self._pairs)

    def _compare_views(self) -> None:
        view = {item.id: item.tokens for item in self.session.history.items}
        common = 0
        for (ours, tokens), theirs in zip(self._view.items(), view, strict=False):
            if ours != theirs:
                break
            common += tokens
        whole = sum(self._view.values())
        if whole:
            self.found.prefixes.append(common / whole)
        self._view = view

    def _check_end(self) -> None:
        session, counts = self.session, self.found.counts
        held = {item.id: item for item in session.active_contexts}
        counts["pins changed"] += sum(held.get(item.id) is not item for item in self._pins)
        shown = {item.id for item in session.history.items}
        counts["originals lost"] += sum(
            _as_json(session.original(identity)) != text
            for identity, text in self._sent
            if identity not in shown
        )
        counts["messages replaced"] += sum(identity not in shown for identity, _ in self._sent)

    def _append(self, message: dict[str, Any]) -> None:
        place, fact, text = len(self._sent), facts(message), _as_json(message)
        history = self.session.history
        history.append(message)
        item = history._shown[-1]
        assert item is not None
        self._sent.append((item.id, text))
        for identity in fact.results:
            waiting = self._asking.get(identity)
            if waiting:
                self._pairs.append((waiting.pop(), place))
        for call in fact.calls:
            self._asking.setdefault(call.id, []).append(place)


@managed_agent(name="replay")
def run(session: Session, watcher: Watcher, messages: Sequence[RecordedMessage]) -> None:
    """One turn of the recorded agent."""
    watcher.turn(messages)


def _as_json(message: Any) -> str:
    return json.dumps(message, sort_keys=True, ensure_ascii=True)


def size_of(recorded: Recorded) -> int:
    """Tokens of a whole recorded session."""
    session = open_session(recorded, token_budget=10**9)
    session.history.extend(message.message for message in recorded.messages)
    return session.profile().total_tokens


# --- cost ---------------------------------------------------------------------------------------


def cost_rows(files: Sequence[Path]) -> list[Row]:
    """What replaying every file once takes."""
    count_text = offline_function("o200k_base", vocabulary_path("o200k_base"))  # tiktoken's own
    said = [
        text
        for path in files
        for message in read_session(path).messages
        for text in texts(message.message)
        if isinstance(text, str)
    ]

    def count() -> None:
        for text in said:
            for piece in pieces(text):
                count_text(piece.encode("utf-8", "replace").decode())

    def replay() -> None:
        for path in files:
            play(read_session(path))

    medians = rounds({"replay": replay, "count": count}, 5, clock=time.thread_time)
    peak = spent((*COMMAND, "replay", *map(str, files))).peak_mb
    return [
        Row("one replay of all / tiktoken counting", ratio(medians, "replay", "count"), 3.0),
        Row("the most memory of that command", peak, 300, "MB"),
    ]


# --- rows ---------------------------------------------------------------------------------------


def rows_of(counts: Counter[str], coding: list[float], every: list[float]) -> list[Row]:
    """All figures."""

    def never(name: str) -> Row:
        return Row(name, counts[name], 0, "")

    passes = max(1, counts["passes"])
    label = "common prefix / earlier view"
    return [
        never("over budget"),
        never("removals under target"),
        never("pairs broken"),
        never("pins changed"),
        never("originals lost"),
        Row("runs in which a content is compressed twice", counts["compressed twice"], 0, ""),
        Row("small gains, share of passes", counts["small gains"] / passes, 0.05),
        Row(f"{label}, coding agents at 50%", statistics.median(coding or [0.0]), least=0.90),
        Row(f"{label}, all sessions and budgets", statistics.median(every)),
        Row("over budget, unreachable", counts["over budget, unreachable"], unit=""),
        Row(
            "runs in which an earlier run's is compressed again",
            counts["compressed again later"],
            unit="",
        ),
        Row("digests compressed again", counts["digests again"], unit=""),
        Row("stubs compressed again", counts["stubs again"], unit=""),
        Row("messages replaced", counts["messages replaced"], unit=""),
        Row("passes", counts["passes"], unit=""),
        Row("runs", counts["runs"], unit=""),
        Row("replays", len(every), unit=""),
    ]


def replayed(files: Sequence[Path], told: bool) -> list[Row]:
    """Replay every file at every budget."""
    counts: Counter[str] = Counter()
    coding: list[float] = []
    every: list[float] = []
    for path in files:
        size = size_of(read_session(path))
        for share in SHARES:
            found = Watcher(read_session(path), max(1, int(size * share))).play()
            counts += found.counts
            mean = statistics.fmean(found.prefixes) if found.prefixes else 1.0
            every.append(mean)
            if path.parent.name == CODING and share == 0.5:
                coding.append(mean)
            if told:
                bad = {k: v for k, v in found.counts.items() if v and k not in ("runs",)}
                print(f"{path.stem:<40} {size:>7} {share:>5.0%}  prefix {mean:.3f}  {bad}")
    return rows_of(counts, coding, every)


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--each", action="store_true", help="a line for each replay")
    parser.add_argument("--cost", action="store_true", help="nothing but what it costs")
    options = parser.parse_args(arguments)
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # alerts are what is expected here
    with tempfile.TemporaryDirectory() as folder:
        files = session_files(Path(folder))
        rows = cost_rows(files)
        if not options.cost:
            rows += replayed(files, options.each)
    kind = "recorded" if os.environ.get("MEMTRACE_SESSIONS") else "generated"
    title = f"The loop on {kind} sessions at 25, 50 and 100% of their size"
    return 0 if report(title, rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
