"""What a diagnosis finds, and what is noted of a budget's changes: frozen values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .errors import ConfigurationError
from .values import ActionReport, TokenBudget

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
"""From the worst down."""


@dataclass(frozen=True, slots=True)
class BudgetChange:
    """One change of a session's budget.

    Args:
        at: Seconds since the epoch, on the session's clock.
        old: The budget before it.
        new: The budget after it.
        reason: Why, in a sentence.
    """

    at: float
    old: TokenBudget
    new: TokenBudget
    reason: str


class Billed(NamedTuple):
    """One model call: tokens counted, tokens billed, and those of them read from the provider's
    prompt cache (None: unknown)."""

    counted: int
    billed: int
    cached: int | None = None


class Cause(NamedTuple):
    """What a symptom comes from: its name, the tokens it holds, and what that is in words."""

    name: str
    tokens: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Remedy:
    """Something to be done about a symptom.

    Args:
        name: By which :meth:`Finding.apply` knows it.
        description: What it does, in a sentence.
        expected: What the symptom's figure is expected to be after it; None: that shows only in
            use.
    """

    name: str
    description: str
    expected: float | None = None
    run: Callable[[], ActionReport | None] | None = field(default=None, repr=False, compare=False)

    @property
    def applicable(self) -> bool:
        """Whether memtrace can do it; else it is advice for whoever wrote the agent."""
        return self.run is not None


@dataclass(frozen=True, slots=True)
class Applied:
    """A remedy that was applied, and what the symptom's figure was before and after it.

    Args:
        remedy: Its name.
        symptom: The finding's.
        before: The symptom's figure before it.
        after: The same, measured right after it; None: it shows only in later use, see
            :meth:`measure`.
        threshold: Past which it is a symptom.
        direction: On which side of the threshold.
        tokens_before: The session's total before it.
        tokens_after: The same after it.
        report: What the action said, where the remedy is one.
    """

    remedy: str
    symptom: str
    before: float
    after: float | None
    threshold: float
    direction: Literal["above", "below"]
    tokens_before: int
    tokens_after: int
    report: ActionReport | None = None
    again: Callable[[], float | None] = field(default=lambda: None, repr=False, compare=False)

    def measure(self) -> float | None:
        """The symptom's figure as it is now; of what shows in use, since the remedy.

        None: nothing has happened since that would show it.
        """
        return self.again()

    @property
    def cured(self) -> bool | None:
        """Whether the figure, measured now, is no longer past its threshold; None: not known."""
        now = self.again()
        if now is None:
            return None
        return now <= self.threshold if self.direction == "above" else now >= self.threshold


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a session, how that was measured, and what can be done.

    Args:
        symptom: Its name, for instance ``high_working_memory``.
        severity: ``critical``, ``warning``, or ``info`` where nothing comes of it yet.
        message: One sentence with the figures.
        measured: The figure it is known by.
        threshold: Past which it is a symptom.
        direction: On which side of the threshold.
        evidence: Further figures, by name; tokens unless the name says otherwise.
        causes: What it comes from, the one with the most tokens first.
        remedies: What can be done, the best first.
    """

    symptom: str
    severity: Severity
    message: str
    measured: float
    threshold: float
    direction: Literal["above", "below"] = "above"
    evidence: Mapping[str, float] = field(default_factory=dict, hash=False)
    causes: tuple[Cause, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    watch: Callable[[], Callable[[], float | None]] | None = field(
        default=None, repr=False, compare=False
    )
    total: Callable[[], int] = field(default=lambda: 0, repr=False, compare=False)

    @property
    def excess(self) -> float:
        """How far past its threshold it is: 1 at it, 2 at twice as much."""
        if self.direction == "below":
            return self.threshold / self.measured if self.measured else float("inf")
        return self.measured / self.threshold if self.threshold else float("inf")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from .tables import table

        rows: list[tuple[object, ...]] = [
            ("measured", self.measured, f"{self.direction} {self.threshold:g}")
        ]
        rows += [
            ("evidence", value, name.replace("_", " ")) for name, value in self.evidence.items()
        ]
        rows += [("cause", cause.tokens, f"{cause.name} {cause.detail}") for cause in self.causes]
        rows += [
            ("remedy", known.expected, f"{known.name}: {known.description}")
            for known in self.remedies
        ]
        return table(f"{self.severity}: {self.message}", ["", "figure", ""], rows)

    def apply(self, remedy: Remedy | str | None = None) -> Applied:
        """Apply a remedy to the session, and measure the symptom again.

        Args:
            remedy: One of ``remedies``, or its name; None: the first that can be applied.

        Returns:
            The figure before and after it.

        Raises:
            ConfigurationError: It is none of this finding's, or is advice that cannot be applied.

        >>> from memtrace import Session, diagnose
        >>> session = Session(token_budget=1_000)
        >>> for day in range(5):
        ...     text = f"It rained in Bergen on day {day}. " * 8
        ...     item = session.active_contexts.add(text, key=f"day {day}")
        >>> finding = diagnose(session)[0]
        >>> applied = finding.apply()
        >>> finding.symptom, applied.remedy, applied.cured
        ('high_working_memory', 'archive_completed', True)
        """
        chosen = self._chosen(remedy)
        assert chosen.run is not None
        again = self.watch() if self.watch is not None else (lambda: None)
        before = self.total()
        report = chosen.run()
        return Applied(
            chosen.name,
            self.symptom,
            self.measured,
            again(),
            self.threshold,
            self.direction,
            before,
            self.total(),
            report,
            again,
        )

    def _chosen(self, remedy: Remedy | str | None) -> Remedy:
        can = [known for known in self.remedies if known.applicable]
        name = remedy.name if isinstance(remedy, Remedy) else remedy
        for known in can:
            if name is None or known.name == name:
                return known
        names = ", ".join(known.name for known in can) or "none: they are advice"
        raise ConfigurationError(
            f"{self.symptom} has no remedy {name!r} that can be applied; these can: {names}"
        )
