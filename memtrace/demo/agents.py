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
from ..values import Alert, MemoryProfile
from .bench import Step, Workbench
from .journal import Done, Journal, Rollback
from .tools import SCHEMAS, Tools

DEMO_TOKEN_BUDGET = 40_000
"""Tokens: less than half of what the work would fill, so that the loop has to act."""

TASK = (
    "Document the public API of this package: for each public name where it is defined, what it "
    "is, and who uses it. Check that each can be imported and that the examples run."
)

FULLEST = 5
"""Files with most public names, which the writer has open all at once."""

_SYSTEM = (
    "You are one of three agents at work on a Python package: a planner, a researcher and a "
    "writer. Use the tools, say what you found and where, and claim nothing that you did not see."
)

_AS_A_SCRIPT = "import memtrace.values as m, runpy; runpy.run_path(m.__file__)"
"""What the writer tries first. It fails, and truly: the file imports from its own package."""

_AS_A_MODULE = "import doctest, memtrace.values as m; print(doctest.testmod(m))"


@dataclass(frozen=True, slots=True)
class Demo:
    """What came of it.

    Args:
        steps: Every tool call, in order.
        report: The document that the agents wrote.
        profile: Memory at the end.
        done: What the loop did by itself, in order.
        alerts: What fired, in order.
        rollbacks: Steps that failed and left nothing behind, in order.
        checkpoints: How many checkpoints were entered.
        originals: How many items were replaced by a shorter form or dropped, each of them kept.
    """

    steps: tuple[Step, ...]
    report: str
    profile: MemoryProfile
    done: tuple[Done, ...]
    alerts: tuple[Alert, ...]
    rollbacks: tuple[Rollback, ...]
    checkpoints: int
    originals: int


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
        journal = Journal(bench)
        report = planner(session, bench)
        return Demo(
            tuple(bench.steps),
            report,
            session.profile(),
            tuple(journal.done),
            tuple(journal.alerts),
            tuple(journal.rollbacks),
            journal.checkpoints,
            len(session.record.originals),
        )
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
    bench.list("researcher")
    findings: dict[str, dict[str, object]] = {}
    session.agent("researcher").state = {"file": path, "findings": findings}
    summaries = _summaries(bench.read("researcher", path))
    with checkpoint(session, f"trace {names[0]}{' …' if names[1:] else ''}"):
        for name in names:
            found = bench.search("researcher", rf"\b{name}\b")
            named_in = sorted(_files(found) - {path, "__init__.py"})
            findings[name] = {"is": summaries.get(name, "a value"), "named_in": named_in}
    if named_in:
        bench.read("researcher", named_in[0])  # to see how the last of them is used
    note = "\n".join(_lines(path, findings))
    session.archived_contexts.add(note, key=f"note on {path}", kind="note")
    bench.say("researcher", note)
    return note


@managed_agent
def writer(
    session: Session, bench: Workbench, plan: Mapping[str, list[str]], notes: Mapping[str, str]
) -> str:
    """Put the report together, and prove its examples."""
    state = session.agent("writer").state = {"sections": []}
    sections = ["# Public API"]
    fullest = sorted(plan, key=lambda path: -len(plan[path]))[:FULLEST]
    sources = dict(zip(fullest, bench.read_all("writer", fullest), strict=True))
    with checkpoint(session, "write the sections"):
        for path, names in plan.items():
            # Asked for a second time: the latest that the researcher found are still cached.
            seen = [bench.search("writer", rf"\b{name}\b") for name in names[:2]]
            uses = [_use(name, found) for name, found in zip(names, seen, strict=False)]
            classes = _classes(sources.get(path, ""), names)
            sections.append("\n".join([notes[path], *classes, *filter(None, uses)]))
            state["sections"].append(path)
    names = [name for names in plan.values() for name in names]
    imports = bench.run("writer", _importing(names), f"import {len(names)} names")
    sections.append(f"Imports: {imports}\nExamples: {_run_examples(session, bench)}")
    report = "\n\n".join(sections)
    bench.say("writer", report)
    return report


def _run_examples(session: Session, bench: Workbench) -> str:
    """Run the examples of a module; what a try that fails leaves in memory is rolled back."""
    what = "the examples in values.py"
    try:
        with checkpoint(session, "run it as a script", rollback=True):
            return bench.run("writer", _AS_A_SCRIPT, what)
    except ChildProcessError as error:
        bench.say("writer", f"running it as a script fails: {error}. Import it instead.")
    with checkpoint(session, "run it as a module", rollback=True):
        return bench.run("writer", _AS_A_MODULE, what)


# --- what the agents know how to read -----------------------------------------------------------


def _listed(init: str) -> dict[str, str]:
    """Names in a module's ``__all__``, and where it imports each from, as a path."""
    tree = ast.parse(init)
    imported = {
        alias.name: (node.module or "").replace(".", "/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return {name: imported.get(name, "") for name in ast.literal_eval(node.value)}
    return {}


def _by_file(found: str, public: Mapping[str, str]) -> dict[str, list[str]]:
    """Public names by the file that defines them, in the order found."""
    plan: dict[str, list[str]] = {}
    lines = r"^([\w/]+)\.py:\d+: (?:class |def |async def )?(\w+)"
    for module, name in re.findall(lines, found, re.M):
        # Another file may have a class of the same name: what counts is what is imported.
        if name in public and f"{module}/".startswith(f"{public[name]}/"):
            names = plan.setdefault(f"{module}.py", [])
            if name not in names:
                names.append(name)
    return plan


def _files(found: str) -> set[str]:
    """Files that a search's result names."""
    return set(re.findall(r"^([\w/]+\.py):", found, re.M))


def _use(name: str, found: str) -> str | None:
    """Where a search saw a name called, as a line of the report."""
    call = re.search(rf"^([\w/]+\.py:\d+): (?!class |def |async )(.*\b{name}\(.*)$", found, re.M)
    return f"    {call[1]}: {call[2]}" if call else None


def _classes(source: str, names: list[str]) -> list[str]:
    """The first line of each class of those names."""
    heads = re.findall(r"^class (\w+).*:$", source, re.M)
    lines = re.findall(r"^class \w+.*:$", source, re.M)
    return [f"    {line}" for name, line in zip(heads, lines, strict=True) if name in names]


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
