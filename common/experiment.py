"""An experiment is a value: everything that decides a variant stands in one frozen dataclass."""

from dataclasses import asdict, dataclass, field

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # --precision: Keras's dtype policy


@dataclass(frozen=True)
class Reported:
    """What the report prints for a variant: test loss, test accuracy (0..1), figure numbers."""

    loss: float
    accuracy: float
    figures: tuple[int, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """All of one variant; a new one is made from another with ``dataclasses.replace``.

    Attributes:
        name: what ``--variant`` calls it, and the name of its folder.
        description: one line for ``--list``.
        network: a name in ``common.models.NETWORKS``.
        network_options: keyword arguments for that network's function.
        optimizer: "adam" (Keras's defaults) or "sgd" (momentum 0.9, Nesterov).
        learning_rate: the rate at the first step.
        learning_rate_decay: the rate at step t is ``learning_rate / (1 + learning_rate_decay * t)``.
        epochs: the most epochs a run may take.
        batch_size: images in a training batch.
        validation_fraction: part of the training images held out, in (0, 1).
        normalize: mean 0 and variance 1 for each channel; otherwise pixels are divided by 255.
        augment: random affine maps of the training images (``common.augmentation``).
        patience: epochs in a row without a better validation loss or accuracy that end the run,
            whose best weights are then evaluated; None trains all epochs and evaluates the last.
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
    validation_fraction: float = 0.1
    normalize: bool = False
    augment: bool = False
    patience: int | None = None
    reported: Reported | None = None

    def settings(self) -> dict:
        """The fields that decide the result, in the types that JSON gives back."""
        return {key: value for key, value in asdict(self).items() if key not in ("name", "description", "reported")}


@dataclass(frozen=True)
class Exercise:
    """The experiments of one script.

    Attributes:
        name: the script's file name without ``.py``.
        description: what ``--help`` says.
        experiments: in the report's order.
        default: the names that run when ``--variant`` is not given.
        compare: the names drawn into one figure when all of them ran.
    """

    name: str
    description: str
    experiments: tuple[Experiment, ...]
    default: tuple[str, ...]
    compare: tuple[str, ...] = ()
