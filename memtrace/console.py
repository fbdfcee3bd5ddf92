"""Spans for a reader's eyes: a tree of text for each run, printed when it ends.

Fed through :meth:`Console.on_start` and :meth:`Console.on_end` by :mod:`memtrace.export`. A tree
begins with a span of memtrace's that has none of memtrace's above it, and takes in whatever
happens below, other libraries' spans included. What is held meanwhile is bounded, so that a
generator that nobody finishes costs a few kilobytes and no more.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any, Protocol, TextIO

from .spantree import ASCII, Node, counted, render
from .telemetry import names

MAX_SPANS = 4096
"""Spans held at once, over all trees; beyond it the oldest tree is forgotten."""

MAX_SPANS_A_TREE = 500
"""Spans kept of one tree; further ones are counted."""

WIDTH = 100
"""Columns where the stream is no terminal."""


class ReadSpan(Protocol):
    """What is read of a span: the SDK's ``ReadableSpan`` has it."""

    @property
    def name(self) -> str: ...
    @property
    def context(self) -> Any: ...
    @property
    def parent(self) -> Any: ...
    @property
    def attributes(self) -> Mapping[str, Any] | None: ...
    @property
    def events(self) -> Sequence[Any]: ...
    @property
    def status(self) -> Any: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def instrumentation_scope(self) -> Any: ...


class _Tree:
    """One tree that is growing: its nodes by span id, and the ids it did not keep."""

    __slots__ = ("left_out", "nodes", "open_left_out", "root")

    def __init__(self, root_id: int, root: Node) -> None:
        self.root = root
        self.nodes = {root_id: root}
        self.left_out = 0
        self.open_left_out: set[int] = set()


class Console:
    """Prints a tree for each finished run or checkpoint that has none of memtrace's above it.

    Thread-safe. Written on the thread that ends the run, in one piece, so that a tree stands
    where the program's own output has come to.

    Args:
        file: Where to; None: standard error as it is at that moment, so that what the program
            itself prints to standard output stays clean.
        width: Columns; None: the terminal's, or 100 where it is no terminal.
    """

    def __init__(self, file: TextIO | None = None, width: int | None = None) -> None:
        self._file = file
        self._width = width
        # Re-entrant: a collected generator may end its span on a thread that is in here.
        self._lock = threading.RLock()
        self._trees: dict[int, _Tree] = {}  # by the root's span id, oldest first
        self._root_of: dict[int, int] = {}  # every held span's id to its root's
        self._summary = _Summary()

    def on_start(self, span: ReadSpan) -> None:
        """A span has begun."""
        span_id = span.context.span_id
        parent_id = span.parent.span_id if span.parent is not None else 0
        node = Node(span.name, span.start_time or 0)
        with self._lock:
            root_id = self._root_of.get(parent_id)
            if root_id is not None:
                self._grow(self._trees[root_id], parent_id, span_id, node)
            elif _is_ours(span):
                root_id = span_id
                self._trees[root_id] = _Tree(root_id, node)
            else:
                return
            self._root_of[span_id] = root_id
            while len(self._root_of) > MAX_SPANS and len(self._trees) > 1:
                self._forget(next(iter(self._trees)))

    def on_end(self, span: ReadSpan) -> None:
        """A span has ended; if it was a root, its tree is printed."""
        span_id = span.context.span_id
        with self._lock:
            ours = _is_ours(span)
            if ours:
                self._summary.add(span)
            tree = self._trees.get(self._root_of.get(span_id, 0))
            if tree is None:
                # Its run ended, or was forgotten, before it: it stands alone.
                if not ours:
                    return
                tree = _Tree(span_id, Node(span.name, span.start_time or 0))
            node = tree.nodes.get(span_id)
            if node is None:
                tree.open_left_out.discard(span_id)
                self._root_of.pop(span_id, None)
                return
            node.span = span
            if node is not tree.root:
                return
            self._forget(span_id)
        self._print(tree)

    def flush(self) -> None:
        """Nothing is held back that has ended."""

    def close(self) -> None:
        """Print what has not ended, and a line that sums up."""
        with self._lock:
            open_trees = [self._forget(root_id) for root_id in list(self._trees)]
            last = self._summary.text()
        for tree in open_trees:
            if tree is not None:
                self._print(tree)
        self._write(fill(last, max(20, self._columns()), subsequent_indent="  ") + "\n")

    def _grow(self, tree: _Tree, parent_id: int, span_id: int, node: Node) -> None:
        parent = tree.nodes.get(parent_id)
        if parent is None or len(tree.nodes) >= MAX_SPANS_A_TREE:
            tree.left_out += 1
            tree.open_left_out.add(span_id)
        else:
            tree.nodes[span_id] = node
            parent.children.append(node)

    def _forget(self, root_id: int) -> _Tree | None:
        tree = self._trees.pop(root_id, None)
        if tree is not None:
            for span_id in (*tree.nodes, *tree.open_left_out):
                self._root_of.pop(span_id, None)
        return tree

    def _print(self, tree: _Tree) -> None:
        colour = (
            _is_terminal(self._file or sys.stderr)
            and not os.environ.get("NO_COLOR")
            and os.environ.get("TERM") != "dumb"
        )
        lines = render(tree.root, self._columns(), colour=colour)
        if tree.left_out:
            lines.append(f"   … {tree.left_out:,} more spans")
        self._write("\n".join(lines) + "\n")

    def _columns(self) -> int:
        if self._width or not _is_terminal(self._file or sys.stderr):
            return self._width or WIDTH
        return shutil.get_terminal_size((WIDTH, 0)).columns

    def _write(self, text: str) -> None:
        stream = self._file or sys.stderr
        encoding = getattr(stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:
            text = text.translate(ASCII).encode(encoding, "replace").decode(encoding)
        stream.write(text)
        stream.flush()


class _Summary:
    """What is said at the end."""

    def __init__(self) -> None:
        self.runs = self.failed = self.checkpoints = self.alerts = 0
        self.actions = self.freed_tokens = 0
        self.peak_share = 0.0
        self.peak_tokens = 0

    def add(self, span: ReadSpan) -> None:
        """Count a span of memtrace's that has ended."""
        attributes = span.attributes or {}
        self.runs += span.name.startswith(names.INVOKE_AGENT)
        self.checkpoints += span.name.startswith(names.SPAN_CHECKPOINT)
        self.failed += names.ERROR_TYPE in attributes and names.AGENT_NAME in attributes
        self.alerts += sum(event.name == names.EVENT_THRESHOLD_CROSSED for event in span.events)
        freed = attributes.get(names.ACTION_TOKENS_BEFORE, 0) - attributes.get(
            names.ACTION_TOKENS_AFTER, 0
        )
        if freed > 0:
            self.actions += 1
            self.freed_tokens += freed
        for tokens, share in (
            (names.BEFORE_TOKENS, names.BEFORE_UTILIZATION),
            (names.AFTER_TOKENS, names.AFTER_UTILIZATION),
        ):
            if attributes.get(share, 0) > self.peak_share:
                self.peak_share, self.peak_tokens = attributes[share], attributes[tokens]

    def text(self) -> str:
        """One line."""
        if not self.runs and not self.checkpoints:
            return "memtrace: no agent run and no checkpoint ended"
        parts = [counted(self.runs, "run") + (f" ({self.failed} failed)" if self.failed else "")]
        if self.checkpoints:
            parts.append(counted(self.checkpoints, "checkpoint"))
        if self.alerts:
            parts.append(counted(self.alerts, "alert"))
        if self.actions:
            parts.append(
                f"{counted(self.actions, 'action')} gave back {self.freed_tokens:,} tokens"
            )
        if self.peak_tokens:
            parts.append(
                f"at most {self.peak_tokens:,} tokens, {self.peak_share:.0%} of the budget"
            )
        return "memtrace: " + ", ".join(parts)


def _is_ours(span: ReadSpan) -> bool:
    scope = span.instrumentation_scope
    return scope is not None and scope.name == names.SCOPE


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # an object that only writes, or is closed
        return False
