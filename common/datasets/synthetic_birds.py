"""Drawn birds that need no download: 20 species, 4 silhouettes in 5 plumages, as files in the form of CUB-200."""

import io
from pathlib import Path

import numpy as np

from common.datasets import cub200
from common.datasets.archives import writable_home
from common.datasets.image_data import DataFolder, DataSet, ImageData
from common.datasets.image_files import size_flags
from common.files import atomic_folder, make_once

TRAIN_IMAGES, TEST_IMAGES = 4, 4  # a species
SIZE = 96
SEED = 200
FOLDER = "synthetic_birds"

SILHOUETTES = {  # body length and height, neck, beak, tail
    "wader": (0.26, 0.15, 0.26, 0.22, 0.12),
    "finch": (0.26, 0.20, 0.08, 0.07, 0.16),
    "duck": (0.34, 0.17, 0.14, 0.10, 0.06),
    "magpie": (0.22, 0.14, 0.10, 0.10, 0.40),
}
PLUMAGES = {  # body, wing, head
    "red": ((0.80, 0.15, 0.15), (0.45, 0.10, 0.10), (0.15, 0.10, 0.10)),
    "blue": ((0.20, 0.35, 0.85), (0.10, 0.15, 0.45), (0.90, 0.90, 0.95)),
    "yellow": ((0.95, 0.85, 0.20), (0.20, 0.20, 0.15), (0.95, 0.60, 0.10)),
    "green": ((0.20, 0.60, 0.30), (0.60, 0.75, 0.25), (0.55, 0.15, 0.45)),
    "pied": ((0.95, 0.95, 0.95), (0.08, 0.08, 0.10), (0.08, 0.08, 0.10)),
}


def find(folder: DataFolder) -> Path:
    """``synthetic_birds/`` in the data folder, drawn first if it is not there; the same files every time."""
    for home in (folder.path, folder.spare):
        if (home / FOLDER).is_dir():
            return home / FOLDER
    target = writable_home(folder, FOLDER) / FOLDER

    def draw():
        with atomic_folder(target) as temporary:
            _write(temporary)

    make_once(target, draw)
    return target


def _write(folder: Path) -> None:
    lists = {"train": [], "test": []}
    kinds = [(silhouette, plumage) for silhouette in SILHOUETTES for plumage in PLUMAGES]
    for number, (silhouette, plumage) in enumerate(kinds, start=1):
        species = f"{number:03d}.{plumage.capitalize()}_{silhouette}"
        (folder / "images" / species).mkdir(parents=True)
        random = np.random.default_rng((SEED, number))
        for image in range(TRAIN_IMAGES + TEST_IMAGES):
            path = f"{species}/{plumage}_{silhouette}_{image:04d}.jpg"
            (folder / "images" / path).write_bytes(_draw(random, SILHOUETTES[silhouette], PLUMAGES[plumage]))
            lists["train" if image < TRAIN_IMAGES else "test"].append(path)
    (folder / "lists").mkdir()
    for name, paths in lists.items():
        (folder / "lists" / f"{name}.txt").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")


def _draw(random: np.random.Generator, silhouette, plumage) -> bytes:
    """A JPEG file: one bird, standing at a random place, size and slope, before blurred ground and sky."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse, Polygon
    from matplotlib.transforms import Affine2D

    length, height, neck, beak, tail = np.array(silhouette) * random.uniform(0.9, 1.1, 5)
    body, wing, head = (np.clip(np.array(colour) + random.normal(0, 0.05, 3), 0, 1) for colour in plumage)
    figure = Figure(figsize=(1, 1), dpi=SIZE)
    sky, ground = random.uniform(0.3, 0.9, 3), random.uniform(0.1, 0.6, 3)
    slope = np.clip(np.linspace(1.2, -0.2, SIZE) + random.normal(0, 0.1), 0, 1)[:, None, None]
    background = sky * slope + ground * (1 - slope) + random.normal(0, 0.04, (SIZE, SIZE, 3))
    figure.figimage(np.clip(background, 0, 1))

    place = (
        Affine2D()
        .scale(random.choice((-1, 1)) * random.uniform(1.5, 2.1), random.uniform(1.5, 2.1))
        .rotate_deg(random.uniform(-12, 12))
        .translate(*random.uniform(-0.2, 0.2, 2))
        .translate(1, 1)
        .scale(0.5)  # from -1..1 to 0..1
        + figure.transFigure
    )
    head_x, head_y = length * 0.9, neck + height * 0.4
    for shape in (
        Polygon([(-length * 0.7, 0.05), (-length - tail, -0.02), (-length * 0.7, -0.06)], color=wing),
        Polygon([(length * 0.3, 0), (head_x - 0.05, head_y), (head_x + 0.05, head_y), (length * 0.9, 0)], color=body),
        Ellipse((0, 0), 2 * length, 2 * height, color=body),
        Ellipse((-length * 0.15, 0.02), 1.1 * length, 0.9 * height, angle=-12, color=wing),
        Ellipse((head_x, head_y), 0.17, 0.16, color=head),
        Polygon(
            [(head_x + 0.06, head_y + 0.03), (head_x + 0.06 + beak, head_y), (head_x + 0.06, head_y - 0.03)],
            color=(0.9, 0.6, 0.2),
        ),
        *(
            Polygon([(x, -height * 0.8), (x, -height - 0.15)], color=(0.3, 0.2, 0.1), closed=False, linewidth=1)
            for x in (-0.04, 0.06)
        ),
    ):
        shape.set_transform(place)
        figure.add_artist(shape)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"savefig.dpi": SIZE}):
        figure.savefig(buffer, format="jpg", pil_kwargs={"quality": 95})
    return buffer.getvalue()


def _load(folder: DataFolder, classes, options) -> ImageData:
    return cub200.read(find(folder), "synthetic", options["image_size"], options["resize"])


SYNTHETIC_BIRDS = DataSet(
    name="synthetic",
    description="drawn birds, no download",
    class_count=len(SILHOUETTES) * len(PLUMAGES),
    default_classes=tuple(range(len(SILHOUETTES) * len(PLUMAGES))),
    image_size=32,
    load=_load,
    why_not_comparable=lambda data, options: "drawn images",
    flags=size_flags(32),
)
