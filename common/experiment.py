"""An experiment is a value: everything that decides a variant stands in one frozen dataclass."""

import dataclasses
import json
import math
from dataclasses import asdict, dataclass, field, replace

from common.errors import UserError

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # --precision: Keras's dtype policy

SELDOM_USED = ("parts", "label_smoothing", "weight_decay", "flip_average", "warmup", "transfer")


@dataclass(frozen=True)
class Reported:
    """What the report prints for a variant: test loss, test accuracy (0..1), figure numbers."""

    loss: float
    accuracy: float
    figures: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A part of a fine-tuning.

    Attributes:
        until: the last epoch of the stage, from 1; the last stage goes on to the end of the run.
        trains: which of ResNet50's layers learn, beside the head: beginnings of their names.
        rate: multiplies the experiment's learning rate.
    """

    until: int
    trains: tuple[str, ...]
    rate: float


@dataclass(frozen=True)
class Transfer:
    """How an experiment uses ResNet50.

    Attributes:
        input: what the trained network sees: "pooled", "pooled-flip-average" or "map" (what frozen
            ResNet50 says of each image, ``common.features``), or "images" (ResNet50 is part of the
            network and trained).
        frozen_batch_normalization: keeps every batch normalisation of ResNet50 in inference mode.
        head: "logistic" starts a fine-tuning with the head that logistic regression finds on the
            pooled features; "random" with fresh weights.
        stages: the parts of a fine-tuning; none: all layers learn from the first epoch to the last.
    """

    input: str
    frozen_batch_normalization: bool = False
    head: str = "random"
    stages: tuple[Stage, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """All of one variant; a new one is made from another with ``dataclasses.replace``.

    Attributes:
        name: what ``--variant`` calls it, and the name of its folder.
        description: one line for ``--list``.
        network: a name in ``common.models.NETWORKS``.
        network_options: keyword arguments for that network's function.
        optimizer: "adam" (Keras's defaults) or "sgd" (momentum 0.9, Nesterov); or, for a network
            whose last layer alone has weights, "svm" or "logistic" of scikit-learn (``common.classical``).
        learning_rate: the rate at the first step; with ``warmup`` the highest.
        learning_rate_decay: the rate at step t is ``learning_rate / (1 + learning_rate_decay * t)``.
        epochs: the most epochs a run may take.
        batch_size: images in a training batch.
        parts: how many parts of a batch are computed one after the other, to save memory; a step takes
            the mean of their gradients. Batch normalisation sees a part; rates are by parts, not steps;
            a step may reach into the next epoch. Of ResNet50: with images of 224×224 (``in_parts``).
        validation_fraction: part of the training images held out, in (0, 1); at least as many as there are classes.
        normalize: mean 0 and variance 1 for each channel; otherwise pixels are divided by 255.
        augment: random affine maps of the training images (``common.augmentation``).
        patience: epochs in a row without a better validation loss or accuracy that end the run,
            whose best weights are then evaluated; None trains all epochs and evaluates the last.
        label_smoothing: part of each training label, in [0, 1), that is spread over all classes
            (Szegedy et al. 2015, arXiv:1512.00567).
        weight_decay: what a step takes off each weight of a kernel, as a part of it and of the
            learning rate (Loshchilov and Hutter 2017, arXiv:1711.05101).
        flip_average: outside of training, logits are the mean over the image and its mirror image.
        warmup: None, or the part of the steps in which the rate climbs to ``learning_rate``, after
            which it falls to 0 along a cosine; in each stage of a fine-tuning anew.
        transfer: how ResNet50 is used, if it is.
        reported: the report's numbers, if it has any for this variant.
    """

    name: str
    description: str
    network: str
    network_options: dict = field(default_factory=dict)
    optimizer: str = "adam"
    learning_rate: float = 0.001
    learning_rate_decay: float = 0.0
    epochs: int = 25
    batch_size: int = 64
    parts: int = 1
    validation_fraction: float = 0.1
    normalize: bool = False
    augment: bool = False
    patience: int | None = None
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    flip_average: bool = False
    warmup: float | None = None
    transfer: Transfer | None = None
    reported: Reported | None = None

    def __post_init__(self):
        if self.batch_size % self.parts:
            raise UserError(
                f"{self.name}: batch_size, {self.batch_size}, is not a multiple of parts, {self.parts}"
            )

    @property
    def trains_resnet50(self) -> bool:
        """Whether ResNet50 is part of the network, and not only looked at through its features."""
        return self.transfer is not None and self.transfer.input == "images"

    def in_parts(self, image_size: int, batch_size: int) -> "Experiment":
        """The experiment with this batch size, and as few equal parts of a batch as take no more memory than
        the experiment's own parts of 224×224 images.
        """
        images_at_once = self.batch_size / self.parts * (224 / image_size) ** 2
        needed = math.ceil(batch_size / images_at_once)
        parts = next((n for n in range(needed, batch_size) if batch_size % n == 0), batch_size)
        return replace(self, batch_size=batch_size, parts=parts)

    def settings(self) -> dict:
        """The fields that decide the result, in the types that JSON gives back; what is not used is left out."""
        fields = {key: value for key, value in asdict(self).items() if key not in ("name", "description", "reported")}
        defaults = {each.name: each.default for each in dataclasses.fields(self)}
        unused = {key for key in SELDOM_USED if fields[key] == defaults[key]}
        fields = {key: value for key, value in fields.items() if key not in unused}
        return json.loads(json.dumps(fields))


@dataclass(frozen=True)
class Exercise:
    """The experiments of one script.

    Attributes:
        name: the script's file name without ``.py``.
        description: what ``--help`` says.
        experiments: in the order in which ``--variant all`` runs them.
        default: the names that run when ``--variant`` is not given.
        dataset: the real data set, as ``common.datasets.CLASS_COUNTS`` calls it.
        compare: the names drawn into one figure when all of them ran.
    """

    name: str
    description: str
    experiments: tuple[Experiment, ...]
    default: tuple[str, ...]
    dataset: str = "cifar100"
    compare: tuple[str, ...] = ()
