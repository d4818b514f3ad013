"""The reader's own points: pasted text into numbers, with an error that names the row."""

import math
import re
from dataclasses import dataclass

MOST_POINTS = 1_000
"""A program writes every point of the reader's own as a literal."""

MOST_CHARACTERS = 100_000
LARGEST = 1e15
"""Squares of larger numbers overflow float32, in which a program computes."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Points:
    """Points of the plane; ``warning`` says what is odd about them, in one sentence."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    warning: str | None = None

    def __len__(self) -> int:
        return len(self.x)


def parse_points(text: str) -> Points:
    """Two columns, x and y, split by semicolons, tabs, commas or spaces; one header row is passed over.

    A comma may be the decimal point where semicolons, tabs or spaces split the cells. Empty lines and lines that begin
    with # do not count. Raises ValueError naming the row (as counted in the text) and the remedy: a cell that is no
    finite number, a missing or third cell, fewer than 2 points, more than ``MOST_POINTS``.
    """
    if len(text) > MOST_CHARACTERS:
        raise ValueError(
            f"The text has {len(text):,} characters; at most {MOST_CHARACTERS:,} can be read. "
            f"Paste two columns and at most {MOST_POINTS:,} rows."
        )
    lines = [(number, line.strip()) for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    separator = _find_separator([line for _, line in lines])
    rows = [(number, _split(line, separator)) for number, line in lines]
    if rows and not any(_looks_like_number(cell, separator) for cell in rows[0][1]):
        rows = rows[1:]
    if len(rows) > MOST_POINTS:
        raise ValueError(
            f"There are {len(rows):,} rows; at most {MOST_POINTS:,} can be used. "
            f"Keep one row in {math.ceil(len(rows) / MOST_POINTS)}, or the first {MOST_POINTS:,}."
        )
    points = [_read_row(number, cells, separator) for number, cells in rows]
    if len(points) < 2:
        found = "There is no point" if not points else "There is one point"
        raise ValueError(f"{found}; a line needs at least 2. Paste one point a row: x, y")
    return make_points(points)


def make_points(pairs: list[tuple[float, float]]) -> Points:
    """Points from pairs. Raises ValueError for none, too many, and coordinates that are no finite number up to 1e15."""
    if not pairs:
        raise ValueError("there is no point: click into the plot, or paste some")
    if len(pairs) > MOST_POINTS:
        raise ValueError(f"there are {len(pairs):,} points; at most {MOST_POINTS:,} can be used")
    for position, pair in enumerate(pairs, start=1):
        for name, number in zip("xy", pair, strict=True):
            if not math.isfinite(number) or abs(number) > LARGEST:
                raise ValueError(f"{name} of point {position} must be a finite number up to 1e15, got {number!r}")
    x, y = (tuple(map(float, column)) for column in zip(*pairs, strict=True))
    warning = None
    if len(pairs) == 1:
        warning = "With one point every line through it is as good: w and b are not determined."
    elif len(set(x)) == 1:
        warning = f"All x are {x[0]:g}: every line through the mean y there is as good, so w and b are not determined."
    return Points(x, y, warning)


def _find_separator(lines: list[str]) -> str | None:
    """The character that splits the cells; None for spaces."""
    for character in ";\t":
        # What most rows have: one bad row does not make the others bad.
        if 2 * sum(character in line for line in lines) > len(lines):
            return character
    # "1,5 2,5" has decimal commas, "1, 2" has not; a bad row does not change what the others are.
    spaced = sum(len(cells := line.split()) == 2 and all(map(_is_decimal, cells)) for line in lines)
    return "," if 2 * spaced <= len(lines) and any("," in line for line in lines) else None


def _is_decimal(cell: str) -> bool:
    return not cell.endswith(",") and _NUMBER.fullmatch(cell.replace(",", ".", 1)) is not None


def _split(line: str, separator: str | None) -> list[str]:
    cells = [cell.strip().strip("\"'").strip() for cell in line.split(separator)]
    while len(cells) > 2 and not cells[-1]:
        cells.pop()
    return cells


def _plain(cell: str, separator: str | None) -> str:
    """The cell with a decimal point."""
    return cell if separator == "," else cell.replace(",", ".", 1)


def _looks_like_number(cell: str, separator: str | None) -> bool:
    return bool(_NUMBER.fullmatch(_plain(cell, separator)) or _NOT_FINITE.fullmatch(cell))


def _read_row(number: int, cells: list[str], separator: str | None) -> tuple[float, float]:
    if len(cells) > 2:
        remedy = "Keep two columns, x and y"
        if separator == ",":
            remedy += ", or put a semicolon between numbers with a decimal comma"
        raise ValueError(f"Row {number} has {len(cells)} cells. {remedy}.")
    values = []
    for name, cell in zip("xy", [*cells, "", ""], strict=False):
        if not cell:
            raise ValueError(f"Row {number} has no {name}. Fill the cell, or delete the row.")
        if not _NUMBER.fullmatch(_plain(cell, separator)):
            shown = cell if len(cell) <= 40 else f"{cell[:40]}..."
            kind = "not a finite number" if _NOT_FINITE.fullmatch(cell) else "not a number"
            raise ValueError(f"Row {number}: {name} is {shown!r}, {kind}. Correct it, or delete the row.")
        value = float(_plain(cell, separator))
        if not abs(value) <= LARGEST:
            raise ValueError(
                f"Row {number}: {name} is {cell[:40]}, too large. Divide the column: up to 1e15 is possible."
            )
        values.append(value)
    return values[0], values[1]
