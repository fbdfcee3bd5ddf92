"""An application with nothing of OpenTelemetry's in its code: a program for the tests to run."""

from memtrace import Session, checkpoint, managed_agent


@managed_agent
def answer(session: Session, question: str) -> str:
    """Three items of memory, and an answer."""
    session.history.append({"role": "user", "content": question})
    with checkpoint(session, "look up"):
        session.active_contexts.add("Orders leave within a day.", key="shipping")
    session.history.append({"role": "assistant", "content": "Within a day."})
    return "Within a day."


if __name__ == "__main__":
    session = Session("support-42")
    for _ in range(3):
        print(answer(session, "When does my order leave?"))
