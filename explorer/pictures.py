"""Small pictures of numbers: resized, tiled, painted, written as PNG."""

import base64
import io

import numpy as np
from PIL import Image

PAPER = 255
BLUE, ORANGE = (0, 114, 178), (213, 94, 0)
"""Positive and negative, of the Okabe-Ito palette, which the colour-blind can tell apart."""


def resize_square(picture: np.ndarray, left: float, top: float, extent: float, side: int) -> np.ndarray:
    """The square of a float32 picture that begins at (left, top), with smooth edges, as (side, side)."""
    square = (left, top, left + extent, top + extent)
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.HAMMING, box=square))


def unpack(pixels: str, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of this NumPy ``kind`` and shape in base64 text. Raises ValueError where it has another size."""
    return np.frombuffer(base64.b64decode(pixels), kind).reshape(shape)


def pack(array: np.ndarray, kind: str) -> str:
    """The numbers of an array, as this NumPy ``kind``, in base64 text."""
    return base64.b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()


def paint_ink(ink: np.ndarray) -> np.ndarray:
    """Ink from 0 to 255 as a drawing on paper: uint8 of the same shape."""
    return (PAPER - ink).astype(np.uint8)


def paint_signed(values: np.ndarray, limit: float = 0.0) -> np.ndarray:
    """Numbers as colours: blue above zero, orange below, white at it; uint8 with a last axis of 3.

    ``limit`` is the magnitude that has the full colour, the largest where it is 0.
    """
    values = np.nan_to_num(np.asarray(values, np.float32))
    share = np.clip(np.abs(values) / (limit or float(np.abs(values).max(initial=0.0)) or 1.0), 0, 1)[..., None]
    full = np.where(values[..., None] > 0, np.float32(BLUE), np.float32(ORANGE))
    return np.rint(PAPER + (full - PAPER) * share).astype(np.uint8)


def tile(pictures: np.ndarray, columns: int, *, gap: int = 2) -> np.ndarray:
    """Pictures (n, height, width, 3) beside and below each other on a transparent ground: (.., .., 4)."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    ground = np.zeros((rows * (height + gap) - gap, columns * (width + gap) - gap, 4), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (number // columns) * (height + gap), (number % columns) * (width + gap)
        ground[top : top + height, left : left + width, :3] = picture
        ground[top : top + height, left : left + width, 3] = 255
    return ground


def tile_numbers(values: list[float], *, columns: int) -> np.ndarray:
    """Numbers as coloured squares, row by row on a transparent ground: uint8 (rows, columns, 4)."""
    painted = paint_signed(np.asarray(values, np.float32))
    return tile(painted[:, None, None, :], min(columns, max(1, len(values))), gap=0)


def write_address(picture: np.ndarray) -> str:
    """A uint8 picture, grey, RGB or RGBA, as a ``data:`` address of a PNG that a page can show without a request."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
