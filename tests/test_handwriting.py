"""A drawn digit comes out as MNIST's digits were made, wherever and however large it was drawn."""

import gzip
import os

import numpy as np
import pytest
from conftest import SHARED
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from explorer.handwriting import centre_digit

FIELD = 224
SEVEN = [(0.1, 0.05), (0.75, 0.0), (0.45, 0.5), (0.35, 1.0)]
TWO = [(0.1, 0.25), (0.2, 0.05), (0.5, 0.0), (0.75, 0.2), (0.5, 0.6), (0.1, 1.0), (0.85, 0.95)]


def draw(points: list[tuple[float, float]], *, left: float = 0.2, top: float = 0.15, size: float = 0.6) -> np.ndarray:
    """A digit by a pen whose width is a seventh of its size; 56 x 56, grey at the edges as the browser draws it."""
    picture = Image.new("L", (FIELD, FIELD))
    pencil = ImageDraw.Draw(picture)
    places = [((left + x * size) * FIELD, (top + y * size) * FIELD) for x, y in points]
    radius = size * FIELD / 14
    pencil.line(places, fill=255, width=round(2 * radius))
    for x, y in places:
        pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(picture.resize((56, 56), Image.Resampling.BOX))


def find_centre(picture: np.ndarray) -> tuple[float, float]:
    rows, columns = np.indices(picture.shape)
    return float((picture * rows).sum() / picture.sum()), float((picture * columns).sum() / picture.sum())


def measure_box(picture: np.ndarray) -> tuple[float, float]:
    """The height and the width of the ink, where a grey edge is a part of a pixel."""
    lengths = []
    for profile in (picture.max(axis=1) / picture.max(), picture.max(axis=0) / picture.max()):
        inked = np.flatnonzero(profile > 0.5)
        length = inked[-1] - inked[0] + 1.0
        for place, outside in ((inked[0], -1), (inked[-1], 1)):
            beside = place + outside
            length += profile[place] - 1 + (profile[beside] if 0 <= beside < len(profile) else 0)
        lengths.append(float(length))
    return lengths[0], lengths[1]


def correlate(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def read_digits(count: int) -> np.ndarray:
    """The first test digits of MNIST, uint8 (count, 28, 28), from their IDX file."""
    path = SHARED / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.exists():
        if os.environ.get("CI"):
            raise FileNotFoundError(f"{path} must be there in CI")
        pytest.skip("MNIST's digits are not part of the repository")
    with gzip.open(path) as file:
        return np.frombuffer(file.read(16 + count * 28 * 28), np.uint8, offset=16).reshape(count, 28, 28)


@pytest.mark.parametrize("points", [SEVEN, TWO])
def test_the_centre_of_mass_is_within_half_a_pixel_of_the_centre(points: list[tuple[float, float]]) -> None:
    centred = centre_digit(draw(points))
    assert centred.dtype == np.float32 and centred.shape == (28, 28)
    assert centred.min() == 0 and centred.max() == pytest.approx(1)
    # MNIST's own digits lie around the pixel (14, 14), whose middle is half a pixel from that of the field.
    assert find_centre(centred) == pytest.approx((14, 14), abs=0.1)


def test_the_centre_is_where_mnist_has_it() -> None:
    centres = np.array([find_centre(digit) for digit in read_digits(2_000)])
    assert centres.mean(axis=0) == pytest.approx((14, 14), abs=0.05)
    assert abs(centres - 14).max() <= 0.5


@pytest.mark.parametrize("points", [SEVEN, TWO])
@pytest.mark.parametrize("size", [0.15, 0.4, 0.75])
def test_the_box_fits_20_pixels_and_keeps_its_aspect_ratio(points: list[tuple[float, float]], size: float) -> None:
    height, width = measure_box(centre_digit(draw(points, size=size)))
    tall, wide = measure_box(draw(points, size=0.8))
    assert max(height, width) == pytest.approx(20, abs=0.5)
    assert width / height == pytest.approx(wide / tall, abs=0.06)


def test_a_wide_drawing_is_20_pixels_wide() -> None:
    drawing = np.zeros((56, 56), np.uint8)
    drawing[30:34, 5:45] = 255
    assert measure_box(centre_digit(drawing)) == pytest.approx((2, 20), abs=0.2)


@pytest.mark.parametrize("points", [SEVEN, TWO])
@pytest.mark.parametrize("side", [28, 8])
def test_place_and_size_of_the_drawing_do_not_matter(points: list[tuple[float, float]], side: int) -> None:
    large = centre_digit(draw(points, left=0.2, top=0.1, size=0.8), side=side)
    small = centre_digit(draw(points, left=0.68, top=0.65, size=0.28), side=side)
    assert correlate(large, small) > 0.95


@given(left=st.integers(0, 20), top=st.integers(0, 20), side=st.sampled_from([28, 8]))
def test_a_drawing_that_is_moved_gives_the_same_picture(left: int, top: int, side: int) -> None:
    digit = draw(TWO, left=0.05, top=0.05, size=0.5)[:35, :35]
    drawing = np.zeros((56, 56), np.uint8)
    drawing[top : top + 35, left : left + 35] = digit
    assert centre_digit(drawing, side=side) == pytest.approx(centre_digit(digit, side=side), abs=1e-3)


def test_no_ink_gives_none() -> None:
    assert centre_digit(np.zeros((56, 56), np.uint8)) is None
    assert centre_digit(np.zeros((56, 56), np.uint8), side=8) is None


@pytest.mark.parametrize("side", [28, 8])
@pytest.mark.parametrize("grey", [1, 255])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (30, 20), (55, 55)])
def test_a_single_dot_is_a_blot_in_the_middle(side: int, grey: int, row: int, column: int) -> None:
    drawing = np.zeros((56, 56), np.uint8)
    drawing[row, column] = grey
    centred = centre_digit(drawing, side=side)
    assert centred.max() == pytest.approx(grey / 255, rel=0.02)
    middle = (14, 14) if side == 28 else (3.5, 3.5)
    assert find_centre(centred) == pytest.approx(middle, abs=0.1)
    assert measure_box(centred) == pytest.approx((20, 20) if side == 28 else (8, 8), abs=1)


@given(
    places=st.lists(st.tuples(st.integers(0, 55), st.integers(0, 55), st.integers(1, 255)), min_size=1, max_size=6),
    side=st.sampled_from([28, 8]),
)
def test_whatever_is_drawn_lies_inside_the_field(places: list[tuple[int, int, int]], side: int) -> None:
    drawing = np.zeros((56, 56), np.uint8)
    for row, column, grey in places:
        drawing[row, column] = grey
    centred = centre_digit(drawing, side=side)
    assert centred.shape == (side, side) and centred.dtype == np.float32
    assert centred.min() >= 0 and 0 < centred.max() <= 1


def test_the_box_of_a_lopsided_drawing_stays_inside_the_field() -> None:
    drawing = np.zeros((56, 56), np.uint8)
    drawing[20:40, 5:25] = 255
    drawing[29, 5:55] = 255
    centred = centre_digit(drawing)
    inked = np.flatnonzero(centred.max(axis=0) > 0.1)
    assert (inked[0], inked[-1]) == (8, 27)


@pytest.mark.parametrize("points", [SEVEN, TWO])
def test_a_small_picture_is_filled_from_edge_to_edge(points: list[tuple[float, float]]) -> None:
    centred = centre_digit(draw(points), side=8)
    assert centred.shape == (8, 8)
    assert centred[0].max() > 0.3 and centred[-1].max() > 0.3
    assert measure_box(centred)[0] == pytest.approx(8, abs=0.5)
    columns = np.flatnonzero(centred.max(axis=0) > 0.1)
    assert columns[0] == 7 - columns[-1]


def test_a_digit_of_mnist_comes_back_wherever_it_was_moved() -> None:
    chance = np.random.default_rng(0)
    alike = []
    for digit in read_digits(200):
        drawing = np.zeros((160, 160), np.uint8)
        top, left = chance.integers(0, 160 - 112, 2)
        drawing[top : top + 112, left : left + 112] = np.kron(digit, np.ones((4, 4), np.uint8))
        centred = centre_digit(drawing)
        # MNIST moved its digits by whole pixels, so that some lie up to half a pixel elsewhere.
        alike.append(correlate(centred, digit))
        assert correlate(centred, centre_digit(digit)) > 0.95
    assert np.mean(alike) > 0.95
