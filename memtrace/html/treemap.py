"""The treemap of what fills memory: layer, agent, item."""

from __future__ import annotations

from typing import Any

from ..values import LAYER_NAMES
from .facts import Leaf, Report

_ROOT = "memory"


def treemap(report: Report) -> dict[str, Any]:
    """A specification whose boxes are as large as what they stand for has tokens."""
    return {
        "width": 400,
        "height": 420,
        "padding": 0,
        "autosize": {"type": "none"},
        "signals": [
            {
                "name": "width",
                "init": "max(200, containerSize()[0])",
                "on": [{"events": "window:resize", "update": "max(200, containerSize()[0])"}],
            }
        ],
        "data": [
            {
                "name": "tree",
                "values": nodes(report),
                "transform": [
                    {"type": "stratify", "key": "id", "parentKey": "parent"},
                    {
                        "type": "treemap",
                        "field": "tokens",
                        "sort": {"field": "value", "order": "descending"},
                        "method": "squarify",
                        "ratio": 1.4,
                        "paddingInner": 2,
                        "paddingOuter": 2,
                        "paddingTop": 18,
                        "size": [{"signal": "width"}, {"signal": "height"}],
                    },
                ],
            },
            _part("groups", "datum.name && datum.children"),
            _part("items", "!datum.children"),
        ],
        "marks": [_groups(), _group_names(), _items(), _item_names()],
    }


def nodes(report: Report) -> list[dict[str, Any]]:
    """The tree as rows: its root, layers, agents (or kinds, where a layer has one), and items.

    Rows are known by their places: what a session calls its items may come twice, or be anything.
    """
    held = sum(leaf.tokens for leaf in report.leaves)
    rows: list[dict[str, Any]] = [
        {"id": _ROOT, "parent": None, "name": f"all of memory · {held:,} tokens"}
    ]
    for number, layer in enumerate(LAYER_NAMES):
        leaves = [leaf for leaf in report.leaves if leaf.layer == layer]
        if leaves:
            rows.append(_group(layer, _ROOT, layer.replace("_", " "), leaves, number))
            rows += _below(layer, leaves, number)
    return rows


def _below(layer: str, leaves: list[Leaf], number: int) -> list[dict[str, Any]]:
    """What a layer holds: by agent where there are several, else by what it is."""
    by_agent = len({leaf.agent for leaf in leaves}) > 1
    names = [(leaf.agent or "nobody’s") if by_agent else leaf.kind for leaf in leaves]
    total = sum(leaf.tokens for leaf in leaves)
    groups = dict.fromkeys(names)
    rows = []
    for place, name in enumerate(groups):
        its = [leaf for leaf, its_name in zip(leaves, names, strict=True) if its_name == name]
        parent = layer
        if len(groups) > 1:
            parent = f"{layer}/{place}"
            rows.append(_group(parent, layer, name, its, number))
        rows += [
            {
                "id": f"{layer}/{place}/{row}",
                "parent": parent,
                "name": leaf.id,
                "label": f"{leaf.kind} {leaf.id}" if by_agent else leaf.id,
                "kind": leaf.kind,
                "agent": leaf.agent,
                "layer": layer.replace("_", " "),
                "tokens": leaf.tokens,
                "share": leaf.tokens / total,
                "colour": f"var(--layer-{number})",
                "pinned": "yes" if leaf.pinned else "no",
                "said": leaf.said,
            }
            for row, leaf in enumerate(its)
        ]
    return rows


def _group(key: str, parent: str, name: str, leaves: list[Leaf], number: int) -> dict[str, Any]:
    tokens = sum(leaf.tokens for leaf in leaves)
    return {
        "id": key,
        "parent": parent,
        "name": f"{name} · {tokens:,}",
        "colour": f"var(--layer-{number})",
    }


def _part(name: str, test: str) -> dict[str, Any]:
    return {"name": name, "source": "tree", "transform": [{"type": "filter", "expr": test}]}


_BOX = {
    "x": {"field": "x0"},
    "y": {"field": "y0"},
    "x2": {"field": "x1"},
    "y2": {"field": "y1"},
}


def _groups() -> dict[str, Any]:
    return {
        "type": "rect",
        "from": {"data": "groups"},
        "interactive": False,
        "aria": False,
        "encode": {
            "update": {
                **_BOX,
                "fill": {"value": "var(--inset)"},
                "stroke": {"value": "var(--line)"},
            }
        },
    }


def _group_names() -> dict[str, Any]:
    return {
        "type": "text",
        "from": {"data": "groups"},
        "interactive": False,
        "encode": {
            "update": {
                "x": {"field": "x0", "offset": 5},
                "y": {"field": "y0", "offset": 13},
                "text": {"field": "name"},
                "limit": {"signal": "max(0, datum.x1 - datum.x0 - 8)"},
                "fontSize": {"value": 11},
                "fill": {"value": "var(--muted)"},
            }
        },
    }


def _items() -> dict[str, Any]:
    lines = {
        "item": "datum.name",
        "layer": "datum.layer",
        "agent": "datum.agent",
        "kind": "datum.kind",
        "tokens": "format(datum.tokens, ',')",
        "of its layer": "format(datum.share, '.1%')",
        "pinned": "datum.pinned",
        "begins": "datum.said",
    }
    told = ", ".join(f"'{name}': {value}" for name, value in lines.items())
    return {
        "type": "rect",
        "from": {"data": "items"},
        "encode": {
            "update": {
                **_BOX,
                "fill": {"field": "colour"},
                "fillOpacity": {"value": 0.8},
                "tooltip": {"signal": f"{{{told}}}"},
            },
            "hover": {"fillOpacity": {"value": 1}},
        },
    }


def _item_names() -> dict[str, Any]:
    return {
        "type": "text",
        "from": {"data": "items"},
        "interactive": False,
        "aria": False,
        "encode": {
            "update": {
                "x": {"field": "x0", "offset": 4},
                "y": {"field": "y0", "offset": 13},
                "text": {
                    "signal": "datum.x1 - datum.x0 > 38 && datum.y1 - datum.y0 > 16"
                    " ? datum.label : ''"
                },
                "limit": {"signal": "max(0, datum.x1 - datum.x0 - 8)"},
                "fontSize": {"value": 11},
                "fill": {"value": "var(--on-layer)"},
            }
        },
    }
