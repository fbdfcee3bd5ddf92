"""A hand-written loop with the `openai` client: 40 calls of 500 tokens, kept under 8,000.

The model is a small server in this file; the lines that memtrace adds are marked.
"""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

from openai import OpenAI

from memtrace import Session, managed_agent, measure_tokens  # memtrace
from memtrace.adapters.openai import managed  # memtrace

sent: list[int] = []


class Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sent.append(measure_tokens(body["messages"]))
        message: dict[str, Any] = {"role": "assistant", "content": "All read."}
        if len(sent) <= 40:
            function = {"name": "read", "arguments": json.dumps({"page": len(sent)})}
            call = {"id": f"call_{len(sent)}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        usage = {"prompt_tokens": sent[-1], "completion_tokens": 9, "total_tokens": sent[-1] + 9}
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": "stub"}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({**answer, "choices": choices, "usage": usage}).encode())

    def log_message(self, *_parts: Any) -> None: ...


def read(page: int) -> str:
    return "\n".join(f"page {page}, line {n}: value {page * n}" for n in range(40))


@managed_agent  # memtrace
def agent(client: OpenAI, question: str, session: Session) -> str | None:
    client = managed(client, session)  # memtrace
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        reply = client.chat.completions.create(model="stub", messages=messages).choices[0].message
        messages.append(reply)
        if not reply.tool_calls:
            return reply.content
        for call in reply.tool_calls:
            text = read(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


server = HTTPServer(("127.0.0.1", 0), Model)
Thread(target=server.serve_forever, daemon=True).start()
with OpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none") as client:
    print(agent(client, "Read the book.", Session("book", token_budget=8_000)))  # memtrace
print(f"{len(sent)} calls, {max(sent)} tokens at most")
