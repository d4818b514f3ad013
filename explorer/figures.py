"""Pictures of training: the fitted line, the loss over w and b, racers on a landscape, losses side by side, rates.

The order of a figure's traces is part of its promise: a live plot replaces or extends single traces by their number.
A ``move_*`` function gives what changes from pass to pass, as {trace number: attributes}.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from explorer.narrate import format_number
from explorer.plot import Figure, new_figure

Numbers = Sequence[Any] | np.ndarray
Range = tuple[float, float]

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b37a00", "#8b6fd6", "#767b82", "#c0504d")
"""Okabe and Ito's hues, those too pale for a white or too dark for a black page moved a little."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid", "dash")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "pentagon")
NEUTRAL = "#767b82"
LEVELS = 24
MOST_GROWTH = 20.0
"""A linear axis of losses ends at so many times the largest first loss."""

CAMERA = {"eye": {"x": 1.5, "y": -1.05, "z": 1.4}, "center": {"x": 0, "y": 0, "z": -0.15}}
"""A surface is seen from the front right, a little from above: x runs to the right, y away."""

LIFT = 0.02
"""A path lies so much of the height above its surface, which would else swallow it: it is flat between grid points."""

ARROW = 0.18
"""The gradient arrow's length as a share of the map, whatever the gradient's: a true length would be lost."""


def plot_fit(
    x: Numbers, y: Numbers, *, line: tuple[Any, Any] | None = None, best: tuple[float, float] | None = None
) -> Figure:
    """The points, the line ``(w, b)``, its residuals, and the best line, on axes that the points alone set.

    Traces: 0 residuals, 1 points, 2 best line, 3 line.
    """
    x, y = _floats(x), _floats(y)
    x_range, y_range = _pad(x), _pad(y, 0.25)
    figure = new_figure("fit", "x", "y")
    # Up, down, and None lifts the pen between two residuals.
    figure.add_scatter(
        x=[number for each in x.tolist() for number in (each, each, None)],
        mode="lines",
        line={"color": COLOURS[1], "width": 1, "dash": "dot"},
        name="residuals",
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=_gaps(x), y=_gaps(y), mode="markers", marker={"color": COLOURS[0], "size": 6, "opacity": 0.75}, name="points"
    )
    ends = np.array(x_range)
    figure.add_scatter(mode="lines", line={"color": NEUTRAL, "width": 1.5, "dash": "dash"}, name="best line")
    if best is not None:
        figure.data[2].update(x=ends.tolist(), y=(best[0] * ends + best[1]).tolist())
    figure.add_scatter(mode="lines", line={"color": COLOURS[1], "width": 3}, name="w * x + b")
    figure.update_layout(xaxis_range=x_range, yaxis_range=y_range)
    _update(figure, move_fit(x, y, line) if line is not None else {})
    return figure


def move_fit(x: Numbers, y: Numbers, line: tuple[Any, Any]) -> dict[int, dict[str, Any]]:
    """Traces 0 and 3 of ``plot_fit`` for another line, cut where they leave the picture.

    Empty where w or b is not finite.
    """
    x, y = _floats(x), _floats(y)
    w, b = _floats(line)
    if not (math.isfinite(w) and math.isfinite(b)):
        return {0: {"y": []}, 3: {"x": [], "y": []}}
    low, high = _pad(y, 0.25)
    room = 2 * (high - low)
    with np.errstate(over="ignore", invalid="ignore"):
        feet = np.clip(w * x + b, low - room, high + room)
        ends = np.linspace(*_pad(x), 200)
        heights = w * ends + b
    inside = np.abs(heights - (low + high) / 2) <= room * 2
    residual_y = [number for top, foot in zip(y.tolist(), feet.tolist(), strict=True) for number in (top, foot, None)]
    shown = np.flatnonzero(inside)[[0, -1]] if inside.any() else slice(0)
    return {0: {"y": residual_y}, 3: {"x": ends[shown].tolist(), "y": heights[shown].tolist()}}


def plot_loss_map(
    w: Numbers,
    b: Numbers,
    values: Any,
    *,
    path: Iterable[Sequence[Any]] = (),
    gradient: tuple[Any, Any] | None = None,
    best: tuple[float, float] | None = None,
) -> Figure:
    """Contours of the loss over w and b (``values[i][j]`` at b i, w j), and the path of (w, b) with the way down.

    Traces: 0 contours, 1 best, 2 path, 3 now, 4 arrow of -gradient at the last point.
    """
    w, b = _floats(w), _floats(b)
    figure = new_figure("map", "w", "b")
    _add_contours(figure, w, b, values, "loss", ("w", "b"))
    mark = {"symbol": "star", "size": 12, "color": COLOURS[2]}
    figure.add_scatter(
        mode="markers", marker=mark, name="lowest loss", x=[best[0]] if best else [], y=[best[1]] if best else []
    )
    style = {"color": COLOURS[1], "width": 2}
    figure.add_scatter(mode="lines+markers", line=style, marker={"size": 4}, name="path")
    figure.add_scatter(
        mode="markers", marker={"size": 11, "color": COLOURS[1], "line": {"width": 2, "color": "#ffffff"}}, name="now"
    )
    # The arrowhead points away from the point before it.
    head = {"symbol": ["circle", "arrow"], "size": [1, 14], "angleref": "previous", "color": COLOURS[0]}
    figure.add_scatter(
        mode="lines+markers", line={"color": COLOURS[0], "width": 3}, marker=head, name="-gradient", hoverinfo="skip"
    )
    ranges = (_ends(w), _ends(b))
    figure.update_layout(xaxis_range=ranges[0], yaxis_range=ranges[1])
    _update(figure, move_map(*ranges, path=path, gradient=gradient))
    return figure


def move_map(
    w_range: Range, b_range: Range, *, path: Iterable[Sequence[Any]], gradient: tuple[Any, Any] | None = None
) -> dict[int, dict[str, Any]]:
    """Traces 2, 3 and 4 of ``plot_loss_map`` for another path; points not finite or far outside are dropped."""
    points, now = _keep_near(path, (w_range, b_range))
    arrow: dict[str, Any] = {"x": [], "y": []}
    if gradient is not None and len(now):
        slope = _floats(gradient)
        spans = np.array([w_range[1] - w_range[0], b_range[1] - b_range[0]])
        # Scaled to the picture, so that the arrow points where the step goes on it.
        length = float(np.hypot(*(slope / spans))) if np.isfinite(slope).all() else math.inf
        if 0 < length < math.inf:
            arrow = _columns(np.vstack([now, now - ARROW * slope / length]))
    return {2: _columns(points), 3: _columns(now), 4: arrow}


def plot_loss_surface(w: Numbers, b: Numbers, values: Any, *, path: Iterable[Sequence[Any]] = ()) -> Figure:
    """The loss as a surface over w and b, and the path of (w, b, loss) on it.

    Traces: 0 surface, 1 path, 2 now.
    """
    figure = new_figure("surface")
    ranges = _add_surface(figure, w, b, values, ("w", "b", "loss"))
    figure.add_scatter3d(
        mode="lines+markers",
        line={"color": COLOURS[1], "width": 6},
        marker={"size": 3, "color": COLOURS[1]},
        name="path",
        hoverinfo="skip",
    )
    figure.add_scatter3d(mode="markers", marker={"size": 7, "color": COLOURS[1]}, name="now", hoverinfo="skip")
    _update(figure, move_surface(ranges, path=path))
    return figure


def move_surface(ranges: Sequence[Range], *, path: Iterable[Sequence[Any]]) -> dict[int, dict[str, Any]]:
    """Traces 1 and 2 of ``plot_loss_surface`` for another path; ``read_ranges`` of the figure gives ``ranges``."""
    points, now = _keep_near(path, ranges, margin=0.0)
    return {1: _columns(points), 2: _columns(now)}


def read_ranges(figure: Figure) -> tuple[Range, ...]:
    """The fixed ranges of a figure's axes: of x and y, or of x, y and z where it is a surface."""
    scene = figure.layout.scene
    axes = (scene.xaxis, scene.yaxis, scene.zaxis) if scene.xaxis.range else (figure.layout.xaxis, figure.layout.yaxis)
    return tuple((float(axis.range[0]), float(axis.range[1])) for axis in axes)


def plot_race_map(
    x: Numbers, y: Numbers, values: Any, names: Sequence[str], *, minima: Iterable[Sequence[float]] = ()
) -> Figure:
    """Contours of f and an empty path for every racer; ``move_race`` fills them.

    Traces: 0 contours, 1 minima, 2 to n + 1 the racers' paths in the order of ``names``, n + 2 where each is now.
    """
    x, y = _floats(x), _floats(y)
    figure = new_figure("race", "x", "y")
    _add_contours(figure, x, y, values, "f", ("x", "y"))
    _add_minima(figure, list(minima))
    for number, name in enumerate(names):
        figure.add_scatter(mode="lines", line=_line(number), name=name, hovertemplate="x %{x:.4g}<br>y %{y:.4g}")
    figure.add_scatter(
        mode="markers", marker=_heads(len(names)), showlegend=False, text=list(names), hoverinfo="text+x+y"
    )
    figure.update_layout(xaxis_range=_ends(x), yaxis_range=_ends(y))
    return figure


def plot_race_curve(
    x: Numbers, values: Numbers, names: Sequence[str], *, minima: Iterable[Sequence[float]] = ()
) -> Figure:
    """The curve of a function of one variable and an empty path for every racer: ``minima`` are points (x, f).

    Traces: 0 curve, 1 minima, 2 to n + 1 the racers' paths in the order of ``names``, n + 2 where each is now.
    """
    x, heights = _floats(x), _floats(values)
    figure = new_figure("race", "x", "f(x)")
    figure.add_scatter(x=_gaps(x), y=_gaps(heights), mode="lines", line={"color": NEUTRAL, "width": 2}, name="f")
    _add_minima(figure, list(minima))
    for number, name in enumerate(names):
        marker = {"size": 5, "symbol": SYMBOLS[number % len(SYMBOLS)]}
        figure.add_scatter(mode="lines+markers", line={**_line(number), "width": 1}, marker=marker, name=name)
    figure.add_scatter(
        mode="markers", marker=_heads(len(names)), showlegend=False, text=list(names), hoverinfo="text+x+y"
    )
    figure.update_layout(xaxis_range=_ends(x), yaxis_range=_pad(heights[np.isfinite(heights)], 0.08))
    return figure


def move_race(ranges: Sequence[Range], paths: Mapping[str, Iterable[Sequence[Any]]]) -> dict[int, dict[str, Any]]:
    """Traces 2 to n + 2 of ``plot_race_map`` or ``plot_race_curve``: paths of (x, y) or (x, f), in the names' order."""
    return _move_racers(ranges, paths, first=2, margin=1.0)


def plot_race_surface(x: Numbers, y: Numbers, values: Any, names: Sequence[str]) -> Figure:
    """f as a surface and an empty path for every racer; ``move_race_surface`` fills them.

    Traces: 0 surface, 1 to n the racers' paths in the order of ``names``, n + 1 where each is now.
    """
    figure = new_figure("race surface")
    _add_surface(figure, x, y, values, ("x", "y", "f"))
    for number, name in enumerate(names):
        figure.add_scatter3d(mode="lines", line={**_line(number), "width": 7}, name=name, hoverinfo="name")
    colours = [COLOURS[number % len(COLOURS)] for number in range(len(names))]
    figure.add_scatter3d(
        mode="markers", marker={"size": 6, "color": colours}, showlegend=False, text=list(names), hoverinfo="text"
    )
    return figure


def move_race_surface(
    ranges: Sequence[Range], paths: Mapping[str, Iterable[Sequence[Any]]]
) -> dict[int, dict[str, Any]]:
    """Traces 1 to n + 1 of ``plot_race_surface``: paths of (x, y, f) in the order of the names."""
    return _move_racers(ranges, paths, first=1, margin=0.0)


def plot_losses(curves: Mapping[str, tuple[Numbers, Numbers]], *, log: bool = False, x_title: str = "pass") -> Figure:
    """Loss curves with their names, one trace each in the order of ``curves``: x and loss.

    What is not finite is a gap. A linear axis ends at ``MOST_GROWTH`` times the largest first loss, so that one curve
    that runs away leaves the others readable; a logarithmic one shows what is above 0.
    """
    figure = new_figure("losses", x_title, "loss")
    for number, (name, (x, y)) in enumerate(curves.items()):
        figure.add_scatter(
            x=_gaps(_floats(x)),
            y=_gaps(_floats(y)),
            mode="lines",
            line=_line(number),
            name=name,
            hovertemplate="%{x}: %{y:.6g}",
        )
    figure.update_layout(yaxis_type="log" if log else "linear", showlegend=True, hovermode="x")
    cut = None if log else cut_losses(y for _, y in curves.values())
    if cut is not None:
        figure.update_layout(yaxis_range=cut)
    return figure


def cut_losses(losses: Iterable[Numbers]) -> Range | None:
    """Where a linear axis ends that stays readable though a curve runs away; None where none does."""
    first, most, least = 0.0, 0.0, 0.0
    for numbers in losses:
        numbers = _floats(numbers)
        finite = numbers[np.isfinite(numbers)]
        if len(finite):
            first, most, least = max(first, abs(finite[0])), max(most, finite.max()), min(least, finite.min())
    if not first or most <= MOST_GROWTH * first:
        return None
    return max(float(least), -MOST_GROWTH * float(first)), MOST_GROWTH * float(first)


def plot_rates(
    rate: float, critical: float | None, *, formula: str = "2/L", low: float = 1e-4, high: float = 10.0
) -> Figure:
    """A strip for below the slider of the learning rate: the critical rate as a line, what is above it shaded.

    Trace 0 is the rate itself. The axis is logarithmic from ``low`` to ``high``, the slider's own ends.
    """
    figure = new_figure("rates")
    inside = min(max(rate, low), high) if rate > 0 else low
    marker = {"size": 14, "symbol": "triangle-down", "color": COLOURS[0]}
    figure.add_scatter(
        x=[inside], y=[0.35], mode="markers", marker=marker, name="rate", hovertemplate=f"{rate:g}<extra></extra>"
    )
    if critical is not None and low < critical < high:
        figure.add_vrect(x0=critical, x1=high, fillcolor=COLOURS[1], opacity=0.15, line_width=0)
        figure.add_vline(x=critical, line_width=2, line_dash="dash", line_color=COLOURS[1])
        note = {
            "showarrow": False,
            "xanchor": "left" if critical < math.sqrt(low * high) else "right",
            "yref": "paper",
            "y": 1,
        }
        figure.add_annotation(
            x=math.log10(critical), text=f" {formula} = {format_number(critical)} ", yanchor="top", **note
        )
    figure.update_layout(height=90, showlegend=False)
    figure.update_xaxes(type="log", range=(math.log10(low), math.log10(high)), dtick=1, fixedrange=True)
    figure.update_yaxes(visible=False, range=(0, 1), fixedrange=True)
    return figure


def _move_racers(
    ranges: Sequence[Range], paths: Mapping[str, Iterable[Sequence[Any]]], *, first: int, margin: float
) -> dict[int, dict[str, Any]]:
    tracks = [_keep_near(path, ranges, margin=margin) for path in paths.values()]
    moved = {number: _columns(points) for number, (points, _) in enumerate(tracks, start=first)}
    # One place for each racer, so that colours and names stay with it.
    nowhere = np.full((1, len(ranges)), np.nan)
    last = np.vstack([now if len(now) else nowhere for _, now in tracks] or [nowhere[:0]])
    moved[first + len(tracks)] = _columns(last)
    return moved


def _add_contours(
    figure: Figure, x: np.ndarray, y: np.ndarray, values: Any, label: str, names: tuple[str, str]
) -> None:
    """Lines of equal height, denser near the bottom; hovering reads the true value."""
    heights = _floats(values)
    shades = _compress(heights)
    figure.add_contour(
        x=_gaps(x),
        y=_gaps(y),
        z=_gaps(shades),
        customdata=_gaps(heights),
        # Lines alone leave the paths readable on both themes.
        contours={"coloring": "lines"},
        ncontours=LEVELS,
        colorscale=[[0, "rgba(118,123,130,1)"], [1, "rgba(118,123,130,0.35)"]],
        line={"width": 1},
        showscale=False,
        name=label,
        hovertemplate=f"{names[0]} %{{x:.4g}}<br>{names[1]} %{{y:.4g}}<br>{label} %{{customdata:.4g}}<extra></extra>",
    )


def _add_surface(figure: Figure, x: Numbers, y: Numbers, values: Any, names: tuple[str, str, str]) -> tuple[Range, ...]:
    x, y, heights = _floats(x), _floats(y), _floats(values)
    figure.add_surface(
        x=_gaps(x),
        y=_gaps(y),
        z=_gaps(heights),
        surfacecolor=_gaps(_compress(heights)),
        colorscale="Viridis",
        opacity=0.85,
        showscale=False,
        name=names[2],
        hovertemplate="<br>".join(f"{name} %{{{axis}:.4g}}" for name, axis in zip(names, "xyz", strict=True))
        + "<extra></extra>",
    )
    finite = heights[np.isfinite(heights)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if len(finite) and high - low > 20 * (float(np.quantile(finite, 0.8)) - low) > 0:
        # A few steep corners would press all else flat.
        high = float(np.quantile(finite, 0.95))
    ranges = (_ends(x), _ends(y), _pad(np.array([low, high]), 0.05))
    axes = {
        f"{axis}axis": {"title": {"text": name}, "range": list(span)}
        for axis, name, span in zip("xyz", names, ranges, strict=True)
    }
    figure.update_layout(scene={**axes, "aspectmode": "cube", "camera": CAMERA})
    return ranges


def _add_minima(figure: Figure, minima: list[Sequence[float]]) -> None:
    x, y = ([point[index] for point in minima] for index in (0, 1))
    figure.add_scatter(
        x=_gaps(x), y=_gaps(y), mode="markers", marker={"symbol": "star", "size": 12, "color": NEUTRAL}, name="minimum"
    )


def _compress(heights: np.ndarray) -> np.ndarray:
    """log(1 + height above the lowest), in units below which a fiftieth of the map lies: levels are close there."""
    finite = heights[np.isfinite(heights)]
    if not len(finite):
        return np.full_like(heights, np.nan)
    above = heights - finite.min()
    unit = float(np.quantile(finite, 0.02) - finite.min()) or float(np.ptp(finite)) or 1.0
    with np.errstate(invalid="ignore"):
        return np.log1p(above / unit)


def _keep_near(
    path: Iterable[Sequence[Any]], ranges: Sequence[Range], *, margin: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The points of a path that are finite and at most ``margin`` spans outside the ranges; the last if it is one."""
    points = _floats(list(path)).reshape(-1, len(ranges))
    low, high = np.array(ranges, float).T
    room = margin * (high - low)
    with np.errstate(invalid="ignore"):
        is_near = ((points >= low - room) & (points <= high + room)).all(axis=1)
    points[:, 2:] += LIFT * (high - low)[2:]
    return points[is_near], points[-1:][is_near[-1:]]


def _columns(points: np.ndarray) -> dict[str, list[Any]]:
    return {axis: _gaps(column) for axis, column in zip("xyz", points.T, strict=False)}


def _floats(values: Any) -> np.ndarray:
    """An array of float64 from numbers, None and the strings "nan", "inf", "-inf"."""
    array = np.asarray(values, dtype=object)
    return np.where(array == None, "nan", array).astype(float)  # noqa: E711


def _gaps(values: np.ndarray) -> Any:
    """Nested lists with None where a number is not finite."""
    return np.where(np.isfinite(values), values, None).tolist()


def _ends(values: Numbers) -> Range:
    return float(values[0]), float(values[-1])


def _pad(values: np.ndarray, share: float = 0.08) -> Range:
    """The range of the values with some room; of width 2 where they are all the same."""
    if not len(values):
        return -1.0, 1.0
    low, high = float(np.min(values)), float(np.max(values))
    room = share * (high - low) or max(1.0, abs(high) * share)
    return low - room, high + room


def _line(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)], "width": 2.5}


def _heads(count: int) -> dict[str, Any]:
    numbers = range(count)
    colours, symbols = ([look[number % len(look)] for number in numbers] for look in (COLOURS, SYMBOLS))
    return {"size": 12, "color": colours, "symbol": symbols, "line": {"width": 1.5, "color": "#ffffff"}}


def _update(figure: Figure, moved: Mapping[int, Mapping[str, Any]]) -> None:
    for number, attributes in moved.items():
        figure.data[number].update(**attributes)
