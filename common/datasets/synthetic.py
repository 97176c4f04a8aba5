"""Drawn images that need no download: 25 classes, 5 shapes with 5 textures each."""

import numpy as np

from common.datasets.image_data import DataSet, ImageArray, ImageData

SIZE = 32
TRAIN_IMAGES, TEST_IMAGES = 500, 100  # per class
SEED = 25


def load(classes: tuple[int, ...]) -> ImageData:
    """32×32 colour images of the given classes, out of 0..24; the others have a name and no images.

    Position, size, rotation, colours, background and noise vary from image to image; the class is
    the shape and the texture inside it, as in "circle striped". The images of a class are the same on
    every call, whatever other classes are drawn.
    """
    kinds = [(shape, texture) for shape in SHAPES for texture in TEXTURES]
    train, test = [], []
    for label in classes:
        shape, texture = kinds[label]
        random = np.random.default_rng((SEED, label))
        images = _draw(random, TRAIN_IMAGES + TEST_IMAGES, SHAPES[shape], TEXTURES[texture])
        train.append(images[:TRAIN_IMAGES])
        test.append(images[TRAIN_IMAGES:])
    return ImageData(
        name="synthetic",
        train_images=ImageArray(np.concatenate(train)),
        train_labels=np.repeat(classes, TRAIN_IMAGES),
        test_images=ImageArray(np.concatenate(test)),
        test_labels=np.repeat(classes, TEST_IMAGES),
        class_names=tuple(f"{shape} {texture}" for shape, texture in kinds),
    )


def _polygon(corners: int, inner_radius: float):
    angles = 2 * np.pi * np.arange(corners) / corners
    return lambda x, y: np.max([x * np.cos(a) + y * np.sin(a) for a in angles], axis=0) - inner_radius


# Shapes: below 0 inside, about 1 wide, at (x, y) in units of the size.
SHAPES = {
    "circle": lambda x, y: np.hypot(x, y) - 0.8,
    "triangle": _polygon(3, 0.5),
    "square": _polygon(4, 0.72),
    "cross": lambda x, y: np.minimum(np.maximum(abs(x) - 0.34, abs(y) - 1), np.maximum(abs(x) - 1, abs(y) - 0.34)),
    "flower": lambda x, y: np.hypot(x, y) - (0.68 + 0.32 * np.cos(5 * np.arctan2(y, x))),
}

# Textures: above 0 in the second colour, at (x, y) in radians of a pattern.
TEXTURES = {
    "plain": lambda x, y: np.full_like(x, -1),
    "striped": lambda x, y: np.sin(x),
    "chequered": lambda x, y: np.sin(x) * np.sin(y),
    "dotted": lambda x, y: np.cos(x) + np.cos(y) - 0.6,
    "ringed": lambda x, y: np.sin(np.hypot(x, y)),
}


def _draw(random: np.random.Generator, count: int, shape, texture) -> np.ndarray:
    """uint8 (count, 32, 32, 3) of one class."""

    def uniform(low, high, *more):
        return random.uniform(low, high, (count, *more)).astype(np.float32)

    def per_image(values):
        return values[:, None, None]

    axis = np.linspace(-1, 1, SIZE, dtype=np.float32)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    angle = per_image(uniform(-0.6, 0.6))
    x = columns - per_image(uniform(-0.2, 0.2))
    y = rows - per_image(uniform(-0.2, 0.2))
    x, y = x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)

    size = per_image(uniform(0.6, 0.9))
    inside = _step(-shape(x / size, y / size) * size, 0.04)
    frequency, phase = per_image(uniform(9, 12)), per_image(uniform(-np.pi, np.pi))
    second = _step(texture(x * frequency + phase, y * frequency + phase), 0.3)

    first_colour, second_colour = _two_colours(uniform)
    object_ = first_colour + (second_colour - first_colour) * second[..., None]
    slope = uniform(-0.3, 0.3, 2, 3)
    background = (
        uniform(0, 1, 3)[:, None, None]
        + columns[..., None] * slope[:, None, None, 0]
        + rows[..., None] * slope[:, None, None, 1]
    )
    images = background + (object_ - background) * inside[..., None]
    images += per_image(uniform(0.02, 0.08))[..., None] * random.standard_normal(images.shape, np.float32)
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _two_colours(uniform) -> tuple[np.ndarray, np.ndarray]:
    """Two colours an image, (count, 1, 1, 3) each, that can be told apart in every channel."""
    first = uniform(0, 1, 3)
    away = np.where(first > 0.5, -1, 1) * uniform(0.35, 0.6, 3)
    return first[:, None, None], (first + away)[:, None, None]


def _step(values: np.ndarray, width: float) -> np.ndarray:
    """0 below, 1 above, with a slope as wide as given in between."""
    return np.clip(values / width + 0.5, 0, 1)


SYNTHETIC = DataSet(
    name="synthetic",
    description="drawn shapes and textures, no download",
    class_count=len(SHAPES) * len(TEXTURES),
    default_classes=tuple(range(len(SHAPES) * len(TEXTURES))),
    image_size=SIZE,
    load=lambda folder, classes, options: load(classes),
    why_not_comparable=lambda data, options: "drawn images",
)
