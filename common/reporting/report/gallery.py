"""Test images that a network misclassifies, or classifies with little confidence, and where it looks: for the page."""

import base64
import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from PIL import Image

from common.reporting.run_folder import Run

SIDE = 96  # pixels, of images that are larger, and of all with a heat map
ARRAYS = ("mistakes", "correct", "pairs", "index", "image", "label", "predicted", "confidence")
FILTER_SIDE, FILTERS_A_ROW = 28, 16


def read_examples(run: Run) -> dict[str, np.ndarray] | None:
    """What ``common.examples.collect`` left with a run; None where it was not kept.

    Raises:
        ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error: the file is damaged.
    """
    path = run.folder / "examples.npz"
    if not path.exists():
        return None
    with open(path, "rb") as file, np.load(file) as arrays:  # NumPy would leave a damaged one open
        found = {name: arrays[name] for name in arrays.files}
    if missing := [name for name in ARRAYS if name not in found]:
        raise ValueError(f"examples.npz lacks {missing[0]}")
    return found


def gallery(run: Run, examples: dict[str, np.ndarray]) -> dict:
    """What the page shows of a run's examples, without pixels.

    Returns:
        ``mistakes``, ``correct`` and ``heat_maps`` (those with one): each image with its ``index`` among the test
        images, the ``true`` and the ``predicted`` class and the ``confidence``; ``pairs`` of ``true`` and
        ``predicted`` with the images ``mistaken`` and ``correct``; ``filters``, how many.
    """
    classes = [name.replace("_", " ") for name in run.config["dataset"]["classes"]]
    place = {int(index): number for number, index in enumerate(examples["index"])}

    def shown(index: int) -> dict:
        number = place[int(index)]
        return {
            "index": int(index),
            "true": classes[examples["label"][number]],
            "predicted": classes[examples["predicted"][number]],
            "confidence": float(examples["confidence"][number]),
        }

    return {
        "mistakes": [shown(index) for index in examples["mistakes"]],
        "correct": [shown(index) for index in examples["correct"]],
        "pairs": [
            {
                "true": classes[true],
                "predicted": classes[predicted],
                "mistaken": shown(mistaken),
                "correct": shown(hit) if hit >= 0 else None,
            }
            for true, predicted, mistaken, hit in examples["pairs"]
        ],
        "heat_maps": [shown(index) for index in examples.get("heat_map_of", ())],
        "filters": examples["filters"].shape[-1] if "filters" in examples else 0,
    }


def pixels(examples: dict[str, np.ndarray]) -> dict[str, dict[int, str] | str]:
    """The images as URLs: ``images`` and ``heat_maps``, by the index among the test images, and ``filters``."""
    images = dict(zip(examples["index"].tolist(), examples["image"]))
    heat = zip(examples.get("heat_map_of", np.array([], int)).tolist(), examples.get("heat_map", ()))
    return {
        "images": {index: _image_url(_shrunk(Image.fromarray(image))) for index, image in images.items()},
        "heat_maps": {index: _image_url(_overlay(images[index], values)) for index, values in heat},
        "filters": _image_url(_mosaic(examples["filters"])) if "filters" in examples else "",
    }


def _shrunk(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= SIDE:
        return image
    return image.resize(_scaled(image.size, SIDE / longest), Image.Resampling.LANCZOS)


def _overlay(image: np.ndarray, heat: np.ndarray) -> Image.Image:
    """The image in grey, with the heat map in colour over it."""
    grey = Image.fromarray(image)
    grey = grey.convert("L").convert("RGB").resize(_scaled(grey.size, SIDE / max(grey.size)), Image.Resampling.BICUBIC)
    level = Image.fromarray(np.uint8(255 * np.clip(heat, 0, 1))).resize(grey.size, Image.Resampling.BICUBIC)
    import matplotlib  # not before: whoever reads runs may still have to prepare the process

    colors = Image.fromarray(np.uint8(255 * matplotlib.colormaps["inferno"](np.asarray(level))[..., :3]))
    return Image.blend(grey, colors, 0.55)


def _mosaic(kernel: np.ndarray) -> Image.Image:
    """Filters (height, width, 3, filters) side by side, each scaled to its own range, with a pixel between them."""
    count = kernel.shape[-1]
    rows, columns = math.ceil(count / FILTERS_A_ROW), min(count, FILTERS_A_ROW)
    step = FILTER_SIDE + 2
    whole = Image.new("RGB", (columns * step, rows * step), "white")
    for number in range(count):
        one = kernel[..., number]
        scaled = (one - one.min()) / max(float(one.max() - one.min()), 1e-12)
        tile = Image.fromarray(np.uint8(np.round(255 * scaled)))
        row, column = divmod(number, FILTERS_A_ROW)
        whole.paste(tile.resize((FILTER_SIDE, FILTER_SIDE), Image.Resampling.NEAREST), (column * step, row * step))
    return whole


def _scaled(size: Sequence[int], factor: float) -> tuple[int, int]:
    width, height = (max(1, round(side * factor)) for side in size)
    return width, height


def _image_url(image: Image.Image) -> str:
    """Small images without loss, others as JPEG."""
    kind = "png" if max(image.size) < SIDE else "jpeg"
    file = BytesIO()
    image.save(file, kind, quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
