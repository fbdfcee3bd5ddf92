"""Steps that survive the process: broken off in the middle, and resumed by another one.

The first process is killed in its third step. The second finds what was done, and carries on
with memory as it was when the third step began.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from memtrace import Session, checkpoints, verify

FILES = ["parse.py", "index.py", "search.py", "report.py"]


def work(store: str, dies_in: str | None) -> None:
    session = Session.open("review", store=store, token_budget=32_000)
    for file in checkpoints(session, FILES, "review", resume=True):
        session.history.append({"role": "user", "content": f"Review {file}."})
        if file == dies_in:
            os._exit(1)  # as if the machine had gone: nothing is tidied up
        session.history.append({"role": "assistant", "content": f"{file} is fine."})
        print("reviewed", file)
    print(len(session.history), "messages,", session.profile().total_tokens, "tokens")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "memory.db")
        for dies_in in ("search.py", ""):
            subprocess.run([sys.executable, __file__, store, dies_in], check=False)
        print("nothing damaged:", verify(store).ok)


if __name__ == "__main__":
    if sys.argv[1:]:
        work(sys.argv[1], sys.argv[2])
    else:
        main()
