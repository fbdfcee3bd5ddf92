"""Agents that stream: one span covers a generator from its first step to its last.

A reader who has seen enough may stop; the span ends then, and that is no error.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator

from memtrace import Session, export_to, managed_agent

ANSWER = ["Drop ", "by ", "drop, ", "water ", "wears ", "the ", "stone."]


@managed_agent
def speak(session: Session, question: str) -> Iterator[str]:
    session.history.append({"role": "user", "content": question})
    said = ""
    for word in ANSWER:
        said += word
        yield word
    session.history.append({"role": "assistant", "content": said})


@managed_agent
async def speak_slowly(session: Session, question: str) -> AsyncIterator[str]:
    session.history.append({"role": "user", "content": question})
    said = ""
    for word in ANSWER:
        await asyncio.sleep(0)  # other tasks go on between two words
        said += word
        yield word
    session.history.append({"role": "assistant", "content": said})


async def listen(session: Session) -> None:
    async for word in speak_slowly(session, "And once more, slowly?"):
        print(word, end="")
    print()


session = Session("proverbs", token_budget=8_000)
with export_to("console"):
    print("".join(speak(session, "What wears the stone?")))
    for word in speak(session, "Only the first word, please."):
        print(word)
        break
    asyncio.run(listen(session))
