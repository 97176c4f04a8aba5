"""Test images that a network misclassifies, or classifies with little confidence, and where it looks: for the page."""

import base64
import math
from io import BytesIO

import numpy as np
from PIL import Image

from common.reporting.heat_map import overlay, scaled_size
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
    overlays = {index: overlay(Image.fromarray(images[index]), values, SIDE) for index, values in heat}
    return {
        "images": {index: _image_url(_shrunk(Image.fromarray(image))) for index, image in images.items()},
        "heat_maps": {index: _image_url(image) for index, image in overlays.items()},
        "filters": _image_url(_mosaic(examples["filters"])) if "filters" in examples else "",
    }


def _shrunk(image: Image.Image) -> Image.Image:
    longest = max(image.size)
    if longest <= SIDE:
        return image
    return image.resize(scaled_size(image.size, SIDE / longest), Image.Resampling.LANCZOS)


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


def _image_url(image: Image.Image) -> str:
    """Small images without loss, others as JPEG."""
    kind = "png" if max(image.size) < SIDE else "jpeg"
    file = BytesIO()
    image.save(file, kind, quality=82)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
