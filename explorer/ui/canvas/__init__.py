"""The canvas: paper on which a digit is drawn with mouse, finger or pen; its picture comes while it is drawn."""

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from explorer.ui import register_component

SIDE = 56
"""Pixels on each side of the picture that the browser sends."""

_mount = register_component("explorer.ui.canvas", "canvas.js")


@dataclass(frozen=True, slots=True)
class Ink:
    """What is drawn, as ``pixels``: one byte each, row by row of SIDE, 0 where there is paper, 255 where there is ink.

    The strokes lie where they were drawn, in a pen as wide for the size of the drawing as MNIST's.
    """

    pixels: bytes


def draw_digit(*, key: str, height: int = 280) -> Ink | None:
    """Show square paper of ``height`` pixels, less where the page is narrow; the ink on it, None while it is empty."""
    result = _mount(key=key, data={"key": key, "height": height}, on_ink_change=lambda: None)
    return _read_ink(result.get("ink"))


def _read_ink(sent: Any) -> Ink | None:
    """The ink in a message of the browser, which may hold anything; None if it is not a picture of ours."""
    if not isinstance(sent, dict) or sent.get("side") != SIDE or not isinstance(sent.get("pixels"), str):
        return None
    # Four letters are three bytes: a longer text is not even read.
    if len(sent["pixels"]) != -(-SIDE * SIDE // 3) * 4:
        return None
    try:
        grey = base64.b64decode(sent["pixels"], validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(grey) != SIDE * SIDE:
        return None
    return Ink(grey)
