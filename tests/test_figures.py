"""The pictures of training: their traces in the promised order, readable when a run diverges."""

import json
import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from explorer import figures
from explorer.figures import (
    COLOURS,
    LIFT,
    move_fit,
    move_map,
    move_race,
    move_race_surface,
    move_surface,
    plot_fit,
    plot_loss_map,
    plot_loss_surface,
    plot_losses,
    plot_race_curve,
    plot_race_map,
    plot_race_surface,
    plot_rates,
    read_ranges,
)

X, Y = [0.0, 1.0, 2.0], [1.0, 3.0, 5.0]
GRID = np.linspace(-2, 2, 9)
BOWL = GRID[:, None] ** 2 + GRID**2
NAMES = ["SGD", "Adam", "<b>own</b>"]
WILD = [(0.0, 0.0), (1.0, 1.0), (1e30, 1.0), ("nan", "inf"), (None, 0.0), (-1e300, 1e300)]


def as_json(figure: Any) -> dict[str, Any]:
    """The figure as the browser gets it: strict JSON."""
    return json.loads(json.dumps(figure.to_plotly_json(), allow_nan=False))


def names(figure: Any) -> list[str]:
    return [trace.name for trace in figure.data]


FIGURES = {
    "fit": plot_fit(X, Y, line=(2.0, 1.0), best=(2.0, 1.0)),
    "map": plot_loss_map(GRID, GRID, BOWL, path=[(1.0, 1.0)], gradient=(2.0, 2.0), best=(0.0, 0.0)),
    "surface": plot_loss_surface(GRID, GRID, BOWL, path=[(1.0, 1.0, 2.0)]),
    "race map": plot_race_map(GRID, GRID, BOWL.tolist(), NAMES, minima=[(0.0, 0.0)]),
    "race curve": plot_race_curve(GRID, GRID**2, NAMES, minima=[(0.0, 0.0)]),
    "race surface": plot_race_surface(GRID, GRID, BOWL, NAMES),
    "losses": plot_losses({"a": (range(3), [3.0, 2.0, 1.0]), "b": ([0, 1], [3.0, "inf"])}),
    "rates": plot_rates(0.1, 0.31),
}


@pytest.mark.parametrize("figure", FIGURES.values(), ids=list(FIGURES))
def test_figure_is_strict_json_on_a_clear_ground(figure: Any) -> None:
    layout = as_json(figure)["layout"]
    assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"
    assert layout["uirevision"]
    assert "title" not in layout


def test_traces_stand_in_the_promised_order() -> None:
    assert names(FIGURES["fit"]) == ["residuals", "points", "best line", "w * x + b"]
    assert names(FIGURES["map"]) == ["loss", "lowest loss", "path", "now", "-gradient"]
    assert names(FIGURES["surface"]) == ["loss", "path", "now"]
    assert names(FIGURES["race map"]) == ["f", "minimum", *NAMES, None]
    assert names(FIGURES["race curve"]) == ["f", "minimum", *NAMES, None]
    assert names(FIGURES["race surface"]) == ["f", *NAMES, None]
    assert names(FIGURES["losses"]) == ["a", "b"]


def test_residuals_lead_from_each_point_to_the_line() -> None:
    drawn, moved = as_json(FIGURES["fit"])["data"][0], move_fit(X, Y, (1.0, 1.0))
    assert drawn["x"] == [0.0, 0.0, None, 1.0, 1.0, None, 2.0, 2.0, None]
    assert moved[0] == {"y": [1.0, 1.0, None, 3.0, 2.0, None, 5.0, 3.0, None]}
    line = moved[3]
    assert line["y"] == pytest.approx([x + 1 for x in line["x"]])
    assert line["x"][0] < 0 < 2 < line["x"][-1]


@pytest.mark.parametrize("line", [("nan", 1.0), (1.0, math.inf), ("-inf", "nan"), (1e300, -1e300), (-1e38, 0.0)])
def test_line_that_runs_away_leaves_the_axes_alone(line: tuple[Any, Any]) -> None:
    figure = plot_fit(X, Y, line=line)
    assert read_ranges(figure) == read_ranges(FIGURES["fit"])
    drawn = [number for trace in as_json(figure)["data"] for number in trace.get("y", []) if number is not None]
    assert all(abs(number) < 50 for number in drawn)


@pytest.mark.parametrize("pairs", [([2.0], [3.0]), ([2.0, 2.0], [1.0, 1.0]), ([1e15, -1e15], [0.0, 1e15])])
def test_odd_points_have_a_picture(pairs: tuple[list[float], list[float]]) -> None:
    for low, high in read_ranges(plot_fit(*pairs, line=(0.0, 0.0))):
        assert low < high


def test_arrow_points_down_the_loss_and_stays_in_proportion() -> None:
    moved = move_map((-2.0, 2.0), (-20.0, 20.0), path=[(1.0, 10.0)], gradient=(8.0, 0.0))
    assert moved[4]["x"] == pytest.approx([1.0, 1.0 - 4 * figures.ARROW])
    assert moved[4]["y"] == pytest.approx([10.0, 10.0])
    for nothing in ((0.0, 0.0), ("nan", 1.0), None):
        assert move_map((-2, 2), (-2, 2), path=[(1.0, 1.0)], gradient=nothing)[4] == {"x": [], "y": []}


def test_path_that_runs_away_is_cut() -> None:
    moved = move_map((-2.0, 2.0), (-2.0, 2.0), path=WILD, gradient=(1.0, 1.0))
    assert moved[2] == {"x": [0.0, 1.0], "y": [0.0, 1.0]}
    assert moved[3] == moved[4] == {"x": [], "y": []}
    assert move_map((-2.0, 2.0), (-2.0, 2.0), path=[])[2] == {"x": [], "y": []}
    ranges = read_ranges(FIGURES["surface"])
    assert len(ranges) == 3
    moved = move_surface(ranges, path=[(0.0, 0.0, 0.0), (1.0, 1.0, 2.0), (1.0, 1.0, "inf")])
    lift = LIFT * (ranges[2][1] - ranges[2][0])
    assert moved[1] == {"x": [0.0, 1.0], "y": [0.0, 1.0], "z": pytest.approx([lift, 2.0 + lift])}
    assert moved[2] == {"x": [], "y": [], "z": []}


def test_racers_keep_their_places_when_one_runs_away() -> None:
    ranges = read_ranges(FIGURES["race map"])
    moved = move_race(ranges, {"SGD": WILD, "Adam": [(1.0, 1.0), (0.5, 0.5)], "own": []})
    assert list(moved) == [2, 3, 4, 5]
    assert moved[2]["x"] == [0.0, 1.0]
    assert moved[5] == {"x": [None, 0.5, None], "y": [None, 0.5, None]}
    figure = plot_race_map(GRID, GRID, BOWL, NAMES)
    for number, attributes in moved.items():
        figure.data[number].update(**attributes)
    assert as_json(figure)["data"][5]["x"] == [None, 0.5, None]
    ranges = read_ranges(FIGURES["race surface"])
    moved = move_race_surface(ranges, {"SGD": [(1.0, 1.0, 2.0)], "Adam": [], "own": []})
    assert list(moved) == [1, 2, 3, 4]
    assert moved[4]["z"] == [pytest.approx(2.0 + LIFT * (ranges[2][1] - ranges[2][0])), None, None]


@pytest.mark.parametrize("values", [np.full((9, 9), np.nan), np.zeros((9, 9)), np.full((9, 9), 1e300)])
def test_surface_without_a_shape_has_a_picture(values: np.ndarray) -> None:
    values[0, 0] = np.inf
    for figure in (plot_loss_map(GRID, GRID, values), plot_loss_surface(GRID, GRID, values)):
        as_json(figure)
        assert all(low < high for low, high in read_ranges(figure))


def test_values_of_a_recording_are_read_as_they_stand() -> None:
    """Kept values have "nan" and "inf" as strings."""
    values = BOWL.tolist()
    values[0][0], values[3][3] = "inf", "nan"
    trace = as_json(plot_loss_map(GRID, GRID, values))["data"][0]
    assert trace["customdata"][0][0] is None
    assert trace["customdata"][1][1] == BOWL[1, 1]
    assert min(number for row in trace["z"] for number in row if number is not None) == 0


def test_steep_corners_do_not_press_the_surface_flat() -> None:
    rosenbrock = (1 - GRID) ** 2 + 100 * (GRID[:, None] - GRID**2) ** 2
    rosenbrock[0, 0] = 1e9
    low, high = read_ranges(plot_loss_surface(GRID, GRID, rosenbrock))[2]
    assert low < rosenbrock.min() < high < 1e5


def test_one_loss_that_runs_away_leaves_the_others_readable() -> None:
    curves = {"0.01": (range(3), [3.0, 2.0, 1.0]), "9": (range(3), [4.0, 1e30, "inf"])}
    figure = plot_losses(curves)
    assert tuple(figure.layout.yaxis.range) == (0.0, 80.0)
    assert as_json(figure)["data"][1]["y"] == [4.0, 1e30, None]
    assert figure.layout.xaxis.title.text == "pass"
    figure = plot_losses(curves, log=True)
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.range is None
    assert plot_losses({"calm": (range(3), [3.0, 2.0, 1.0])}).layout.yaxis.range is None
    as_json(plot_losses({}))
    as_json(plot_losses({"none": ([], [])}))


@pytest.mark.parametrize("rate", [0.0, 1e-9, 0.1, 1e9])
def test_critical_rate_is_marked_wherever_the_rate_is(rate: float) -> None:
    figure = plot_rates(rate, 0.312345, formula="2/L")
    assert [shape.x0 for shape in figure.layout.shapes] == [0.312345, 0.312345]
    assert "2/L = 0.3123" in figure.layout.annotations[0].text
    assert 1e-4 <= figure.data[0].x[0] <= 10


@pytest.mark.parametrize("critical", [None, 1e-9, 1e9])
def test_no_mark_where_there_is_no_critical_rate_on_the_axis(critical: float | None) -> None:
    assert not plot_rates(0.1, critical).layout.shapes


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [*COLOURS, figures.NEUTRAL])
def test_colours_stand_out_on_light_and_dark(colour: str) -> None:
    for ground in ("#ffffff", "#0e1117"):
        light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 3


def test_no_two_racers_look_alike() -> None:
    looks = list(zip(COLOURS, figures.DASHES, figures.SYMBOLS, strict=True))
    assert all(one[0] != other[0] and one[1:] != other[1:] for one, other in combinations(looks, 2))
