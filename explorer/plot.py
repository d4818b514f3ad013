"""Recording into plotly figures."""

import plotly.graph_objects as go

from explorer.recording import Recording

Figure = go.Figure

MOST_POINTS = 2_000
"""A curve with more points is thinned for display."""

FEWEST_PASSES = 4
"""A program with fewer passes with a loss has no curve."""


def plot_loss(recording: Recording, *, log: bool = False, chosen: int | None = None) -> go.Figure | None:
    """The loss over the passes, passes counted from 1; None where there are too few to be a curve.

    Passes from different lines of the program are different curves. ``chosen`` marks one pass by its index.
    """
    curves: dict[int | None, list[tuple[int, float | None]]] = {}
    for one in recording.passes:
        if one.loss is not None:
            value = float(one.loss)
            is_finite = abs(value) < float("inf")
            curves.setdefault(one.line, []).append((one.index + 1, value if is_finite else None))
    curves = {line: points for line, points in curves.items() if len(points) >= FEWEST_PASSES}
    if not curves:
        return None
    figure = go.Figure()
    for line, points in curves.items():
        stride = -(-len(points) // MOST_POINTS)
        kept = points[::stride] + ([points[-1]] if (len(points) - 1) % stride else [])
        x, y = zip(*kept, strict=True)
        # Only markers can be clicked.
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            marker_size=6 if len(kept) <= 60 else 3,
            name=f"line {line}",
            hovertemplate="pass %{x}<br>loss %{y:.6g}",
        )
    if chosen is not None:
        figure.add_vline(x=chosen + 1, line_width=1, line_dash="dot")
    figure.update_layout(
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        height=300,
        showlegend=len(curves) > 1,
        xaxis_title="pass",
        yaxis_title="loss",
        yaxis_type="log" if log else "linear",
        uirevision="loss",
        hovermode="x",
    )
    return figure


def new_figure(name: str, x_title: str | None = None, y_title: str | None = None) -> Figure:
    """An empty figure: text, grid and margins are the page's own; zoom and camera stay as long as ``name`` does."""
    return Figure(
        layout={
            "template": "none",
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": {"title": {"text": x_title}},
            "yaxis": {"title": {"text": y_title}},
            "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
            "uirevision": name,
        }
    )
