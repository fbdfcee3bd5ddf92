"""What archives take, and what waking costs: `python -m benchmarks.archive`.

*Archive / raw*: bytes of all chunks of all sessions, heads included, over bytes of what they were
in the log: payloads and hashes. Of each folder of recorded sessions (``MEMTRACE_SESSIONS``; ten of
each, ``--quick``: three), with a checkpoint at each user's turn; and of all of them together. *On
disk*: the same of the database file, after ``VACUUM``, search index and run log empty.

*Waking / restoring*: ``Session.open`` of a session of 10,000 messages of 2,000 characters that
sleeps, over the same of one that does not, in the same process, in turn; medians. The garbage
collector is off. What is put away again between rounds is not timed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks._stores import message, size, timed
from benchmarks.checkpoint import texts
from memtrace import Session, checkpoint, create_memory_snapshot
from memtrace.replay import read_session
from memtrace.stores import open_store

RESULTS = Path(__file__).parent / "results" / "archive.json"
MESSAGES, ROUNDS = 10_000, 9
MOST_SIZE, MOST_WAKING = 0.35, 3.0


def recorded(folder: Path, most: int) -> dict[str, list[Path]]:
    """Recorded sessions by kind, so many of each, evenly chosen."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.glob("*/*.jsonl")):
        found[path.parent.name].append(path)
    return {kind: paths[:: max(1, len(paths) // most)][:most] for kind, paths in found.items()}


def keep(path: Path, store: Any) -> bool:
    """Keep a recorded session as an agent would; whether it is one."""
    try:
        played = read_session(path)
    except ValueError:
        return False
    session = Session(path.stem, store=store, token_budget=10**9)
    for said in played.messages:
        session.history.append(said.message)
        if said.role == "user":
            with checkpoint(session):
                pass
    create_memory_snapshot(session)
    return True


def sizes(kind: str, paths: list[Path], folder: Path) -> dict[str, Any]:
    """Bytes of some sessions in the log and in archives, and of the file that has them."""
    store: Any = open_store(folder / f"{kind}.db")
    kept = [path.stem for path in paths if keep(path, store)]
    store.close()
    before = vacuumed(store, folder, kind)
    raw = packed = 0
    for name in kept:
        raw += sum(len(row[2]) + len(row[3]) for row in store.archives.rows(name))
        packed += store.archives.archive(name).packed_bytes
    after = vacuumed(store, folder, kind)
    return {"sessions": len(kept), "raw": raw, "packed": packed, "disk": after / before}


def vacuumed(store: Any, folder: Path, kind: str) -> int:
    """Bytes of a store's file with nothing in it that is free."""
    with store._reading() as connection:
        connection.execute("DELETE FROM runs")
        connection.execute("VACUUM")
    store.close()
    return (folder / f"{kind}.db").stat().st_size


def waking(folder: Path, rounds: int) -> dict[str, float]:
    """Seconds of opening a session that sleeps, and one that does not."""
    paths = {"live": folder / "live.db", "asleep": folder / "asleep.db"}
    for path in paths.values():
        with Session.open("big", store=path, token_budget=10**9) as session:
            session.history.extend([message(text) for text in texts(MESSAGES)])
    times: dict[str, list[float]] = defaultdict(list)
    gc.collect()
    gc.disable()
    for number in range(rounds):
        for which in ("live", "asleep") if number % 2 else ("asleep", "live"):
            store: Any = open_store(paths[which])
            if which == "asleep":
                assert store.archives.archive("big") is not None
            times[which].append(timed(lambda: Session.open("big", store=store)))  # noqa: B023
            store.close()
    gc.enable()
    return {which: statistics.median(took) for which, took in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        sessions = os.environ.get("MEMTRACE_SESSIONS")
        total = [0, 0]
        for kind, paths in (
            recorded(Path(sessions), 3 if chosen.quick else 10).items() if sessions else ()
        ):
            found = sizes(kind, paths, folder)
            if found["sessions"]:
                total = [total[0] + found["raw"], total[1] + found["packed"]]
                results[kind] = {**found, "ratio": found["packed"] / found["raw"]}
                print(
                    f"{kind:14} {found['sessions']:3} sessions, {found['raw']:>12,} bytes: "
                    f"{results[kind]['ratio']:.3f}; on disk {found['disk']:.3f}"
                )
        if total[0]:
            results["archive_ratio"] = total[1] / total[0]
            print(f"archive / raw, all together  {results['archive_ratio']:.3f}  (≤ {MOST_SIZE})")
        took = waking(folder, 5 if chosen.quick else ROUNDS)
        results["waking"] = {**took, "ratio": took["asleep"] / took["live"]}
        print(
            f"waking / restoring {MESSAGES:,} messages  {results['waking']['ratio']:.2f}  "
            f"(≤ {MOST_WAKING}; {took['live'] * 1e3:.0f} ms restoring)"
        )
        print(f"{size(folder):,} bytes in all")
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
    well = (
        results.get("archive_ratio", 0) <= MOST_SIZE and results["waking"]["ratio"] <= MOST_WAKING
    )
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
