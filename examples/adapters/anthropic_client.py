"""A hand-written loop with the `anthropic` client: 40 calls of 500 tokens, kept under 8,000.

The model is a small server in this file; the lines that memtrace adds are marked.
"""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

from anthropic import Anthropic

from memtrace import Session, managed_agent, measure_tokens  # memtrace
from memtrace.adapters.anthropic import managed  # memtrace

sent: list[int] = []


class Model(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        sent.append(measure_tokens(body["messages"]))
        content: dict[str, Any] = {"type": "text", "text": "All read."}
        if len(sent) <= 40:
            asked = {"page": len(sent)}
            content = {"type": "tool_use", "id": f"t{len(sent)}", "name": "read", "input": asked}
        usage = {"input_tokens": sent[-1], "output_tokens": 9}
        answer = {"id": "1", "type": "message", "role": "assistant", "model": "stub"}
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({**answer, "content": [content], "usage": usage}).encode())

    def log_message(self, *_parts: Any) -> None: ...


def read(page: int) -> str:
    return "\n".join(f"page {page}, line {n}: value {page * n}" for n in range(40))


@managed_agent  # memtrace
def agent(client: Anthropic, question: str, session: Session) -> str:
    client = managed(client, session)  # memtrace
    messages: list[Any] = [{"role": "user", "content": question}]
    while True:
        reply = client.messages.create(model="stub", max_tokens=99, messages=messages)
        messages.append({"role": "assistant", "content": reply.content})
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": read(**block.input)}
            for block in reply.content
            if block.type == "tool_use"
        ]
        if not results:
            return "".join(block.text for block in reply.content if block.type == "text")
        messages.append({"role": "user", "content": results})


server = HTTPServer(("127.0.0.1", 0), Model)
Thread(target=server.serve_forever, daemon=True).start()
with Anthropic(base_url=f"http://127.0.0.1:{server.server_port}", api_key="none") as client:
    print(agent(client, "Read the book.", Session("book", token_budget=8_000)))  # memtrace
print(f"{len(sent)} calls, {max(sent)} tokens at most")
