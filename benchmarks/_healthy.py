"""The recorded sessions that are healthy, by id, and the criterion that chose them.

The list was written before any detector was, by facts of the recordings alone: it is what the
detectors are held against, so nothing of theirs stands in it. A session is healthy where

- it was recorded with a window, and holds at least six messages, three of them replies;
- its messages, its system prompt and its tools together count at most 40% of that window;
- no prompt that its provider billed was above 60% of it;
- no single message counts more than a tenth of it;
- its recorder noted no compaction.
"""

from __future__ import annotations

from memtrace import measure_tokens
from memtrace.replay import Recorded

HEALTHY = (
    *(f"claudecode-entire-{name}" for name in ("13-db96e5c261-0", "29-47d03374d0-0")),
    *(f"claudecode-entire-{name}" for name in ("40-80b6c2257f-0", "62-f30e5c547e-1")),
    *(f"claudecode-entire-{name}" for name in ("7e-c034df6095-2", "e0-32154c0b18-0")),
    "claudecode-episodic-tiny",
    "openhands-ponylang__ponyc-4593",
    "openhands-ponylang__ponyc-4595",
    *("sweagent-ctf-katy", "sweagent-ctf-rock", "sweagent-marshmallow-fc"),
    *("aider-12", "aider-543", "aider-621"),
    *(f"tau-airline-t{task}-r0" for task in (0, 2, 4, 10, 14, 24, 26, 28, 30, 32, 34)),
    *(f"toolbench-{name}" for name in ("G1_answer-11", "G1_answer-59", "G2_answer-102")),
    *(f"xpersona-{lang}-{n}" for lang in ("fr", "id", "it", "ja", "ko", "zh") for n in (0, 7)),
)
"""Names of the files, without their ending."""


def meets(recorded: Recorded) -> bool:
    """Whether a recorded session meets the criterion."""
    window = recorded.token_budget
    replies = sum(message.role == "assistant" for message in recorded.messages)
    if not window or len(recorded.messages) < 6 or replies < 3:
        return False
    sizes = [measure_tokens(message.message) for message in recorded.messages]
    header = (recorded.header.get(name) for name in ("system", "tools"))
    begun_with = sum(measure_tokens(content) for content in header if content)
    billed = max((message.billed_tokens or 0 for message in recorded.messages), default=0)
    compacted = any("compact" in note for m in recorded.messages for note in m.notes)
    return (
        sum(sizes) + begun_with <= 0.4 * window
        and billed <= 0.6 * window
        and max(sizes) <= 0.1 * window
        and not compacted
    )
