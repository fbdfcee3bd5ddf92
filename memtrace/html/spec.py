"""What all charts share: how they look, and the small parts that they are made of.

Colours are the page's own (``var(--…)``), so that light and dark are the style sheet's business.
No text of a session is ever part of an expression: it is data.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

CONFIG: Spec = {
    "background": None,
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
}
"""How all of them look."""


TOKENS: Spec = {"labelExpr": "datum.value ? format(datum.value, '~s') : '0'"}
"""An axis of tokens, in thousands; nothing has no unit."""


def chart(height: int, layers: list[Spec], **datasets: list[Spec]) -> Spec:
    """A chart as wide as the page, of layers over each other, with the data that they name."""
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": CONFIG,
        "datasets": datasets,
        "layer": layers,
    }


def quantity(name: str, title: str | None = None, **more: Any) -> Spec:
    """A field that is a number."""
    return {"field": name, "type": "quantitative", "title": title, **more}


def told(name: str, title: str, form: str = ",") -> Spec:
    """A line of a tooltip that is a number."""
    return {"field": name, "type": "quantitative", "title": title, "format": form}


def text(name: str, title: str) -> Spec:
    """A line of a tooltip that is a text."""
    return {"field": name, "type": "nominal", "title": title}


def words(layer: str) -> str:
    """A layer's name as it is read."""
    return layer.replace("_", " ")
