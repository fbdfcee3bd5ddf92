"""A report: one HTML file that shows what memory did and what it holds, and opens offline.

Three agents plan a day in the harbour of Bergen. Name a file to keep the report in:
`python examples/report.py report.html`; `memtrace report` makes the same of a recorded or a stored
session.
"""

import sys
import tempfile
from pathlib import Path

from memtrace import Session, checkpoint, diagnose, managed_agent
from memtrace.html import of_session, render

LINE = "{hour:02}:{minute:02} quay {quay}: {tonnes} tonnes of {what}, berth {berth}, pilot on board"
GOODS = ("salt", "timber", "dried cod", "grain", "machine parts")


def log_of(quay: int) -> str:
    return "\n".join(
        LINE.format(
            hour=6 + n // 6,
            minute=n % 6 * 10,
            quay=quay,
            tonnes=40 + (n * 37 + quay * 11) % 300,
            what=GOODS[(n + quay) % len(GOODS)],
            berth=f"B{quay}-{n % 9}",
        )
        for n in range(40)
    )


@managed_agent(name="planner")
def planner(session: Session, quay: int) -> None:
    session.agent("planner").state = {"quay": quay, "left": list(range(quay, 24))}
    session.history.append({"role": "user", "content": f"Which berths of quay {quay} are free?"})
    session.messages()
    session.history.append({"role": "assistant", "content": f"I look at the log of quay {quay}."})


@managed_agent(name="reader")
def reader(session: Session, quay: int) -> None:
    function = {"name": "read_log", "arguments": f'{{"quay": {quay}}}'}
    call = {"id": f"log-{quay}", "type": "function", "function": function}
    session.history.append({"role": "assistant", "content": None, "tool_calls": [call]})
    result = {"role": "tool", "tool_call_id": call["id"], "content": log_of(quay)}
    session.history.append(result)
    for berth in range(3):
        key = f"berth {(quay + berth) % 5}"
        if session.cache.get(key) is None:
            session.cache.put(key, f"{key} is {90 + berth} m long, 7 m deep, with shore power")


@managed_agent(name="writer")
def writer(session: Session, quay: int) -> None:
    session.messages()
    if quay == 13:
        raise TimeoutError("the harbour office did not answer")
    note = f"Quay {quay}: berths B{quay}-3 and B{quay}-7 are free from 12:40 on. " * 4
    session.active_contexts.add(note, key=f"note {quay}")
    session.history.append({"role": "assistant", "content": note})


def day() -> Session:
    session = Session("harbour-day", token_budget=12_000)
    rules = "Ships with dried cod go first. A berth is kept free for the pilot. " * 8
    session.active_contexts.add(rules, key="rules", kind="system")
    for quay in range(24):
        planner(session, quay)
        reader(session, quay)
        try:
            writer(session, quay)
        except TimeoutError as error:
            session.history.append({"role": "assistant", "content": f"Left out: {error}."})
        if quay % 6 == 5:
            with checkpoint(session, "quays done"):
                pass
    return session


def main() -> None:
    session = day()
    page = render(of_session(session, findings=diagnose(session)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/report.html")
        path.write_text(page, encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, open it in a browser")


if __name__ == "__main__":
    main()
