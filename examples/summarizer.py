"""A model of your own writes what stands for old turns; where it fails, memtrace does without."""

from memtrace import Policy, Session


async def summarize(messages: list[dict[str, str]], previous: str) -> str:
    """Ask a model to extend the summary so far. Here, a stub in place of
    `await client.chat.completions.create(…)`."""
    asked = [m["content"].split()[-1] for m in messages if m["role"] == "user"]
    return f"{previous} Looked up: {', '.join(asked)}.".strip()


policy = Policy(summarizer=summarize, summarizer_timeout_s=10)
session = Session(token_budget=2_000, policy=policy)
session.history.append({"role": "system", "content": "You look things up."})

for number in range(40):
    session.history.append({"role": "user", "content": f"What is known of case C-{number}"})
    session.messages()  # what a model call would be sent
    session.history.append({"role": "assistant", "content": "It is open, nothing is new. " * 8})

print(session.history.tokens, "tokens of at most", session.token_budget)
print(next(m["content"] for m in session.messages() if "Looked up" in m["content"]))
