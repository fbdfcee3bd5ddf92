"""An agent without a line of memtrace: `memtrace run zero_code.py` tells what its calls carried.

The model is a small server in this file, so that it runs without a network. Where the `openai`
client is not installed there is nothing to see, and it says so.
"""

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.util import find_spec
from threading import Thread
from typing import Any

CALLS = 12


class Model(BaseHTTPRequestHandler):
    """Asks for one page after another, then answers."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        done = sum(message["role"] == "tool" for message in body["messages"])
        message: dict[str, Any] = {"role": "assistant", "content": "The book is about lines."}
        if done < CALLS:
            function = {"name": "read", "arguments": json.dumps({"page": done % 8 + 1})}
            call = {"id": f"call_{done}", "type": "function", "function": function}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        sent = len(json.dumps(body["messages"])) // 3
        usage: dict[str, Any] = {"prompt_tokens": sent, "completion_tokens": 9}
        usage |= {"total_tokens": sent + 9, "prompt_tokens_details": {"cached_tokens": sent // 2}}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        answer = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        payload = json.dumps({**answer, "choices": choices, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_parts: Any) -> None: ...


def read(page: int) -> str:
    return "\n".join(f"page {page}, line {n}: value {page * n}" for n in range(60))


TOOL = {
    "type": "function",
    "function": {
        "name": "read",
        "description": "The text of a page.",
        "parameters": {"type": "object", "properties": {"page": {"type": "integer"}}},
    },
}


def agent(client: Any, question: str) -> str:
    messages: list[Any] = [
        {"role": "system", "content": "You read a book page by page, then answer in a sentence."},
        {"role": "user", "content": question},
    ]
    while True:
        answer = client.chat.completions.create(model="gpt-4o", messages=messages, tools=[TOOL])
        reply = answer.choices[0].message
        messages.append(reply)
        if not reply.tool_calls:
            return reply.content
        for call in reply.tool_calls:
            text = read(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": text})


def main() -> None:
    if find_spec("openai") is None:
        print("This example needs the openai client: pip install openai")
        return
    from openai import OpenAI

    server = HTTPServer(("127.0.0.1", 0), Model)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    with OpenAI(base_url=url, api_key="none") as client:
        print(agent(client, "What is the book about?"))
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
