"""``memtrace report``: one HTML file on a recorded or a stored session."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from .._diagnose import diagnose
from .._diagnose.reading import is_recording
from ..errors import ConfigurationError
from ..files import written
from ..html import Report, of_recording, of_session, render
from ..html.facts import Lookups
from ..policy import Policy
from ..replay import read_session
from ..stores import Store
from . import stored
from .log import kept_log

SNAPSHOTS = 1_000
"""Snapshots whose cache lookups are looked at, at most: the last ones."""


def write(
    target: str,
    output: Path,
    store: str | None,
    token_budget: int | None,
    policy_file: Path | None,
) -> int:
    """Write a report, whole or not at all.

    Args:
        target: A recorded session's file, a store that holds one session, or a session's id.
        output: The HTML file.
        store: Where to look for the id.
        token_budget: Tokens to hold it against; None: its own.
        policy_file: The loop's constants, as a TOML file; None: the defaults.

    Returns:
        Its size, in bytes.

    Raises:
        MemtraceError: There is no such session, it cannot be read, or the file cannot be written.
    """
    policy = None if policy_file is None else Policy.from_file(policy_file)
    with kept_log():
        page = render(_report(target, store, token_budget, policy))
    with written(output) as file:
        file.write(page)
    return len(page.encode("utf-8", "replace"))


def _report(
    target: str, store: str | None, token_budget: int | None, policy: Policy | None
) -> Report:
    if is_recording(target):
        given = read_session(target)
        findings = diagnose(target, token_budget=token_budget)
        return of_recording(given, token_budget=token_budget, policy=policy, findings=findings)
    if os.path.lexists(target):
        opened = stored.open_named(target)
        return _stored(opened, stored.only(opened), token_budget, policy)
    if not store:
        raise ConfigurationError(
            f"{target}: no such file; to report on a stored session name its store with --store "
            f"or in {stored.ENVIRONMENT}"
        )
    opened = stored.open_named(store)
    return _stored(opened, stored.known(opened, target), token_budget, policy)


def _stored(store: Store, name: str, token_budget: int | None, policy: Policy | None) -> Report:
    session = stored.read(store, name, token_budget=token_budget, policy=policy)
    heads = store.heads(name, SNAPSHOTS)
    report = of_session(
        session,
        findings=diagnose(session),
        source=f"{store.name}, snapshot {heads[-1][0]}" if heads else store.name,
        lookups=[_lookups(head) for _, head in heads],
    )
    points = stored.view(store, name).points if policy is None else report.points
    return dataclasses.replace(report, points=points)


def _lookups(head: Any) -> Lookups:
    """The cache's lookups at a snapshot; what makes no sense is none."""
    told = head.facts.get("lookups")
    if isinstance(told, (list, tuple)) and [type(count) for count in told] == [int, int]:
        return Lookups(head.created_at, *told)
    return Lookups(head.created_at, 0, 0)
