"""The door to plotly: figures that bring no look of their own."""

import plotly.graph_objects as go

Figure = go.Figure


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
