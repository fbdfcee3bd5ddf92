"""Pictures of a session, drawn with matplotlib."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import matplotlib as mpl
import pytest

from memtrace import ConfigurationError, Session, managed_agent

mpl.use("Agg")

from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """No figure outlives its test."""
    yield
    plt.close("all")


@pytest.fixture
def session() -> Session:
    """A session of three runs; its names are not made for pictures."""
    session = Session("notes_$x^$ \u202e", token_budget=1_000)

    @managed_agent
    def agent(session: Session, n: int) -> None:
        session.history.append({"role": "user", "content": f"Question {n}. " * 5})
        session.active_contexts.add(f"Document {n}. " * 9, key=f"a_$\\{n} \ud83d")

    for n in range(3):
        agent(session, n)
    return session


def test_memory_is_drawn_over_the_runs(session: Session) -> None:
    """
    `session.plot()` gives axes with an area for each layer and a line for the budget.
    """
    axes = session.plot()
    heights = [area.get_paths()[0].get_extents().ymax for area in axes.collections]

    assert len(axes.collections) == 5
    assert max(heights) == session.profile().total_tokens
    assert axes.lines[0].get_ydata()[0] == 1_000
    axes.figure.savefig(io.BytesIO())


def test_a_session_without_runs_is_drawn_as_it_is() -> None:
    """
    What was put in by hand is drawn though no run brought it.
    """
    session = Session(token_budget=100)
    session.history.append({"role": "user", "content": "hello"})

    assert (
        session.plot().collections[-1].get_paths()[0].get_extents().ymax == session.history.tokens
    )


def test_a_layer_is_drawn_by_its_items(session: Session) -> None:
    """
    `layer.plot()` gives a bar for each item, the largest first, on the axes that are given.
    """
    axes = plt.subplots()[1]
    drawn = session.active_contexts.plot(axes)
    widths = [bar.get_width() for bar in drawn.patches]

    assert drawn is axes
    assert widths == sorted((i.tokens for i in session.active_contexts.items), reverse=True)
    axes.figure.savefig(io.BytesIO())


def test_many_items_are_drawn_as_few_bars() -> None:
    """
    Of a hundred items the largest have bars of their own, and the rest one together.
    """
    session = Session()
    for n in range(100):
        session.active_contexts.add("word " * (n + 1))
    bars = session.active_contexts.plot().patches

    assert len(bars) == 21
    assert sum(bar.get_width() for bar in bars) == session.active_contexts.tokens


def test_without_matplotlib_it_says_what_to_install(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Where matplotlib is not installed, one error says so.
    """
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigurationError, match="pip install matplotlib"):
        session.plot()
