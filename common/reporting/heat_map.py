"""A heat map, drawn over its image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image


def overlay(image: Image.Image, heat: np.ndarray, side: int) -> Image.Image:
    """The image in grey, with the heat map in colour over it.

    Args:
        heat: float (height, width), 0..1, of any size.
        side: pixels of the longer side.
    """
    grey = image.convert("L").convert("RGB")
    grey = grey.resize(scaled_size(grey.size, side / max(grey.size)), Image.Resampling.BICUBIC)
    import matplotlib  # not before: whoever reads runs may still have to prepare the process

    level = Image.fromarray(np.uint8(255 * np.clip(heat, 0, 1))).resize(grey.size, Image.Resampling.BICUBIC)
    colors = Image.fromarray(np.uint8(255 * matplotlib.colormaps["inferno"](np.asarray(level))[..., :3]))
    return Image.blend(grey, colors, 0.55)


def beside(image: Image.Image, heat: np.ndarray, side: int) -> Image.Image:
    """The image and, to the right of it, the same with the heat map over it; arguments as above."""
    right = overlay(image, heat, side)
    both = Image.new("RGB", (2 * right.width, right.height))
    both.paste(image.resize(right.size, Image.Resampling.BICUBIC), (0, 0))
    both.paste(right, (right.width, 0))
    return both


def scaled_size(size: Sequence[int], factor: float) -> tuple[int, int]:
    """Width and height times a factor, each at least 1."""
    width, height = (max(1, round(each * factor)) for each in size)
    return width, height
