"""Planner, researcher and writer. Their decisions are plain code, so every run is the same.

The planner finds what is public and hands it out file by file; the researcher reads each file,
and finds where each name is used; the writer puts the report together, and checks in processes
of their own that every name can be imported and that the package's examples run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..instrument import checkpoint, managed_agent
from ..session import Session
from ..values import MemoryProfile
from .bench import Step, Workbench
from .tools import SCHEMAS, Tools

DEMO_TOKEN_BUDGET = 80_000
"""Tokens: little enough for the work to fill most of it."""

TASK = (
    "Document the public API of this package: for each public name where it is defined, what it "
    "is, and who uses it. Check that each can be imported and that the examples run."
)

_SYSTEM = (
    "You are one of three agents at work on a Python package: a planner, a researcher and a "
    "writer. Use the tools, say what you found and where, and claim nothing that you did not see."
)

_EXAMPLES = "import doctest, memtrace.values as m; print(doctest.testmod(m))"


@dataclass(frozen=True, slots=True)
class Demo:
    """What came of it.

    Args:
        steps: Every tool call, in order.
        report: The document that the agents wrote.
        profile: Memory at the end.
    """

    steps: tuple[Step, ...]
    report: str
    profile: MemoryProfile


def run_demo(*, token_budget: int = DEMO_TOKEN_BUDGET) -> Demo:
    """Let the three agents do their task.

    Args:
        token_budget: Tokens to hold their common memory against.

    Raises:
        ConfigurationError: The budget cannot work.
    """
    session = Session("demo", token_budget=token_budget)
    try:
        session.active_contexts.add(_SYSTEM, key="system", kind="system")
        session.active_contexts.add(SCHEMAS, key="tools", kind="tools")
        bench = Workbench(session, Tools(Path(__file__).parent.parent))
        report = planner(session, bench)
        return Demo(tuple(bench.steps), report, session.profile())
    finally:
        session.close()


@managed_agent
def planner(session: Session, bench: Workbench) -> str:
    """Find what is public, have it looked into, have it written up."""
    session.history.append({"role": "user", "content": TASK})
    bench.list("planner")
    public = _listed(bench.read("planner", "__init__.py"))
    either = "|".join(public)
    defined = rf"^(?:class|(?:async )?def) (?:{either})\b|^(?:{either}) *[:=]"
    found = bench.search("planner", defined, limit="500")
    plan = _by_file(found, public)
    state = session.agent("planner").state = {"plan": plan, "done": []}
    notes = {}
    for path, names in plan.items():
        bench.say("planner", f"researcher: look into {', '.join(names)} in {path}")
        notes[path] = researcher(session, bench, path, names)
        state["done"].append(path)
    bench.say("planner", f"writer: all {len(plan)} files are looked into, write the report")
    return writer(session, bench, plan, notes)


@managed_agent
def researcher(session: Session, bench: Workbench, path: str, names: list[str]) -> str:
    """Look into the public names of one file; gives a note on them."""
    findings: dict[str, dict[str, object]] = {}
    session.agent("researcher").state = {"file": path, "findings": findings}
    summaries = _summaries(bench.read("researcher", path))
    with checkpoint(session, f"trace {', '.join(names[:2])}{' …' if names[2:] else ''}"):
        for name in names:
            found = bench.search("researcher", rf"\b{name}\b")
            named_in = sorted(_files(found) - {path, "__init__.py"})
            findings[name] = {"is": summaries.get(name, "a value"), "named_in": named_in}
    if named_in:
        bench.read("researcher", named_in[0])  # to see how the last of them is used
    note = "\n".join(_lines(path, findings))
    session.archived_contexts.add(note, key=path, kind="note")
    bench.say("researcher", note)
    return note


@managed_agent
def writer(
    session: Session, bench: Workbench, plan: Mapping[str, list[str]], notes: Mapping[str, str]
) -> str:
    """Put the report together, and prove its examples."""
    state = session.agent("writer").state = {"sections": []}
    sections = ["# Public API"]
    with checkpoint(session, "write the sections"):
        for path, names in plan.items():
            # Asked for a second time: what the researcher found is still in the cache.
            seen = [bench.search("writer", rf"\b{name}\b") for name in names[:2]]
            uses = [_use(name, found) for name, found in zip(names, seen, strict=False)]
            sections.append("\n".join([notes[path], *filter(None, uses)]))
            state["sections"].append(path)
    names = [name for names in plan.values() for name in names]
    with checkpoint(session, "check what it says"):
        imports = bench.run("writer", _importing(names), f"import {len(names)} names")
        examples = bench.run("writer", _EXAMPLES, "the examples in values.py")
    sections.append(f"Imports: {imports.splitlines()[-1]}\nExamples: {examples.splitlines()[-1]}")
    report = "\n\n".join(sections)
    bench.say("writer", report)
    return report


# --- what the agents know how to read -----------------------------------------------------------


def _listed(init: str) -> list[str]:
    """Names in a module's ``__all__``."""
    for node in ast.parse(init).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def _by_file(found: str, names: list[str]) -> dict[str, list[str]]:
    """Public names by the file that defines them, in the order found."""
    plan: dict[str, list[str]] = {}
    lines = r"^([\w/]+\.py):\d+: (?:class |def |async def )?(\w+)"
    for path, name in re.findall(lines, found, re.M):
        if name in names and name not in plan.setdefault(path, []):
            plan[path].append(name)
    return plan


def _files(found: str) -> set[str]:
    """Files that a search's result names."""
    return set(re.findall(r"^([\w/]+\.py):", found, re.M))


def _use(name: str, found: str) -> str | None:
    """Where a search saw a name called, as a line of the report."""
    call = re.search(rf"^([\w/]+\.py:\d+): (?!class |def |async )(.*\b{name}\(.*)$", found, re.M)
    return f"    {call[1]}: {call[2]}" if call else None


def _summaries(source: str) -> dict[str, str]:
    """First line of the docstring of each class and function at a module's top."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name: (ast.get_docstring(node) or "").partition("\n")[0]
        for node in ast.parse(source).body
        if isinstance(node, kinds)
    }


def _importing(names: list[str]) -> str:
    return f"from memtrace import {', '.join(names)}\nprint({len(names)}, 'imported')"


def _lines(path: str, findings: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    yield f"## {path}"
    for name, finding in findings.items():
        named_in = finding["named_in"]
        assert isinstance(named_in, list)
        users = f"named in {', '.join(named_in[:4])}" if named_in else "named nowhere else"
        if len(named_in) > 4:
            users += f" and {len(named_in) - 4} more"
        yield f"- {name}: {finding['is']} ({users})"
