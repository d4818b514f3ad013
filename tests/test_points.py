"""Pasted text into points, or an error that names its row."""

import math

import pytest

from explorer.points import MOST_CHARACTERS, MOST_POINTS, make_points, parse_points


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4.5",
        "1, 2\n3, 4.5\n",
        "1;2\n3;4.5",
        "1;2\n3;4,5",
        "1\t2\n3\t4,5",
        "1 2\n3 4.5",
        "1  2\n3 4,5",
        "x,y\n1,2\n3,4.5",
        "years; price\n1;2\n3;4,5",
        "size price\n1 2\n3 4,5",
        "\ufeff1,2\r\n\r\n# a remark\r\n3,4.5,\r\n",
        '"x","y"\n"1","2"\n"3","4.5"',
        "+1e0,.2e1\n3.,45e-1",
    ],
)
def test_points_are_read_from_every_form(text: str) -> None:
    points = parse_points(text)
    assert (points.x, points.y, points.warning) == ((1.0, 3.0), (2.0, 4.5), None)
    assert len(points) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3,four", r"^Row 2: y is 'four', not a number\. Correct it, or delete the row\.$"),
        ("x,y\n\n1,2\nabc,4\n5,6", r"^Row 4: x is 'abc', not a number"),
        ("1,x\n3,4", r"^Row 1: y is 'x'"),
        ("1,2\n3,\n5,6", r"^Row 2 has no y\. Fill the cell"),
        ("1,2\n,4", r"^Row 2 has no x"),
        ("1,2\n3", r"^Row 2 has no y"),
        ("1,2\n3,nan", r"^Row 2: y is 'nan', not a finite number"),
        ("1,2\n-inf,3", r"^Row 2: x is '-inf', not a finite number"),
        ("nan,nan\n1,2", r"^Row 1: x is 'nan'"),
        ("1,2\n1e999,3", r"^Row 2: x is 1e999, too large"),
        ("1,2\n3,4,5", r"^Row 2 has 3 cells\. Keep two columns, x and y, or put a semicolon"),
        ("1;2;3\n1;2;3", r"^Row 1 has 3 cells\. Keep two columns, x and y\.$"),
        ("1,5 2,5\n3,5 abc\n1,5 2,5", r"^Row 2: y is 'abc'"),
        ("1.234,5;1\n1;2", r"^Row 1: x is '1.234,5', not a number"),
        ("1_000,2\n1,2", r"^Row 1: x is '1_000'"),
        ("\u0661,2\n1,2", "^Row 1: x is '\u0661'"),
        ("1,0x10\n1,2", r"^Row 1: y is '0x10'"),
        ("1,2", r"^There is one point; a line needs at least 2"),
        ("", r"^There is no point"),
        ("\n \n", r"^There is no point"),
        ("x,y", r"^There is no point"),
        ("x,y\n1,2", r"^There is one point"),
        ("1,2\n" + "9" * 400 + ",1", r"^Row 2: x is 9{40}, too large"),
        ("x,y\n1,2\n2;3\n3,4", r"^Row 3: x is '2;3', not a number"),
        ("1,2\n1," + "a" * 400, r"^Row 2: y is 'a{40}\.\.\.'"),
    ],
)
def test_bad_row_is_named_with_its_remedy(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_points(text)


def test_too_many_rows_are_refused_with_a_remedy() -> None:
    rows = "\n".join(f"{number},1" for number in range(MOST_POINTS * 2 + 1))
    with pytest.raises(ValueError, match=r"2,001 rows; at most 1,000 can be used. Keep one row in 3"):
        parse_points(rows)
    assert len(parse_points("\n".join(rows.splitlines()[:MOST_POINTS]))) == MOST_POINTS


def test_huge_text_is_refused_unread() -> None:
    with pytest.raises(ValueError, match="characters; at most 100,000"):
        parse_points("1,2\n" * MOST_CHARACTERS)


def test_equal_x_and_a_single_point_are_warned_of() -> None:
    assert "All x are 2" in (parse_points("2,1\n2,3").warning or "")
    assert "one point" in (make_points([(1.0, 2.0)]).warning or "")


@pytest.mark.parametrize("pairs", [[], [(1.0, math.nan)], [(math.inf, 1.0)], [(1e16, 1.0)], [(0.0, 0.0)] * 1001])
def test_points_that_no_program_can_hold_are_refused(pairs: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="point"):
        make_points(pairs)
