"""An experiment is a value: everything that decides a variant stands in one frozen dataclass.

Its switches are fields made by ``switch``; the command line has a flag for each of them, and the run
folder's name says which differ from the variant's own.
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args, get_origin, get_type_hints

from common.errors import UserError

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}  # Keras's dtype policies
LONGEST_NAME = 120


def switch(default, sentence: str, **kind) -> Any:
    """A field that the command line has a flag for.

    Args:
        default: its value where an experiment gives none.
        sentence: what ``--help`` says.
        kind: what the flag takes beside what the field's type says: ``choices``, ``low``, ``high`` and ``above``
            (the bounds of a number; ``above`` is not in the range itself), ``off`` (the value of ``--no-...``).
    """
    return field(default=default, metadata={"sentence": sentence, **kind})


@dataclass(frozen=True)
class Component:
    """A class of Keras, by its name in any case, with the settings that are not its defaults.

    As text, ``sgd+momentum=0.9+nesterov=yes``.
    """

    name: str
    settings: Mapping[str, bool | int | float] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "name", re.sub("[-_]", "", self.name.lower()))

    def __str__(self) -> str:
        return "+".join([self.name, *(f"{key}={to_text(value)}" for key, value in sorted(self.settings.items()))])

    @classmethod
    def parse(cls, text: str) -> "Component":
        """The component of a text.

        Raises:
            ValueError: the text is none.
        """
        if not re.fullmatch(r"[A-Za-z][\w-]*(\+[A-Za-z]\w*=[\w.-]+)*", text):
            raise ValueError(text)
        name, *settings = text.split("+")
        pairs = dict(setting.split("=") for setting in settings)
        return cls(name, {key: _from_text(value) for key, value in pairs.items()})


@dataclass(frozen=True)
class GradientDescent:
    """Learning step by step, with any optimizer and any learning-rate schedule of Keras."""

    optimizer: Component = switch(
        Component("adam"), "an optimizer of Keras, such as adam, or sgd+momentum=0.9+nesterov=yes with its settings"
    )
    learning_rate: float = switch(0.001, "the learning rate before the schedule changes it", above=0)
    schedule: Component = switch(
        Component("constant"), "constant, or a schedule of Keras, such as CosineDecay, over all steps of the run"
    )
    warmup: float = switch(
        0.0,
        "fraction of the steps in which the rate climbs to --learning-rate, before CosineDecay",
        low=0,
        high=1,
        off=0.0,
    )
    epochs: int = switch(25, "the most epochs a run may take", low=1)
    batch_size: int = switch(64, "images in a training batch", low=1)
    accumulate: int = switch(
        1,
        "gradient accumulation: micro-batches a batch is computed in, to save memory; batch normalisation and CutMix "
        "see a micro-batch",
        low=1,
        off=1,
    )
    patience: int | None = switch(
        None,
        "early stopping: epochs in a row without a better validation loss or accuracy that end the run, whose "
        "best weights come back",
        low=1,
        off=None,
    )
    label_smoothing: float = switch(
        0.0,
        "share of each training label that is spread over all classes (Szegedy et al. 2015)",
        low=0,
        high=1,
        off=0.0,
    )
    weight_decay: float = switch(
        0.0,
        "decoupled weight decay of kernels, a fraction of them and of the learning rate (Loshchilov and Hutter 2017)",
        low=0,
        off=0.0,
    )

    def __post_init__(self):
        if self.accumulate > self.batch_size:
            raise UserError(
                f"gradient accumulation in {self.accumulate} micro-batches needs batches of as many images, and "
                f"--batch-size is {self.batch_size}"
            )
        if self.warmup and self.schedule.name != Component("CosineDecay").name:
            raise UserError(
                f"--warmup needs --schedule CosineDecay, the schedule that Keras can warm up; not {self.schedule}"
            )


@dataclass(frozen=True)
class Stage:
    """Some epochs of a fine-tuning.

    Attributes:
        last_epoch: from 1; the last stage lasts to the end of the run.
        trainable: which of the backbone's layers learn, beside the head: beginnings of their names.
        learning_rate_multiplier: multiplies the learning rate.
    """

    last_epoch: int
    trainable: tuple[str, ...]
    learning_rate_multiplier: float = 1.0


@dataclass(frozen=True)
class FineTuning(GradientDescent):
    """Gradient descent on a pretrained backbone and its head, in stages.

    Attributes:
        stages: in each, the schedule begins anew; none: all layers learn from the first epoch to the last.
        head_features: the features (``common.transfer.features``) that the network's last layer takes.
    """

    freeze_batch_norm: bool = switch(False, "batch normalisation of the backbone stays in inference mode")
    initial_head: str = switch(
        "random",
        "what the head begins with: fresh weights, or those of a logistic or a ridge regression on the backbone's "
        "features",
        choices=("random", "logistic", "ridge"),
    )
    stages: tuple[Stage, ...] = ()
    head_features: str = "pooled"


@dataclass(frozen=True)
class LinearClassifier:
    """A linear classifier of scikit-learn as the network's last layer, its C chosen by cross-validation."""

    kind: str  # "svm" or "logistic"
    grid: tuple[float, ...]


@dataclass(frozen=True)
class RidgeClassifier:
    """Ridge regression of the classes as the network's last layer, its penalty chosen by leaving one image out.

    Attributes:
        grid: the penalties to choose from, in units of the features' mean squared distance to their mean.
        temperature: by which the outputs are multiplied to become logits; None: chosen in the same way.
    """

    grid: tuple[float, ...]
    temperature: float | None = None


@dataclass(frozen=True)
class Experiment:
    """All of one variant; a new one is made from another with ``vary``.

    A switch is None where the experiment has nothing it could turn: a linear layer has no dropout.

    Attributes:
        name: what ``--variant`` calls it, and the name of its folder.
        description: one line for ``--list``.
        network: a name in ``common.models.NETWORKS``.
        learning: how the network learns: ``GradientDescent``, ``FineTuning``, ``LinearClassifier`` or
            ``RidgeClassifier``.
        features: what the network takes in place of images: features of the frozen backbone, a key of
            ``common.transfer.features.KINDS``.
        network_options: keyword arguments of the network that have no switch.
    """

    name: str
    description: str
    network: str
    learning: GradientDescent | LinearClassifier | RidgeClassifier = GradientDescent()
    features: str | None = None
    normalize: bool | None = switch(False, "inputs with mean 0 and variance 1 in each channel, in place of 0..1")
    augment: bool | None = switch(False, "training images are changed at random, as --augmentation says")
    augmentation: str | None = switch(
        "affine",
        "what --augment does: affine, the report's flips, shifts, zooms and rotations; or shift, a flip and a shift by "
        "a few pixels",
        choices=("affine", "shift"),
    )
    cutmix: float | None = switch(
        0.0,
        "share of the training images in which a box comes from another one of the micro-batch; the label follows by "
        "area (Yun et al. 2019)",
        low=0,
        high=1,
        off=0.0,
    )
    batch_normalization: str | None = switch(
        None,
        "where batch normalisation stands on every hidden layer",
        choices=("before-relu", "after-relu", "none"),
        off="none",
    )
    deep: bool | None = switch(None, "extra convolutions: a wider one before each pooling")
    dropout: float | None = switch(None, "dropout rate before the fully connected layers", low=0, high=1, off=0.0)
    shortcuts: bool | None = switch(None, "residual connections around the blocks")
    block: str | None = switch(
        None, "what a residual block is made of", choices=("plain", "bottleneck", "self-calibrated")
    )
    blocks: int | None = switch(None, "residual blocks a stage", low=0)
    widths: tuple[int, ...] | None = switch(None, "channels of each stage, such as 32+64", low=1)
    power_normalization: bool | None = switch(
        None, "square roots of the features, scaled to length 1 (Perronnin et al. 2010)"
    )
    test_time_augmentation: bool | None = switch(
        False, "evaluated on the mean of the logits of an image and of its mirror image"
    )
    validation_fraction: float = switch(
        0.1, "fraction of the training images held out for validation, at least an image per class", above=0, high=1
    )
    network_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        batch, parts = (getattr(self.learning, name, 1) for name in ("batch_size", "accumulate"))
        normalizes = self.batch_normalization != "none" and not getattr(self.learning, "freeze_batch_norm", False)
        if batch < 2 * parts and (self.cutmix or (normalizes and parts > 1)):
            why = (
                "CutMix takes its boxes from another" if self.cutmix else "batch normalisation learns nothing from one"
            )
            way = f"--accumulate {batch // 2} at most" if batch > 3 else "--accumulate 1"
            raise UserError(
                f"--batch-size {batch} in {parts} micro-batches leaves some of one image, and {why}: "
                + (way if batch > 1 else "--batch-size 2 at least")
            )

    def vary(self, name: str, description: str, **changes) -> "Experiment":
        """Another variant: this one with other values of its fields, or of the fields of how it learns."""
        return replace(self.with_settings(**changes), name=name, description=description)

    def with_settings(self, **changes) -> "Experiment":
        """The same variant with other values of its fields, or of the fields of how it learns."""
        of_learning = {key: value for key, value in changes.items() if key not in _names(type(self))}
        of_self = {key: value for key, value in changes.items() if key not in of_learning}
        learning = replace(of_self.pop("learning", self.learning), **of_learning)
        return replace(self, learning=learning, **of_self)

    def can_use(self, name: str) -> bool:
        """Whether the experiment has the switch of this name."""
        return name in _names(type(self.learning)) or getattr(self, name, None) is not None

    def network_switches(self) -> dict[str, Any]:
        """The switches that the network has, and its other options: keyword arguments of its function."""
        of_network = (
            "batch_normalization",
            "deep",
            "dropout",
            "shortcuts",
            "block",
            "blocks",
            "widths",
            "power_normalization",
        )
        switches = {name: getattr(self, name) for name in of_network}
        return {name: value for name, value in switches.items() if value is not None} | dict(self.network_options)

    @property
    def features_on_disk(self) -> str | None:
        """The kind of frozen features that a run computes or finds on disk, be it for its first head alone."""
        if isinstance(self.learning, FineTuning) and self.learning.initial_head != "random":
            return self.learning.head_features
        return self.features

    def settings(self) -> dict[str, Any]:
        """Everything that decides the result but its name, in the types that JSON gives back; None is left out."""
        own = {key: getattr(self, key) for key in _names(type(self)) if key not in ("name", "description", "learning")}
        learning = {key: getattr(self.learning, key) for key in _names(type(self.learning))}
        settings = {**own, "learning": type(self.learning).__name__, **learning}
        return {key: _to_json(value) for key, value in settings.items() if value not in (None, {}, ())}


@dataclass(frozen=True)
class Reported:
    """What the report prints for a variant: test loss, test accuracy (0..1), figure numbers."""

    loss: float
    accuracy: float
    figures: tuple[int, ...] = ()


@dataclass(frozen=True)
class Flag:
    """A flag of a data set's, or of an exercise's, own.

    Attributes:
        name: without the dashes in front.
        sentence: what ``--help`` says.
        default: the value where the flag is not given.
        parse: from the flag's text to its value; raises ValueError with what it should be.
        in_name: from a value to its text in the run folder's name, or None where it does not decide results.
    """

    name: str
    sentence: str
    default: Any
    parse: Callable[[str], Any]
    in_name: Callable[[Any], str | None] = str

    @property
    def destination(self) -> str:
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Exercise:
    """The experiments of one script.

    Attributes:
        name: the script's file name without ``.py``.
        description: what ``--help`` says.
        experiments: in the order in which ``--variant all`` runs them.
        default: the names that run when ``--variant`` is not given.
        reported: the report's numbers, by the variant's name.
        images: which data sets it takes: a key of ``common.datasets.DATASETS``.
        threads: processor threads to compute with; None: all cores. Small networks gain nothing from a second, and with
            one their last digits do not depend on the number of cores.
        compare: the names drawn into one figure when all of them ran.
        flags: its own, beside those of all scripts.
    """

    name: str
    description: str
    experiments: tuple[Experiment, ...]
    default: tuple[str, ...]
    reported: Mapping[str, Reported]
    images: str = "small images"
    threads: int | None = None
    compare: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()

    def experiment(self, name: str) -> Experiment:
        """The variant of this name; KeyError if there is none."""
        return {experiment.name: experiment for experiment in self.experiments}[name]


def switches() -> dict[str, dict]:
    """What the flags of all switches take: by the field's name, its ``type`` and the metadata of ``switch``."""
    found = {}
    for owner in (Experiment, FineTuning):
        types = get_type_hints(owner)
        for each in dataclasses.fields(owner):
            if each.metadata:
                kinds = [kind for kind in (get_args(types[each.name]) or [types[each.name]]) if kind is not type(None)]
                found[each.name] = {"type": get_origin(kinds[0]) or kinds[0], **each.metadata}
    return found


def run_name(experiment: Experiment, own: Experiment, others: Mapping[str, str]) -> str:
    """The NAME of a run's folder: the variant's and, behind commas, every setting that differs from its own, sorted.

    Args:
        experiment: as it runs.
        own: the variant as its script has it.
        others: texts of settings outside the experiment that are not the default, such as ``{"limit": "60"}``.
    """
    settings, own_settings = experiment.settings(), own.settings()
    changed = {key for key in {*settings, *own_settings} if settings.get(key) != own_settings.get(key)}
    texts = {key.replace("_", "-"): to_text(settings.get(key)) for key in changed} | dict(others)
    name = ",".join([experiment.name, *(f"{key}={texts[key]}" for key in sorted(texts))])
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST_NAME - len(digest) - 1]}~{digest}"
    return name


def to_text(value) -> str:
    """A setting as it stands in a NAME, and as its flag takes it: yes, no, none, 0.1, 32+64."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if isinstance(value, tuple | list):
        return "+".join(map(to_text, value))
    return repr(value).replace("e+", "e") if isinstance(value, float) else str(value)


def parse_number(text: str, kind: type, low: float = -math.inf, high: float = math.inf, above: float = -math.inf):
    """A number of a kind (int, float) with low ≤ number ≤ high and number > above; of a fraction, number < high = 1.

    Raises:
        ValueError: with what the text is not.
    """
    limit = {int: 2**31 - 1, float: math.inf}[kind]
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    is_fraction = kind is float and high == 1
    if not (low <= value <= min(high, limit) and value > above and abs(value) < math.inf) or (
        is_fraction and value == 1
    ):
        number = {int: "a whole number", float: "a number"}[kind]
        if is_fraction:
            span = " between 0 and 1" if above == 0 else " from 0 to below 1"
        elif above > -math.inf:
            span = f" above {above:g}"
        else:
            span = f" from {low:g}" + (f" to {high:g}" if high < math.inf else "")
        raise ValueError(f"'{text}' is not {number}{span}")
    return value + 0  # -0.0 is 0.0, also in a NAME


def _names(cls: type) -> tuple[str, ...]:
    return tuple(each.name for each in dataclasses.fields(cls))


def _from_text(text: str) -> bool | int | float:
    if text in ("yes", "no"):
        return text == "yes"
    value = float(text) + 0  # -0.0 is 0.0, also in a NAME
    if not math.isfinite(value):
        raise ValueError(text)
    return int(text) if re.fullmatch(r"-?\d+", text) else value


def _to_json(value):
    if isinstance(value, Component):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {key: _to_json(getattr(value, key)) for key in _names(type(value))}
    if isinstance(value, tuple | list):
        return [_to_json(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
