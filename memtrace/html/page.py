"""The page: a report's values put into the template. Whatever comes from a session is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from math import ceil, isfinite
from typing import Any, NamedTuple

from .._version import __version__
from ..errors import ConfigurationError
from ..findings import SEVERITIES
from ..spantree import counted, duration, printable
from .charts import charts
from .facts import Mark, Report, Sample
from .script import part, scripts
from .spec import words

ROWS = 300
"""Rows of a table, at most; of more runs each row is several."""

PAIRS = 10
"""Replaced items that stand by themselves; the others are folded together."""


class Turns(NamedTuple):
    """A row of the table behind the curve: memory after a run, or after several."""

    first: int
    last: int
    sample: Sample
    marks: Sequence[Mark]

    @property
    def total(self) -> int:
        """Tokens of all layers."""
        return sum(self.sample.tokens)

    @property
    def actions(self) -> str:
        """Actions by name with how often each ran."""
        times = Counter(words(mark.report.action) for mark in self.marks)
        return ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in times.items())

    @property
    def freed(self) -> int:
        """Tokens that they gave back."""
        return sum(mark.report.tokens_freed for mark in self.marks)


def render(report: Report) -> str:
    """The report as one HTML document, which needs nothing but itself.

    Raises:
        ConfigurationError: The libraries for it are not installed.
    """
    environment = _environment()
    code = scripts()
    page: str = environment.get_template("report.html").render(
        report=report,
        code=code,
        style=part("report.css"),
        charts=charts(report),
        turns=turns(report),
        layers=list(report.profile.layers.items()),
        acted=_acted(report),
        worst=next((s for s in SEVERITIES if any(f.severity == s for f in report.findings)), ""),
        rows=ROWS,
        most=PAIRS,
        version=__version__,
        made=datetime.now(timezone.utc),
    )
    return page.lstrip()


def _environment() -> Any:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise ConfigurationError(
            f"a report needs {error.name}, which is not installed: "
            'pip install "memtrace-otel[report]"'
        ) from None
    environment = Environment(
        loader=FunctionLoader(part),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        n=_number, pct=_percent, when=_when, words=words, plain=printable, lasted=duration
    )
    environment.globals.update(counted=counted)
    return environment


def turns(report: Report) -> list[Turns]:
    """The rows of the table behind the curve, evenly many runs in each."""
    last = {sample.run: sample for sample in report.samples if sample.run}
    marks: dict[int, list[Mark]] = {}
    for mark in report.marks:
        marks.setdefault(mark.run, []).append(mark)
    runs = sorted(last)
    step = max(1, ceil(len(runs) / ROWS))
    parts = [runs[start : start + step] for start in range(0, len(runs), step)]
    return [
        Turns(those[0], those[-1], last[those[-1]], _all(marks.get(run, ()) for run in those))
        for those in parts
    ]


def _all(groups: Iterable[Sequence[Mark]]) -> list[Mark]:
    return [mark for group in groups for mark in group]


def _acted(report: Report) -> list[tuple[str, int, int]]:
    """Actions by name: how often each ran, and what it gave back."""
    names = list(dict.fromkeys(mark.report.action for mark in report.marks))
    done = {name: [m.report for m in report.marks if m.report.action == name] for name in names}
    return [(name, len(its), sum(r.tokens_freed for r in its)) for name, its in done.items()]


def _number(value: float | None) -> str:
    """A figure as people read it.

    >>> _number(1204), _number(0.8333), _number(12.0), _number(float("inf")), _number(None)
    ('1,204', '0.833', '12', '∞', '–')
    """
    if value is None:
        return "–"
    if not isfinite(value):
        return "∞" if value > 0 else "–"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.3g}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _when(at: float | datetime) -> str:
    """A moment, in UTC to the second.

    >>> _when(0)
    '1970-01-01 00:00:00 UTC'
    """
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
