"""How many faults there are, and how what is read of a damaged store is judged.

A few faults on every change, all of them by `make torture`.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memtrace import Policy

TORTURE = os.environ.get("MEMTRACE_TORTURE") == "1"

KEPT = Policy().keep_snapshots

GROWTH_MB = 200
"""What a hostile store may make a process grow by, at most."""


def many(whole: int, few: int) -> int:
    """A count: whole under torture, else small."""
    return whole if TORTURE else few


@dataclass
class Story:
    """A store, and what is known of it.

    Args:
        folder: Where its files are.
        known: By session: the states that were acknowledged (the last is the latest), what each
            snapshot says and holds, the originals, and the run log.
        closed: Whether it was closed; if not, its latest part is in the WAL alone.
    """

    folder: Path
    known: dict[str, Any]
    closed: bool

    def copy(self, to: Path) -> Path:
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder, to)
        return to

    def files(self) -> list[Path]:
        return [path for path in sorted(self.folder.iterdir()) if not path.name.endswith("-shm")]


def read(
    nursery: Any, story: Story, copy: Path, *, cut: bool, fewer_runs: bool = False
) -> Counter[str]:
    """Read all of a copy in a process of its own, and hold it against what is known.

    Args:
        cut: Whether the WAL may have lost its end: then an older state is not wrong.
        fewer_runs: Whether rows of the run log may be gone, if verify finds it.
    """
    names = list(story.known)
    originals = {name: list(known["originals"]) for name, known in story.known.items()}
    said = nursery.run("read_all", store=str(copy / "m.db"), names=names, originals=originals)
    verified = said[0]["verified"]
    assert said[-1]["grown_mb"] < GROWTH_MB
    assert "untyped" not in str(said), next(str(part) for part in said if "untyped" in str(part))
    results = [judge(story.known[part["session"]], part, cut, fewer_runs) for part in said[1:-1]]
    listed = said[-1]["sessions"]
    if listed != sorted(names):
        told = isinstance(listed, dict) or (said[-1]["warned"] and set(listed) < set(names))
        assert told or cut, f"the sessions are said to be {listed}"
        results.append("listing")
    worst = max(results, key=["exact", "listing", "older", "partly", "refused"].index)
    if not cut:
        assert verified is not True or worst == "exact", f"{results}, and verify finds nothing"
    if worst == "exact" and verified is not True:
        worst = "found by verify alone"
    return Counter([worst])


def judge(known: dict[str, Any], part: dict[str, Any], cut: bool, fewer_runs: bool) -> str:
    """What became of one session."""
    name = part["session"]
    if part["opened"] is not None:
        return "refused"
    on = part["goes_on"]
    # Into pages whose damage nothing has shown yet, SQLite may write what cannot be read again.
    if on not in ("yes", "lost, and said to be"):
        assert on in ({"error": "StoreError"}, {"error": "StoreDamagedError"}), f"{name}: {on}"
    states, worst = known["states"], "exact"
    if part["state"] != states[-1]:
        empty = cut and part["snapshots"] == {}
        assert part["state"] in states or empty, f"{name}: a state that never was"
        assert part["warned"] or cut, f"an older state, and nobody was told: {name}"
        worst = "older"
    for item, original in part["originals"].items():
        if original != known["originals"][item]:
            assert "error" in original, f"original {item} is another: {name}"
            if worst == "exact":
                assert original["error"] != "KeyError", f"original {item} is gone: {name}"
                worst = "partly"
    for snapshot, (facts, state) in part["snapshots"].items():
        right_facts, right_state = known["snapshots"][snapshot]
        assert facts == right_facts, f"snapshot {snapshot} says of itself what is wrong: {name}"
        if state != right_state:
            assert "error" in state, f"snapshot {snapshot} is another: {name}"
            worst = max(worst, "partly", key=["exact", "partly", "older"].index)
    if set(part["snapshots"]) != set(list(known["snapshots"])[-KEPT:]):
        worst = max(worst, "partly", key=["exact", "partly", "older"].index)
    runs = part["runs"]
    if runs != known["runs"]:
        older = cut and runs == known["runs"][: len(runs)]
        fewer = fewer_runs and set(runs) < set(known["runs"])
        assert isinstance(runs, dict) or older or fewer, f"the run log is another: {name}"
        worst = max(worst, "partly", key=["exact", "partly", "older"].index)
    return worst
