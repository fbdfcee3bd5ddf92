"""Watch an agent that keeps its own list: nothing of the agent changes but the decorator."""

import memtrace


@memtrace.managed_agent(messages="messages")
def agent(messages: list[dict[str, str]]) -> str:
    answer = f"To question {len(messages) // 2 + 1}: yes."  # your model call
    messages.append({"role": "assistant", "content": answer})
    return answer


conversation: list[dict[str, str]] = []
with memtrace.export_to("console"):
    for question in ("Is it raining?", "Will it rain tomorrow?", "Shall I take an umbrella?"):
        conversation.append({"role": "user", "content": question})
        print(agent(conversation))
