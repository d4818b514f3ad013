"""The landscapes, their minima and their surfaces, and a function of the reader's own."""

import math
from dataclasses import replace

import pytest
import torch

from explorer.check import check_program
from explorer.landscape import (
    LANDSCAPES,
    Landscape,
    check_surface,
    parse_landscape,
    write_function,
    write_surface,
)
from explorer.program import Program
from explorer.runner import Runner

ALL = list(LANDSCAPES.values())
IDS = list(LANDSCAPES)


def evaluate(landscape: Landscape, *point: float) -> torch.Tensor:
    """f of its leaves, with ``.grad`` filled in."""
    names: dict = {}
    exec(write_function(landscape), names)
    leaves = [torch.tensor(number, dtype=torch.float64, requires_grad=True) for number in point]
    value = names["f"](*leaves)
    value.backward()
    return torch.stack([value.detach(), *(leaf.grad for leaf in leaves)])


@pytest.mark.parametrize("landscape", ALL, ids=IDS)
def test_minima_are_flat_and_the_lowest(landscape: Landscape) -> None:
    for minimum in landscape.minima:
        value, *slope = evaluate(landscape, *minimum).tolist()
        assert value == pytest.approx(landscape.lowest, abs=1e-9)
        assert slope == pytest.approx([0] * len(minimum), abs=1e-4)
    assert bool(landscape.minima) == (landscape.lowest == 0.0)


@pytest.mark.parametrize("landscape", ALL, ids=IDS)
def test_start_and_minima_lie_in_the_ranges(landscape: Landscape) -> None:
    ranges = [landscape.x_range] + ([landscape.y_range] if landscape.y_range else [])
    for point in (landscape.start, *landscape.minima):
        assert len(point) == len(ranges) == len(landscape.variables)
        assert all(low <= number <= high for number, (low, high) in zip(point, ranges, strict=True))
    assert "x" in landscape.formula


@pytest.mark.parametrize("landscape", ALL, ids=IDS)
def test_formula_says_what_the_expression_says(landscape: Landscape) -> None:
    text = landscape.formula.translate(str.maketrans({"²": "**2", "³": "**3"})).replace(" (", " * (")
    text = text.replace("xy", "x*y").replace("- * (", "- (").replace("+ * (", "+ (").replace("100 * (", "100*(")
    for x, y in ((0.3, -1.2), (2.0, 0.7)):
        names = {"x": x, "y": y}
        assert eval(text, names) == pytest.approx(eval(landscape.expression, names))


@pytest.mark.parametrize("landscape", ALL, ids=IDS)
def test_surface_program_gives_f_on_the_grid(runner: Runner, landscape: Landscape) -> None:
    source = write_surface(landscape, steps=5)
    recording = runner.run(Program(source))
    assert (recording.status, recording.problem) == ("ok", None)
    surface = next(one.value.values for one in recording.variables if one.name == "surface")
    check_surface(landscape, surface, steps=5)
    xs = torch.linspace(*landscape.x_range, 5).tolist()
    if landscape.y_range is None:
        assert surface == pytest.approx([evaluate(landscape, x)[0].item() for x in xs], rel=1e-5)
        return
    for row, y in zip(surface, torch.linspace(*landscape.y_range, 5).tolist(), strict=True):
        assert row == pytest.approx([evaluate(landscape, x, y)[0].item() for x in xs], rel=1e-4, abs=1e-4)


def test_own_function_of_two_variables_and_of_one() -> None:
    own = parse_landscape("torch.sin(3 * x) + y**2 * math.pi", x_range=(-1, 1), start=(0.5, 0.5))
    assert (own.variables, own.x_range, own.start, own.lowest) == (("x", "y"), (-1, 1), (0.5, 0.5), None)
    assert write_function(own).startswith("import math\nimport torch\n\n\ndef f(x, y):\n    return torch.sin(3 * x)")
    check_program(Program(write_surface(own)))
    flat = parse_landscape("(x - 5) ** 2")
    assert (flat.variables, flat.y_range, flat.start) == (("x",), None, (-2.0,))
    check_program(Program(write_surface(flat)))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("y**2", {}, "does not depend on x"),
        ("x^2", {}, "not a power"),
        ("x*y", {"x_range": (1.0, 1.0)}, "range of x is empty: 1 is not below 1"),
        ("x*y", {"y_range": (0.0, math.inf)}, "upper end of y must be a finite number"),
        ("x*y", {"start": (0.0,)}, "the start needs an x and a y"),
        ("x*y", {"start": (0.0, math.nan)}, "start must be a finite number"),
    ],
)
def test_own_function_that_is_none_is_refused(text: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_landscape(text, **options)


@pytest.mark.parametrize("surface", [None, 3.0, [1.0] * 80, [[1.0] * 79] * 80, [[1.0] * 80] * 79])
def test_surface_that_is_no_grid_is_refused(surface: object) -> None:
    with pytest.raises(ValueError, match="one number for each x and y"):
        check_surface(LANDSCAPES["Saddle"], surface)


def test_function_that_sums_gives_no_grid(runner: Runner) -> None:
    own = parse_landscape("torch.stack([x, y]).norm()")
    recording = runner.run(Program(write_surface(own, steps=5)))
    surface = next(one.value.values for one in recording.variables if one.name == "surface")
    with pytest.raises(ValueError, match="single elements"):
        check_surface(own, surface, steps=5)


@pytest.mark.parametrize("steps", [1, 401])
def test_grid_has_its_bounds(steps: int) -> None:
    with pytest.raises(ValueError, match="number of steps must lie between 2 and 400"):
        write_surface(LANDSCAPES["Saddle"], steps=steps)


def test_surface_too_high_to_draw_is_refused() -> None:
    own = replace(LANDSCAPES["Saddle"], expression="x * y * 1e300")
    grid = [[1e300, 0.0], [float("nan"), "inf"]]
    with pytest.raises(ValueError, match=r"reaches 1e\+300 there, too high to draw: scale it down"):
        check_surface(own, grid, steps=2)
    check_surface(own, [[1e29, 0.0], [None, "-inf"]], steps=2)
