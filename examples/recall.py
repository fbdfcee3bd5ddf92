"""Recall: a long conversation, of which a model is sent what its next question is about.

The session holds everything; a context of 120 tokens holds the system prompt, what the question
is about, and the question. What was said is found again in the next process, too.
"""

import tempfile
from pathlib import Path

from memtrace import Session, measure_tokens

SMALL_TALK = "Tell me something about the weather in week {week}, if there is anything to tell."
QUESTION = "Which database did we choose, and who signed it off?"


def talk(session: Session) -> None:
    session.history.append({"role": "system", "content": "Answer from what was agreed."})
    for week in range(60):
        session.history.append({"role": "user", "content": SMALL_TALK.format(week=week)})
        session.history.append({"role": "assistant", "content": f"Week {week} was mild and dry."})
        if week == 7:
            decision = "We chose PostgreSQL 16 as our database; Ottilie signed it off on 3 May."
            session.history.append({"role": "user", "content": decision})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "memory.db"
        with Session.open("planning", store=store) as session:
            talk(session)
        with Session.open("planning", store=store) as session:
            print("found:", session.recall(QUESTION, k=1)[0].content["content"])
            session.history.append({"role": "user", "content": QUESTION})
            messages = session.context_for(QUESTION, max_tokens=120)
            whole = session.history.tokens
        print(f"sent: {len(messages)} messages, {measure_tokens(messages)} tokens of {whole}")
        for message in messages:
            print(f"  {message['role']}: {message['content']}")


if __name__ == "__main__":
    main()
