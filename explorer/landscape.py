"""Functions of one or two variables to descend: picked or typed, and the program that evaluates one on a grid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from explorer.expressions import check_expression
from explorer.optimizers import check_count, check_number, find_optimizer

SURFACE_STEPS = 80
"""Points a side of a surface."""

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Landscape:
    """A function f(x, y), or f(x) where ``y_range`` is None, and from where to look at it.

    ``expression`` is the text of the program, ``formula`` that for a reader. ``lowest`` is the least value: -inf where
    there is none, None where it is not known. ``rate`` suits SGD on it, ``adaptive_rate`` Adam and its kin, and
    ``steps`` are enough to see most of the way.
    """

    name: str
    expression: str
    formula: str
    x_range: Range
    y_range: Range | None
    start: tuple[float, ...]
    minima: tuple[tuple[float, ...], ...] = ()
    lowest: float | None = None
    rate: float = 0.1
    adaptive_rate: float = 0.1
    steps: int = 100

    @property
    def variables(self) -> tuple[str, ...]:
        """("x", "y") or ("x",)."""
        return ("x",) if self.y_range is None else ("x", "y")

    def suggest_rate(self, optimizer: str) -> float:
        """A learning rate that descends from the start. Raises ValueError for an unknown optimizer."""
        chosen = find_optimizer(optimizer)
        if chosen.is_adaptive:
            # RMSprop's first step is ten rates long, for its mean square begins at 0.
            return self.adaptive_rate / 5 if chosen.id == "rmsprop" else self.adaptive_rate
        # Momentum of 0.9 makes steps of ten times the length in the end.
        return self.rate / 5 if chosen.knobs else self.rate


_ORIGIN = ((0.0, 0.0),)

LANDSCAPES: dict[str, Landscape] = {
    landscape.name: landscape
    for landscape in (
        Landscape(
            name="Quadratic bowl",
            expression="x**2 + y**2",
            formula="x² + y²",
            x_range=(-3.0, 3.0),
            y_range=(-3.0, 3.0),
            start=(-2.5, 2.0),
            minima=_ORIGIN,
            lowest=0.0,
        ),
        Landscape(
            name="Ravine",
            expression="x**2 / 20 + y**2",
            formula="x²/20 + y²",
            x_range=(-10.0, 10.0),
            y_range=(-5.0, 5.0),
            start=(-7.0, 2.0),
            minima=_ORIGIN,
            lowest=0.0,
            rate=0.9,
            adaptive_rate=0.3,
        ),
        Landscape(
            name="Rosenbrock",
            expression="(1 - x) ** 2 + 100 * (y - x**2) ** 2",
            formula="(1 - x)² + 100 (y - x²)²",
            x_range=(-2.0, 2.0),
            y_range=(-1.0, 3.0),
            start=(-1.5, 2.0),
            minima=((1.0, 1.0),),
            lowest=0.0,
            rate=0.001,
            adaptive_rate=0.05,
            steps=1000,
        ),
        Landscape(
            name="Himmelblau",
            expression="(x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2",
            formula="(x² + y - 11)² + (x + y² - 7)²",
            x_range=(-5.0, 5.0),
            y_range=(-5.0, 5.0),
            start=(0.0, 0.0),
            minima=((3.0, 2.0), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)),
            lowest=0.0,
            rate=0.01,
        ),
        Landscape(
            name="Saddle",
            expression="x**2 - y**2",
            formula="x² - y²",
            x_range=(-2.0, 2.0),
            y_range=(-2.0, 2.0),
            start=(-1.5, 0.01),
            lowest=-math.inf,
            adaptive_rate=0.05,
            steps=40,
        ),
        Landscape(
            name="Beale",
            expression="(1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2",
            formula="(1.5 - x + xy)² + (2.25 - x + xy²)² + (2.625 - x + xy³)²",
            x_range=(0.0, 4.5),
            y_range=(-1.5, 1.5),
            start=(1.0, 1.0),
            minima=((3.0, 0.5),),
            lowest=0.0,
            rate=0.01,
            adaptive_rate=0.05,
            steps=400,
        ),
        Landscape(
            name="Parabola",
            expression="(x - 5) ** 2",
            formula="(x - 5)²",
            x_range=(-1.0, 11.0),
            y_range=None,
            start=(0.0,),
            minima=((5.0,),),
            lowest=0.0,
            adaptive_rate=0.3,
        ),
    )
}
"""By name, in the order of the page. Rosenbrock 1960, Himmelblau 1972, Beale 1955; the rest are textbook forms."""


def parse_landscape(
    expression: str, *, x_range: Range = (-3.0, 3.0), y_range: Range = (-3.0, 3.0), start: Sequence[float] = (-2.0, 2.0)
) -> Landscape:
    """The reader's own function, typed as Python over x and y (``x**2 + torch.sin(3 * y)``), or over x alone.

    Raises ValueError in words for a reader for what is no such expression and for an empty or infinite range. What
    torch makes of it shows when it runs.
    """
    text, names = check_expression(expression, ("x", "y"))
    if "x" not in names:
        raise ValueError("the function does not depend on x; write one of x and y, or of x alone")
    is_flat = "y" not in names
    for name, (low, high) in (("x", x_range), ("y", y_range)):
        check_number(f"lower end of {name}", low)
        check_number(f"upper end of {name}", high)
        if low >= high:
            raise ValueError(f"the range of {name} is empty: {low:g} is not below {high:g}")
    numbers = tuple(check_number("start", number) for number in start)[: 1 if is_flat else 2]
    if len(numbers) < (1 if is_flat else 2):
        raise ValueError("the start needs an x and a y")
    return Landscape(
        "Your own", text, text, x_range, None if is_flat else y_range, numbers, rate=0.01, adaptive_rate=0.05
    )


def write_function(landscape: Landscape) -> str:
    """The imports and ``def f`` with which a program about the landscape begins."""
    imports = "import math\nimport torch" if "math." in landscape.expression else "import torch"
    return f"{imports}\n\n\ndef f({', '.join(landscape.variables)}):\n    return {landscape.expression}\n"


def write_surface(
    landscape: Landscape, *, x_range: Range | None = None, y_range: Range | None = None, steps: int = SURFACE_STEPS
) -> str:
    """The program that leaves ``surface``: f at ``steps`` points along x, or ``surface[i, j]`` at y i and x j.

    Raises ValueError for fewer than 2 or more than 400 steps.
    """
    check_count("number of steps", steps, least=2, most=400)
    x_low, x_high = map(float, x_range or landscape.x_range)
    lines = [f"x = torch.linspace({x_low!r}, {x_high!r}, {steps})"]
    if landscape.y_range is None:
        lines.append("surface = f(x)")
    else:
        y_low, y_high = map(float, y_range or landscape.y_range)
        lines.append(f"y = torch.linspace({y_low!r}, {y_high!r}, {steps})")
        lines.append('columns, rows = torch.meshgrid(x, y, indexing="xy")')
        lines.append("surface = f(columns, rows)")
    return f"{write_function(landscape)}\n\n" + "\n".join(lines) + "\n"


HIGHEST = 1e30
"""Graphics cards count in float32: a surface higher than this cannot be drawn."""


def check_surface(landscape: Landscape, surface: Any, steps: int = SURFACE_STEPS) -> None:
    """Raises ValueError in words for a reader where the kept ``surface`` has not one value for each grid point."""
    rows = surface if isinstance(surface, list) else []
    is_grid = len(rows) == steps
    if landscape.y_range is not None:
        is_grid = is_grid and all(isinstance(row, list) and len(row) == steps for row in rows)
    if not is_grid:
        raise ValueError(
            "the function must give one number for each x and y: use operations on single elements, such as "
            "torch.sin(x) * y, not ones that sum or join"
        )
    flat = [number for row in rows for number in (row if isinstance(row, list) else [row])]
    heights = [abs(number) for number in flat if isinstance(number, int | float)]
    if heights and max(heights) > HIGHEST:
        raise ValueError(
            f"the function reaches {max(heights):.3g} there, too high to draw: scale it down, or look at less of it"
        )
