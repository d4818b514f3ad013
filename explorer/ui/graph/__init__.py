"""The graph with its stepper and inspector: everything but two switches stays in the browser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.ui import register_component

_mount = register_component("explorer.ui.graph", "map.js", "inspector.js", "picture.js", "graph.js")


@dataclass(frozen=True, slots=True)
class GraphResult:
    """What the switches under the picture ask the next layout to show: {"saved": bool, "attributes": bool}."""

    show: dict[str, bool]


def show_graph(view: Mapping[str, Any], *, key: str, height: int, pair: str = "program") -> GraphResult:
    """Draw ``view`` with its picture ``height`` pixels high.

    The graph and the editor of the same ``pair`` highlight each other's lines.
    """
    result = _mount(
        key=key,
        data={"key": key, "height": height, "pair": pair, "view": dict(view)},
        on_show_change=lambda: None,
    )
    return GraphResult(show={**view["show"], **(result.get("show") or {})})
