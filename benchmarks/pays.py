"""Whether passes pay: `python -m benchmarks.pays [--json PATH]`.

Each recorded coding session (MEMTRACE_SESSIONS, or ``--folder``) is played against a budget of
half its own size, with ``session.messages()`` before each assistant's message: a model call. What
a call's prompt costs, in tokens at full price: what it begins with as the call before did, at the
share of a cached read; all after that, new or rewritten, at full price. All sessions together:

- *On / off*: with the judgement / with thresholds alone. *On / never*: with it / where nothing is
  ever made shorter, each call all that came before it. *By choice*: of the sessions in which a pass
  was made though memory was under its budget, the dearest / never compressing.
- *In batches / a little each turn*: passes with the policy's distance between where they begin and
  where they stop / passes that free a hundredth of the budget whenever memory is above 80%, both
  without the judgement.
- *Rewrites*: model calls whose prompt did not begin with all of the one before.

The share of the price is the default one; the last rows have it at other providers' shares.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._rounds import Row, report
from benchmarks.replay import size_of
from memtrace import Item, Policy, Session, managed_agent
from memtrace.decide.worth import Reread, reread
from memtrace.prices import Price
from memtrace.replay import Recorded, RecordedMessage, open_session, read_session

RESULTS = Path(__file__).parent / "results" / "pays.json"
NET, PAYS = 0.95, 1.0
NEVER = 10**9
SETTINGS = {
    "on": Policy(),
    "off": Policy(judge=False),
    "little": Policy(
        judge=False,
        compress_target=0.79,
        cleanup_above=0.99,
        cleanup_target=0.79,
        least_gain=0.001,
    ),
    "never": Policy(token_budget=NEVER),
}
OTHERS = {"Anthropic's": Price(0.10, 1.25), "half": Price(0.50)}


@dataclass
class Played:
    """What one replay's model calls read, and how often room was made.

    Args:
        calls: Of each model call, how its prompt was read.
        chosen: Passes that were made though memory was within its budget.
        passes: All of them.
    """

    calls: list[Reread] = field(default_factory=list)
    chosen: int = 0
    passes: int = 0

    def spent(self, price: Price) -> float:
        """Of all calls, in tokens at full price."""
        return sum(call.spent(price) for call in self.calls)

    @property
    def rewrites(self) -> int:
        """How often the provider's cache was broken."""
        return sum(call.broken for call in self.calls)


def play(recorded: Recorded, budget: int, policy: Policy) -> Played:
    """Play a recorded session to its end."""
    played = Played()
    session = open_session(recorded, token_budget=budget, policy=policy)
    view: list[Item] = []

    @managed_agent(name="pays")
    def turn(session: Session, messages: Sequence[RecordedMessage]) -> None:
        nonlocal view
        for message in messages:
            if message.role == "assistant":
                session.messages()
                view, before = list(session.history.items), view
                played.calls.append(reread(before, view))
            session.history.append(message.message)

    def seen(event: object) -> None:
        made = event.report  # type: ignore[attr-defined]
        if made.items:
            played.passes += 1
            played.chosen += made.tokens_before <= budget

    for stage in ("cleanup", "compress"):
        session.on(stage)(seen)
    for messages in recorded.runs():
        turn(session, messages)
    session.close()
    return played


def judged(files: Sequence[Path], price: Price, told: bool) -> dict[str, list[Played]]:
    """All sessions under each setting."""
    played: dict[str, list[Played]] = {name: [] for name in SETTINGS}
    for path in files:
        recorded = read_session(path)
        half = max(1, size_of(recorded) // 2)
        for name, policy in SETTINGS.items():
            budget = NEVER if name == "never" else half
            played[name].append(play(recorded, budget, policy.but(prices=price)))
        if told:
            spent = {name: those[-1].spent(price) for name, those in played.items()}
            on = played["on"][-1]
            print(
                f"{path.stem:<40} on / off {spent['on'] / spent['off']:.2f}  on / never "
                f"{spent['on'] / spent['never']:.2f}  passes {on.passes}, by choice {on.chosen}"
            )
    return played


def rows_of(played: dict[str, list[Played]], price: Price) -> list[Row]:
    """The figures, at the default price."""
    spent = {name: sum(p.spent(price) for p in those) for name, those in played.items()}
    pairs = list(zip(played["on"], played["never"], strict=True))
    choices = [on.spent(price) / never.spent(price) for on, never in pairs if on.chosen]
    rewrites = {name: sum(p.rewrites for p in those) for name, those in played.items()}
    return [
        Row("net tokens, judgement on / off", spent["on"] / spent["off"], NET),
        Row("net tokens, judgement on / never compressing", spent["on"] / spent["never"], NET),
        Row("a pass by choice: on / never, the dearest session", max(choices, default=0.0), PAYS),
        Row("sessions with a pass by choice", len(choices), unit=""),
        Row("in batches / a little each turn", spent["off"] / spent["little"], PAYS),
        Row("judged / a little each turn", spent["on"] / spent["little"], PAYS),
        *(
            Row(f"rewrites, {what}", rewrites[name], unit="")
            for name, what in (("on", "judged"), ("off", "off"), ("little", "a little each turn"))
        ),
        Row("model calls", sum(len(p.calls) for p in played["on"]), unit=""),
        Row("sessions", len(pairs), unit=""),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print all figures; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, help="with <session>.jsonl files")
    parser.add_argument("--each", action="store_true", help="a line for each session")
    options = parser.parse_args(arguments)
    given = os.environ.get("MEMTRACE_SESSIONS")
    folder = options.folder or (Path(given) / "coding_agent" if given else None)
    files = sorted(folder.glob("*.jsonl")) if folder else []
    if not files:
        parser.error("name a folder of recorded sessions, or set MEMTRACE_SESSIONS")
    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # alerts are what is expected here
    rows = rows_of(judged(files, Price(), options.each), Price())
    for name, price in OTHERS.items():
        played = judged(files, price, False)
        spent = {kind: sum(p.spent(price) for p in those) for kind, those in played.items()}
        rows += [
            Row(f"cached reads at {name} share: on / off", spent["on"] / spent["off"]),
            Row(f"cached reads at {name} share: on / never", spent["on"] / spent["never"]),
        ]
    title = "Whether passes pay, on recorded coding sessions at half their size"
    return 0 if report(title, rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
