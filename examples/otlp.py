"""Send an agent's memory to an OpenTelemetry backend. Needs: pip install "memtrace-otel[otlp]"

The backend is the one that OTEL_EXPORTER_OTLP_ENDPOINT names, else http://localhost:4318. Where
none listens the agent runs all the same, and one log line says what was lost.
"""

from memtrace import Session, checkpoint, export_to, managed_agent

session = Session("support-42", token_budget=128_000)


@managed_agent
def answer(session: Session, question: str) -> str:
    session.history.append({"role": "user", "content": question})
    with checkpoint(session, "look up"):
        session.active_contexts.add("Orders leave the warehouse within a day.", key="shipping")
    reply = "Within a day."
    session.history.append({"role": "assistant", "content": reply})
    return reply


with export_to("otlp", service_name="support"):
    print(answer(session, "When does my order leave?"))
