"""Figures of a network that reads digits, as plotly's plain {"data", "layout"}: epochs, layers, guesses."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from explorer.pictures import BLUE, ORANGE

KINDS = {"weights": "Weights", "gradients": "Gradients", "activations": "Activations"}
"""What of a layer has a histogram."""

_DIGITS = [str(digit) for digit in range(10)]


def plot_epochs(numbers: Mapping[str, Sequence[Any]], epochs: int) -> dict[str, Any]:
    """Accuracy above, loss below, after each of so many epochs, on the digits to train and on those to test.

    ``numbers`` are train_losses, train_accuracies, test_losses and test_accuracies, one entry an epoch.
    """
    traces = []
    for kind, axis in (("accuracies", "y"), ("losses", "y2")):
        for number, part in enumerate(("train", "test")):
            heights = [_finite(value) for value in numbers.get(f"{part}_{kind}", ())]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": part,
                    "x": list(range(1, len(heights) + 1)),
                    "y": heights,
                    "yaxis": axis,
                    "legendgroup": part,
                    "showlegend": kind == "accuracies",
                    "line": {"color": _rgb((BLUE, ORANGE)[number]), "dash": ("dot", "solid")[number]},
                    "hovertemplate": f"epoch %{{x}}: {part} {'%{y:.1%}' if kind == 'accuracies' else '%{y:.4g}'}",
                }
            )
    return {
        "data": traces,
        "layout": {
            "xaxis": {
                "title": {"text": "epoch"},
                "anchor": "y2",
                "range": [0.5, epochs + 0.5],
                "dtick": 1 if epochs < 12 else None,
            },
            "yaxis": {"title": {"text": "accuracy"}, "domain": [0.56, 1], "tickformat": ".1~%", "nticks": 4}
            | ({} if any(numbers.values()) else {"range": [0, 1]}),
            "yaxis2": {
                "title": {"text": "loss"},
                "domain": [0, 0.44],
                "anchor": "x",
                "rangemode": "tozero",
                "nticks": 4,
            }
            | ({} if any(numbers.values()) else {"range": [0, 2.5]}),
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
            # A range that was given once is kept under the same name.
            "uirevision": f"epochs {epochs} {any(numbers.values())}",
        },
    }


def plot_layers(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Histograms of weights, gradients and activations side by side, a line for each layer.

    A height is the share of a layer's numbers in a bin. ``layers`` is as explorer.look answers.
    """
    traces: list[dict[str, Any]] = []
    layout: dict[str, Any] = {"legend": {"orientation": "h", "x": 0, "y": 1.08, "yanchor": "bottom"}}
    for place, (kind, title) in enumerate(KINDS.items()):
        suffix = "" if place == 0 else str(place + 1)
        left = place * (0.28 + 0.08)
        layout[f"xaxis{suffix}"] = {"title": {"text": title.lower()}, "domain": [left, left + 0.28], "nticks": 5}
        layout[f"xaxis{suffix}"]["anchor"] = f"y{suffix}"
        layout[f"yaxis{suffix}"] = {"anchor": f"x{suffix}", "tickformat": ".0%", "rangemode": "tozero"}
        for number, layer in enumerate(layers):
            found = layer.get(kind)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "name": str(layer["name"]),
                    "line": {"shape": "hvh"},
                    "legendgroup": str(number),
                    "showlegend": place == 0,
                    "xaxis": f"x{suffix}",
                    "yaxis": f"y{suffix}",
                    "hovertemplate": f"{title.lower()} near %{{x:.3g}}: %{{y:.1%}}",
                    **_line_of(found or {}),
                }
            )
    # The colours go by layer, not by trace.
    count = max(1, len(layers))
    for number, trace in enumerate(traces):
        trace["line"] |= {"color": _COLOURS[number % count % len(_COLOURS)]}
    layout["uirevision"] = "layers"
    return {"data": traces, "layout": layout}


def plot_confusion(confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Which digit was taken for which: rows are what they are, columns what the network says.

    The colour tells the mistakes; the diagonal, where they are right, would drown them.
    """
    mistakes = [
        [0 if row == column else count for column, count in enumerate(line)] for row, line in enumerate(confusion)
    ]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": mistakes,
                "x": _DIGITS,
                "y": _DIGITS,
                "text": [[str(count) if count else "" for count in line] for line in confusion],
                "texttemplate": "%{text}",
                # None is no colour at all: white would glare on a dark page.
                "colorscale": [[0, "rgba(213,94,0,0)"], [1, "rgba(213,94,0,0.85)"]],
                "customdata": [list(line) for line in confusion],
                "zmin": 0,
                "zmax": max(1, max(map(max, mistakes), default=1)),
                "showscale": False,
                "xgap": 1,
                "ygap": 1,
                "hovertemplate": "a %{y}, taken for a %{x}: %{customdata}<extra></extra>",
            }
        ],
        "layout": {
            "xaxis": {
                "title": {"text": "the network says"},
                "type": "category",
                "constrain": "domain",
                "showgrid": False,
            },
            "yaxis": {"title": {"text": "it is a"}, "type": "category", "autorange": "reversed", "showgrid": False},
            "uirevision": "confusion",
        },
    }


def write_probabilities(probabilities: Sequence[Any], height: int) -> str:
    """The ten probabilities as bars of HTML, ``height`` pixels in all; the largest is full, the others are pale.

    They change with every stroke of a pen: a chart would take longer to draw.
    """
    shares = [_finite(value) or 0.0 for value in probabilities] or [0.0] * 10
    best = max(range(10), key=shares.__getitem__) if any(shares) else None
    cell = "display:flex;align-items:center;gap:0.5rem;flex:1;min-height:0"
    rows = [
        f'<div style="{cell}" data-share="{share:.6g}"><b style="width:1ch">{digit}</b>'
        '<span style="flex:1;height:72%;border-radius:3px;background:color-mix(in srgb,currentColor 7%,transparent)">'
        f'<span style="display:block;width:{share:.3%};height:100%;border-radius:3px;'
        f'background:rgba({",".join(map(str, BLUE))},{1 if digit == best else 0.4})"></span></span>'
        f'<span style="width:6ch;text-align:right">{f"{share:.1%}" if share >= 0.0005 else ""}</span></div>'
        for digit, share in enumerate(shares)
    ]
    return (
        f'<div data-testid="guess" role="img" aria-label="Probability of each digit" style="height:{height}px;'
        'display:flex;flex-direction:column;gap:2px;font-size:0.85rem;font-variant-numeric:tabular-nums">'
        '<div style="opacity:0.75">probability of each digit</div>' + "".join(rows) + "</div>"
    )


_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#888888", "#7a5c00", "#5d3a9b")


def _line_of(histogram: Mapping[str, Any]) -> dict[str, list[float]]:
    """The bins of a histogram: their middles and the shares of the numbers in them."""
    counts = histogram.get("counts") or []
    low, high = _finite(histogram.get("low")), _finite(histogram.get("high"))
    total = sum(counts)
    if not total or low is None or high is None:
        return {"x": [None], "y": [None]}
    width = (high - low) / len(counts)
    return {
        "x": [low + (number + 0.5) * width for number in range(len(counts))],
        "y": [count / total for count in counts],
    }


def _finite(value: Any) -> float | None:
    """A number that a figure can show; None for one that is not finite, which comes as a text."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _rgb(colour: Sequence[int]) -> str:
    return f"rgb({','.join(map(str, colour))})"
