"""Handwriting: a drawn digit centred and scaled as the digits were that a network learns from."""

import math

import numpy as np

from explorer.pictures import resize_square

MNIST_BOX = 20 / 28
"""The part of the field that a digit's box fills: "The original black and white (bilevel) images from NIST were size
normalized to fit in a 20x20 pixel box while preserving their aspect ratio. The resulting images contain grey levels as
a result of the anti-aliasing technique used by the normalization algorithm. The images were centered in a 28x28 image
by computing the center of mass of the pixels, and translating the image so as to position this point at the center of
the 28x28 field." Y. LeCun, C. Cortes and C. Burges, http://yann.lecun.com/exdb/mnist/"""

SMALL_SIDE = 8
"""The side of scikit-learn's digits, UCI optdigits, in which a digit's box fills the whole field: "normalized bitmaps
of handwritten digits", 32x32, of whose blocks of 4x4 the ink was counted. https://archive.ics.uci.edu/dataset/80"""


def read_ink(pixels: bytes) -> np.ndarray:
    """The bytes of a square picture, row by row, as uint8 (side, side)."""
    side = math.isqrt(len(pixels))
    return np.frombuffer(pixels, np.uint8).reshape(side, side)


def centre_digit(pixels: np.ndarray, *, side: int = 28) -> np.ndarray | None:
    """The ink of a drawing as a float32 (side, side) picture from 0, paper, to 1, ink; None where there is no ink.

    ``pixels`` is (height, width), 0 to 255. The longer side of the ink's box becomes 20/28 of ``side`` and its centre
    of mass comes to the pixel (side / 2, side / 2), the mean place in MNIST, as near as the box stays in the field.
    MNIST was moved by whole pixels; this is not, so that a digit does not jump while it is drawn. ``side`` 8 fills the
    field with the box and centres that.
    """
    ink = np.asarray(pixels, np.float32)
    if not ink.any():
        return None
    edges = [_find_edges(ink.max(axis=1 - axis)) for axis in (0, 1)]
    extent = max(end - begin for begin, end in edges)
    if side == SMALL_SIDE:
        starts = [(begin + end - extent) / 2 for begin, end in edges]
    else:
        extent /= MNIST_BOX
        middle = (side / 2 + 0.5) / side * extent
        starts = [
            float(np.clip(_find_centre(ink.sum(axis=1 - axis)) - middle, end - extent, begin))
            for axis, (begin, end) in enumerate(edges)
        ]
    return _cut_out(ink, starts, extent, side)


def _find_edges(profile: np.ndarray) -> tuple[float, float]:
    """Where the ink begins and ends along one side: a grey edge is ink that covers a part of its pixel."""
    inked = np.flatnonzero(profile)
    begin, end = (1 - float(profile[place] / profile.max()) for place in (inked[0], inked[-1]))
    return float(inked[0]) + begin, float(inked[-1]) + 1 - end


def _find_centre(profile: np.ndarray) -> float:
    return float((profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum())


def _cut_out(ink: np.ndarray, starts: list[float], extent: float, side: int) -> np.ndarray:
    """The square of the drawing that begins at ``starts`` (row, column), with smooth edges, as (side, side)."""
    margin = int(np.ceil(extent))
    top, left = (start + margin for start in starts)
    picture = resize_square(np.pad(ink, margin), left, top, extent, side)
    return np.clip(picture / np.float32(255), 0, 1)
