"""``memtrace diagnose`` and ``memtrace verify``: what is wrong, and what can be done about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from .._diagnose import diagnose
from .._diagnose.reading import subject
from ..errors import ConfigurationError
from ..findings import Applied, Finding
from ..session import Session
from ..spantree import counted, printable
from . import stored
from .addresses import is_database
from .chart import open_console, plain_table
from .failing import print_json
from .log import kept_log

_MOST = 20
"""Remedies that one ``--apply`` tries, at most: each is followed by a diagnosis of its own."""

_STYLES = {"critical": "red", "warning": "yellow", "info": "dim"}
_SHOWN = 3
"""Causes and remedies shown of a finding."""


def show(
    target: str, store: str | None, token_budget: int | None, *, apply: bool, as_json: bool
) -> bool:
    """Print what is wrong with a session; whether nothing is that matters.

    Args:
        target: A recorded session's file, a store that holds one session, or a session's id.
        store: Where to look for the id.
        token_budget: What to hold it against; None: its own.
        apply: Try the best remedy of each finding, and tell what came of it; of a stored session
            that is kept as a new snapshot.
        as_json: One JSON object a line instead.

    Raises:
        MemtraceError: There is no such session, or it cannot be read.
    """
    with kept_log() as log:
        session, kept = _session(target, store, token_budget, apply)
        applied = _applied(session) if apply else []
        findings = diagnose(session)
        if kept and applied:
            session.close()
        else:
            session._dismiss()
    if as_json:
        for finding in findings:
            print_json(_finding_as_values(finding))
        for one in applied:
            print_json(_applied_as_values(one))
    else:
        console = open_console()
        log.show(console)
        _show_applied(console, applied, kept)
        _show(console, session, findings)
    return not any(matters(finding) for finding in findings)


def matters(finding: Finding) -> bool:
    """Whether something is to be seen to: an ``info`` tells of what does no harm yet."""
    return finding.severity != "info"


def _session(
    target: str, store: str | None, token_budget: int | None, apply: bool
) -> tuple[Session, bool]:
    """The session that is named, and whether what is done to it is kept in a store."""
    is_file = os.path.lexists(target) or "://" in target
    if not is_file and not store:
        raise ConfigurationError(
            f"{target}: no such file; to diagnose a stored session name its store with "
            f"--store or in {stored.ENVIRONMENT}"
        )
    if is_file and not _is_store(target):
        return subject(target, None, token_budget), False
    opened = stored.open_named(target if is_file else store)
    name = stored.only(opened) if is_file else stored.known(opened, target)
    if apply:
        return Session.open(name, store=opened, token_budget=token_budget), True
    return stored.read(opened, name, token_budget=token_budget), False


def _is_store(target: str) -> bool:
    if "://" in target or Path(target).is_dir():
        return True
    return is_database(Path(target))


def _applied(session: Session) -> list[Applied]:
    """Try the best remedy of each finding that matters, the worst first, each finding once."""
    done: list[Applied] = []
    tried: set[str] = set()
    for _ in range(_MOST):
        left = (f for f in diagnose(session) if matters(f) and f.symptom not in tried)
        finding = next((f for f in left if any(r.applicable for r in f.remedies)), None)
        if finding is None:
            break
        tried.add(finding.symptom)
        done.append(finding.apply())
    return done


# --- printing -------------------------------------------------------------------------------------


def figure(value: float | None) -> str:
    """A figure of a finding: whole numbers whole, shares with two digits.

    >>> figure(12_000.0), figure(0.8412), figure(None)
    ('12,000', '0.84', '–')
    """
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 100 else f"{value:.2f}"


def _show(console: Console, session: Session, findings: Sequence[Finding]) -> None:
    profile = session.profile()
    head = Text(printable(session.id), style="bold").append(
        f"  {profile.total_tokens:,} of {profile.token_budget:,} tokens", style="not bold dim"
    )
    console.print(head)
    if not findings:
        console.print("Nothing is wrong with it.")
        return
    for finding in findings:
        console.print()
        style = _STYLES[finding.severity]
        title = Text(finding.severity, style=style).append(
            f"  {finding.symptom.replace('_', ' ')}", style="bold default"
        )
        console.print(title)
        console.print(Text(f"  {printable(finding.message, 400)}"))
        sign = ">" if finding.direction == "above" else "<"
        evidence = [f"measured {figure(finding.measured)} ({sign} {figure(finding.threshold)})"]
        evidence += [
            f"{printable(name).replace('_', ' ')} {figure(value)}"
            for name, value in finding.evidence.items()
        ]
        console.print(Text(f"  {', '.join(evidence)}", style="dim"))
        _show_causes(console, finding)
    console.print()
    console.print(_counts(findings))


def _show_causes(console: Console, finding: Finding) -> None:
    table = plain_table()
    table.add_column("", no_wrap=True)
    table.add_column("name", overflow="ellipsis", no_wrap=True, max_width=28)
    table.add_column("tokens", justify="right", no_wrap=True)
    table.add_column("what")
    table.show_header = False
    for cause in finding.causes[:_SHOWN]:
        what = printable(cause.detail, 200)
        table.add_row("  from", printable(cause.name, 60), f"{cause.tokens:,}", what)
    for remedy in finding.remedies[:_SHOWN]:
        does = "  apply" if remedy.applicable else "  advice"
        expected = "" if remedy.expected is None else f"→ {figure(remedy.expected)}"
        table.add_row(does, remedy.name, expected, printable(remedy.description, 200))
    if table.rows:
        console.print(table)


def _counts(findings: Sequence[Finding]) -> Text:
    told = [
        f"{counted(count, 'finding')} of severity {severity}"
        for severity in _STYLES
        if (count := sum(finding.severity == severity for finding in findings))
    ]
    return Text(f"{', '.join(told)}.", style="dim")


def _show_applied(console: Console, applied: Sequence[Applied], kept: bool) -> None:
    if not applied:
        return
    table = plain_table()
    for heading in ("applied", "against"):
        table.add_column(heading, overflow="fold")
    for heading in ("before", "after", "tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for one in applied:
        cured = one.cured
        table.add_row(
            one.remedy,
            one.symptom,
            figure(one.before),
            figure(one.after),
            f"{one.tokens_after - one.tokens_before:+,}",
            Text("cured", style="green") if cured else "shows in use" if cured is None else "",
        )
    console.print(table)
    where = "kept in its store as a new snapshot" if kept else "tried here, the file is as it was"
    console.print(Text(f"{where}; what follows is what is left\n", style="dim"))


def _finding_as_values(finding: Finding) -> dict[str, Any]:
    return {
        "symptom": finding.symptom,
        "severity": finding.severity,
        "message": finding.message,
        "measured": finding.measured,
        "threshold": finding.threshold,
        "direction": finding.direction,
        "evidence": dict(finding.evidence),
        "causes": [cause._asdict() for cause in finding.causes],
        "remedies": [
            {
                "name": remedy.name,
                "description": remedy.description,
                "expected": remedy.expected,
                "applicable": remedy.applicable,
            }
            for remedy in finding.remedies
        ],
    }


def _applied_as_values(one: Applied) -> dict[str, Any]:
    return {
        "applied": one.remedy,
        "symptom": one.symptom,
        "before": one.before,
        "after": one.after,
        "tokens_before": one.tokens_before,
        "tokens_after": one.tokens_after,
        "cured": one.cured,
        "report": None if one.report is None else asdict(one.report),
    }


# --- verify ---------------------------------------------------------------------------------------


def verify(target: str | None, *, as_json: bool) -> bool:
    """Print what of a store is not what was written; whether all is well.

    Raises:
        MemtraceError: It is not there, or cannot be opened.
    """
    store = stored.open_named(target)
    with kept_log():
        found = store.check()
    if as_json:
        damages = [damage._asdict() for damage in found.damages]
        print_json({**found._asdict(), "damages": damages, "ok": found.ok})
        return found.ok
    console = open_console()
    read = (
        f"{counted(found.sessions, 'session')}, {counted(found.snapshots, 'snapshot')}, "
        f"{counted(found.rows, 'change')} read"
    )
    if found.ok:
        console.print(Text(f"{read}: all is as it was written."))
        return True
    table = plain_table()
    table.add_column("session", overflow="fold", max_width=30)
    table.add_column("where", no_wrap=True)
    table.add_column("what is wrong")
    for damage in found.damages:
        where, reason = printable(damage.where, 60), printable(damage.reason, 400)
        table.add_row(printable(damage.session, 60), where, Text(reason, style="red"))
    console.print(table)
    console.print(Text(f"\n{read}: {counted(len(found.damages), 'damage')}.", style="red"))
    return False
