"""A session holds an agent's memory: its instructions, its tool loop, its state.

The model is a function that decides the same each time, so that this runs as it stands; put your
client's call in its place.
"""

import json
from typing import Any

from memtrace import Session, checkpoint, export_to, managed_agent

PRICES = {"tea": 2.80, "coffee": 3.40, "cake": 4.10}


def model(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask for the price of everything named in the question, then add up."""
    asked = [m["tool_calls"][0]["function"]["arguments"] for m in messages if "tool_calls" in m]
    known = {json.loads(arguments)["item"] for arguments in asked}
    question = next(m["content"] for m in messages if m["role"] == "user")
    for item in PRICES:
        if item in question and item not in known:
            function = {"name": "price", "arguments": json.dumps({"item": item})}
            call = {"id": f"call_{len(known)}", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
    total = sum(float(m["content"]) for m in messages if m["role"] == "tool")
    return {"role": "assistant", "content": f"That is {total:.2f} altogether."}


@managed_agent
def waiter(session: Session, question: str) -> str:
    session.history.append({"role": "user", "content": question})
    while True:
        reply = model(session.messages())
        session.history.append(reply)
        if "tool_calls" not in reply:
            return str(reply["content"])
        call = reply["tool_calls"][0]
        price = PRICES[json.loads(call["function"]["arguments"])["item"]]
        session.history.append({"role": "tool", "tool_call_id": call["id"], "content": str(price)})


session = Session("table-7", token_budget=16_000)
session.active_contexts.add("You wait at a café's tables. Look prices up.", kind="system")

with export_to("console"):
    print(waiter(session, "A tea, a coffee and a cake, please. What is it altogether?"))
    with checkpoint(session, "settle the bill"):
        session.agent("waiter").state = {"table": 7, "paid": True}

profile = session.profile()
print({layer: usage.tokens for layer, usage in profile.layers.items()})
print(f"{profile.total_tokens} of {profile.token_budget} tokens, {profile.utilization_rate:.1%}")
