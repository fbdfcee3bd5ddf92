"""``memtrace sessions archive`` and ``retention``: what is put away, and what is let go of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from ..archiving import ArchiveReport, archive
from ..errors import ConfigurationError
from ..retaining.applying import RetentionPlan, RetentionReport, retention
from ..retaining.rules import KINDS, Going, RetentionRules
from ..spantree import counted, printable
from . import stored
from .chart import open_console, plain_table
from .failing import complain, fail, print_json
from .sessions import moment, size, when
from .snapshots import confirmed

_SHOWN = 40
"""Rows of a plan that are shown; all are in ``--json``."""


# --- archive --------------------------------------------------------------------------------------


def put_away(
    target: str | None, session_id: str | None, idle_h: float, to: str | None, *, as_json: bool
) -> bool:
    """Put a session away, or all that are idle; whether each could be.

    Args:
        target: The store.
        session_id: One session, whether idle or not; None: those that are.
        idle_h: Hours without use.
        to: URL of an object store that archives are moved to; None: none.
        as_json: One JSON object instead.

    Raises:
        MemtraceError: The store cannot be read, or there is no such session.
    """
    store = stored.open_named(target)
    if session_id is None:
        report = archive(store, idle_s=idle_h * 3_600, to=to)
    else:
        report = _one(store, stored.known(store, session_id), to)
    if as_json:
        print_json(asdict(report))
        return not report.failed
    console = open_console()
    if report.archived:
        share = f"{size(report.raw_bytes)} are {size(report.packed_bytes)} now"
        console.print(Text(f"Put away {counted(len(report.archived), 'session')}: {share}."))
    if report.moved:
        console.print(Text(f"Moved {counted(len(report.moved), 'archive')} to {printable(to)}."))
    if not (report.archived or report.moved or report.failed):
        console.print(f"No session was idle for {idle_h:g} hours.")
    for name, reason in report.failed.items():
        complain(f"session {name!r}: {reason}")
    return not report.failed


def _one(store: Any, session_id: str, to: str | None) -> ArchiveReport:
    known = store.archives.state(session_id)
    asleep = known is not None and known.archived_at is not None
    done = None if asleep else store.archives.archive(session_id)
    moved = None
    if to is not None:
        from ..stores import cold

        moved = store.archives.move(session_id, cold.check(to))
    if done is None and moved is None:
        raise ConfigurationError(
            f"session {session_id!r} is put away already"
            if asleep
            else f"session {session_id!r} was written just now, or has nothing to put away"
        )
    return ArchiveReport(
        archived=(session_id,) if done is not None else (),
        moved=(session_id,) if moved is not None else (),
        raw_bytes=0 if done is None else done.raw_bytes,
        packed_bytes=0 if done is None else done.packed_bytes,
    )


# --- retention ------------------------------------------------------------------------------------


def let_go(
    target: str | None,
    days: Mapping[str, float | None],
    tag: str | None,
    *,
    apply: bool,
    sure: bool,
    as_json: bool,
) -> bool:
    """Print what would go by the rules, and let it go if asked to; whether all of it went.

    Args:
        target: The store.
        days: For how long each kind is kept, by its name; None: for ever.
        tag: Only of sessions with this tag.
        apply: Let it go.
        sure: Do not ask first.
        as_json: One JSON object a line instead.

    Raises:
        MemtraceError: The store cannot be read or written, or no rule is given.
    """
    if all(limit is None for limit in days.values()):
        names = ", ".join(f"--{kind.replace('_', '-')}-days" for kind in KINDS)
        raise ConfigurationError(f"by which rule? give one or more of {names}")
    store = stored.open_named(target)
    rules = RetentionRules(**{f"{kind}_days": limit for kind, limit in days.items()})
    plan = retention(store, rules, tag=tag)
    if as_json:
        for one in plan.going:
            print_json(_as_values(one))
    else:
        _show(plan)
    if not apply or not plan.going:
        return True
    if not sure and not confirmed("Let go of all of this? It cannot be brought back."):
        fail("nothing went")
    report = plan.apply()
    for left in report.stayed:
        complain(f"session {left.session!r} ({left.kind}) stayed: {left.reason}")
    if as_json:
        print_json({"gone": report.by_kind(), "stayed": [asdict(left) for left in report.stayed]})
    else:
        open_console().print(Text(f"\nWent: {_sums(report)}."))
    return not report.stayed


def _show(plan: RetentionPlan) -> None:
    console = open_console()
    if not plan.going:
        console.print("Nothing would go.")
        return
    console.print(_table(plan))
    if len(plan.going) > _SHOWN:
        console.print(Text(f"… and {len(plan.going) - _SHOWN:,} more", style="dim"))
    console.print(Text(f"\nWould go: {_sums(plan)}."))


def _table(plan: RetentionPlan) -> Table:
    table = plain_table()
    table.add_column("session", overflow="ellipsis", no_wrap=True)
    table.add_column("what", no_wrap=True)
    for heading in ("count", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("oldest", no_wrap=True)
    for one in plan.going[:_SHOWN]:
        name = Text(printable(one.session) if one.session else "(none stored)")
        what = one.kind.replace("_", " ")
        table.add_row(name, what, f"{one.count:,}", size(one.bytes), when(one.oldest_at))
    return table


def _sums(done: RetentionPlan | RetentionReport) -> str:
    parts = [
        f"{kind.replace('_', ' ')} {count:,} ({size(taken)})"
        for kind, (count, taken) in done.by_kind().items()
    ]
    return ", ".join(parts) or "nothing"


def _as_values(one: Going) -> dict[str, Any]:
    return {
        "session": one.session,
        "kind": one.kind,
        "count": one.count,
        "bytes": one.bytes,
        "oldest_at": moment(one.oldest_at),
    }
