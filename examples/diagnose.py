"""Diagnosis: what is wrong with a session, what it comes from, and a remedy that is measured.

The agent here keeps every page that it reads at hand. Its session is stored, so that the last
diagnosis can be made from the store alone, without the process that wrote it.
"""

import tempfile
from pathlib import Path

from memtrace import Session, diagnose, managed_agent

PAGE = "Page {page}: the harbour of Bergen handled {page}00 tonnes on day {line} of the year."


@managed_agent
def reader(session: Session, pages: range) -> None:
    for page in pages:
        text = "\n".join(PAGE.format(page=page, line=line) for line in range(30))
        session.active_contexts.add(text, key=f"page-{page}")
        session.history.append({"role": "user", "content": f"What does page {page} say?"})
        session.history.append({"role": "assistant", "content": f"It is about {page}00 tonnes."})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "memory.db"
        with Session.open("harbour", store=store, token_budget=10_000) as session:
            reader(session, range(1, 7))
            ahead = session.profile().forecast
            if ahead is not None:
                print(f"a turn adds {ahead.tokens_per_turn:.0f} tokens; 80% of the budget in")
                left = ahead.to_80
                print(f"about {left.turns:.0f} turns, {left.low:.0f} to {left.high:.0f}")

            findings = diagnose(session)
            for finding in findings:
                print(f"{finding.severity}: {finding.symptom}: {finding.message}")
                for cause in finding.causes[:2]:
                    print(f"  from {cause.name}: {cause.tokens} tokens")
                for remedy in finding.remedies[:2]:
                    print(f"  {remedy.name}: {remedy.description}")
            applied = findings[0].apply()
            print(f"{applied.remedy}: {applied.before:.0%} before, {applied.after:.0%} after")

        print("from the store:", [finding.symptom for finding in diagnose(store)] or "healthy")


if __name__ == "__main__":
    main()
