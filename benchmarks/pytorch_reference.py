"""The suite's experiments as a practised user of PyTorch would write them: the yardstick of ``pytorch_speed.py``.

    python benchmarks/pytorch_reference.py --data-dir data --network basenet improved --seed 0 1 2
    python benchmarks/pytorch_reference.py --dataset synthetic --network residual --epochs 2 --precision bfloat16

The same images, split, augmentation, layers, initial distributions, optimizer and batches as in the suite; what PyTorch
documents as fast: channels last, autocast, the fused Adam, images kept as uint8 and resampled a batch at a time.
Prints a run a line, as JSON.

Source: https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html.
"""

import argparse
import json
import math
import time

from shared import NETWORKS, add_data_flags, answer, load_images, require_pytorch
from sklearn.model_selection import train_test_split

from common.environment import peak_memory_mb
from common.experiment import GradientDescent
from common.tensorflow_setup import available_threads

require_pytorch()
import torch  # noqa: E402  # pyright: ignore[reportMissingImports]
from torch import nn  # noqa: E402  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # noqa: E402  # pyright: ignore[reportMissingImports]

PRECISIONS = ("float32", "bfloat16")
EVALUATION_BATCH_SIZE = 250
ROTATION, SHIFT, ZOOM = math.radians(20), 0.1, (0.8, 1.2)  # as in common/augmentation.py, which imports TensorFlow


def normalize(features: int, *, images: bool) -> nn.Module:
    """Batch normalisation with Keras's constants."""
    return (nn.BatchNorm2d if images else nn.BatchNorm1d)(features, eps=1e-3, momentum=0.01)


def basenet(classes: int, *, improved: bool) -> nn.Module:
    """BaseNet, or with batch normalisation, the wider convolutions and dropout of exercise 2."""
    layers, channels = [], 3

    def activate(features, *, images):
        return [*([normalize(features, images=images)] if improved else []), nn.ReLU()]

    def convolve(filters, kernel_size, padding=0):
        nonlocal channels
        layers.extend([nn.Conv2d(channels, filters, kernel_size, padding=padding), *activate(filters, images=True)])
        channels = filters

    def drop():
        return [nn.Dropout(0.2)] if improved else []

    for filters in (6, 16):
        convolve(filters, 5)
        if improved:
            convolve(4 * filters, 3, padding=1)
        layers.append(nn.MaxPool2d(2))
    if improved:
        convolve(16, 1)
    hidden = [nn.Linear(channels * 5 * 5, 50), *activate(50, images=False)]
    return nn.Sequential(*layers, *drop(), nn.Flatten(), *hidden, *drop(), nn.Linear(50, classes))


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut around them."""

    def __init__(self, filters: int):
        super().__init__()
        self.inside = nn.Sequential(
            nn.Conv2d(filters, filters, 3, padding=1),
            normalize(filters, images=True),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1),
        )
        self.activate = nn.Sequential(normalize(filters, images=True), nn.ReLU())

    def forward(self, x):
        return self.activate(self.inside(x) + x)


def residual(classes: int) -> nn.Module:
    """The bonus's residual network."""
    layers, channels = [], 3
    for filters in (32, 64):
        convolution = nn.Conv2d(channels, filters, 5, padding=2)
        layers += [convolution, normalize(filters, images=True), nn.ReLU(), Block(filters), nn.MaxPool2d(2)]
        channels = filters
    hidden = [nn.Linear(channels * 8 * 8, 512), normalize(512, images=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.25), nn.Flatten(), *hidden, nn.Dropout(0.5), nn.Linear(512, classes))


def build(network: str, classes: int) -> nn.Module:
    """A network of ``shared.NETWORKS`` for images (batch, 3, 32, 32), with Keras's initial distributions."""
    model = residual(classes) if network == "residual" else basenet(classes, improved=network == "improved")
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def affine_maps(numbers: torch.Tensor, side: int) -> torch.Tensor:
    """``common.augmentation.affine_maps`` for square images, in the coordinates of ``affine_grid``: -1 to 1.

    Args:
        numbers: random numbers (images, 6) in [0, 1).
    """
    rotation, shift_y, shift_x, zoom_y, zoom_x, flip = numbers.unbind(1)
    angle = ROTATION * (2 * rotation - 1)
    pixels = 2 / (side - 1)  # the distance of two
    shift_y, shift_x = (SHIFT * side * pixels * (2 * shift - 1) for shift in (shift_y, shift_x))
    zoom_y, zoom_x = (ZOOM[0] + (ZOOM[1] - ZOOM[0]) * zoom for zoom in (zoom_y, zoom_x))
    mirror = torch.where(flip < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    for_x = [cos * zoom_x * mirror, sin * zoom_y, cos * shift_x + sin * shift_y]
    for_y = [-sin * zoom_x * mirror, cos * zoom_y, cos * shift_y - sin * shift_x]
    return torch.stack([torch.stack(for_x, 1), torch.stack(for_y, 1)], 1)


def transform(images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Float images (batch, 3, side, side) through their maps: bilinear, and the nearest edge outside the image."""
    grid = F.affine_grid(maps, images.shape, align_corners=True)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=True)


class Training:
    """A network and its images.

    Attributes:
        model: the network, as PyTorch or its compiler runs it.
    """

    def __init__(self, arguments, network: str, seed: int):
        torch.manual_seed(seed)
        data = load_images(arguments)
        experiment = NETWORKS[network]
        assert isinstance(experiment.learning, GradientDescent)
        self.learning = experiment.learning
        images, classes = len(data.train_labels), len(data.class_names)
        held_out = max(math.ceil(experiment.validation_fraction * images), classes)
        training, validation = train_test_split(
            range(images), test_size=held_out, stratify=data.train_labels, random_state=seed
        )

        def tensors(images, labels):  # to channels first: the resampling is faster there than channels last
            return torch.from_numpy(images.values).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)

        self.images, self.labels = tensors(data.train_images[training], data.train_labels[training])
        self.validation = tensors(data.train_images[validation], data.train_labels[validation])
        self.test = tensors(data.test_images, data.test_labels)
        pixels = self.images.float()
        self.mean = pixels.mean((0, 2, 3), keepdim=True)
        self.deviation = pixels.std((0, 2, 3), keepdim=True, correction=0)

        model = build(network, classes).to(memory_format=torch.channels_last)
        # Batches come in three sizes: a compiled network for each is faster than one for all.
        self.model = torch.compile(model, dynamic=False) if arguments.compile else model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=self.learning.learning_rate, eps=1e-7, fused=True)
        self.autocast = torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bfloat16")

    def prepare(self, images: torch.Tensor) -> torch.Tensor:
        """What the network sees of float images (batch, 3, side, side) in 0..255."""
        return ((images - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)

    def epoch(self) -> tuple[float, float]:
        """Trains an epoch; returns training loss and validation accuracy."""
        self.model.train()
        count, side = len(self.labels), self.images.shape[-1]
        order, maps = torch.randperm(count), affine_maps(torch.rand(count, 6), side)
        size, total = self.learning.batch_size, torch.zeros(())
        for chosen, some_maps in zip(order.split(size), maps.split(size)):
            batch = self.prepare(transform(self.images[chosen].float(), some_maps))
            with self.autocast:
                logits = self.model(batch)
            loss = F.cross_entropy(logits.float(), self.labels[chosen])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.detach() * len(chosen)
        return total.item() / count, self.accuracy(*self.validation)

    @torch.inference_mode()
    def accuracy(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        self.model.eval()
        correct = torch.zeros((), dtype=torch.int64)
        for batch, expected in zip(images.split(EVALUATION_BATCH_SIZE), labels.split(EVALUATION_BATCH_SIZE)):
            with self.autocast:
                logits = self.model(self.prepare(batch.float()))
            correct += (logits.argmax(1) == expected).sum()
        return correct.item() / len(labels)


def run(arguments, network: str, seed: int) -> dict:
    """One run: as many epochs as are asked for, then the test images."""
    training, epoch_seconds = Training(arguments, network, seed), []
    epochs = arguments.epochs or training.learning.epochs
    loss = accuracy = math.nan
    for _ in range(epochs):
        start = time.perf_counter()
        loss, accuracy = training.epoch()
        epoch_seconds.append(round(time.perf_counter() - start, 3))
    return {
        "network": network,
        "seed": seed,
        "loss": loss,
        "val_accuracy": accuracy,
        "test_accuracy": training.accuracy(*training.test),
        "epoch_seconds": epoch_seconds,
        "peak_memory_mb": peak_memory_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_flags(parser)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seed", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, help="in place of the experiment's own; none stops early")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--threads", type=int, default=available_threads(), help="(default: all cores)")
    parser.add_argument("--compile", action="store_true", help="torch.compile")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        training = Training(arguments, arguments.network[0], arguments.seed[0])
        answer(lambda number: training.epoch())
        return
    for network in arguments.network:
        for seed in arguments.seed:
            print(json.dumps(run(arguments, network, seed)), flush=True)


if __name__ == "__main__":
    main()
