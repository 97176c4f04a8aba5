"""The report's headings, in its order."""

from dataclasses import dataclass

from common.experiment import Exercise


@dataclass(frozen=True)
class Section:
    """An exercise on the page.

    Attributes:
        key: "1", "2", "3" or "bonus", as ``--exercises`` takes it.
        script: its file without ``.py``.
        heading: of the report.
        short: the heading where there is little room.
    """

    key: str
    script: str
    heading: str
    short: str


SECTIONS = (
    Section("1", "ex1_basenet", "Exercise 1: BaseNet on CIFAR-100", "Exercise 1"),
    Section("2", "ex2_improvements", "Exercise 2: BaseNet improved", "Exercise 2"),
    Section("3", "ex3_resnet_birds", "Exercise 3: ResNet50 and 200 species of birds", "Exercise 3"),
    Section("bonus", "bonus_residual", "Bonus: a wider network, and residual connections", "Bonus"),
)
# The report's headings for its experiments; one without a line here is headed by its name.
HEADINGS = {
    ("ex1_basenet", "sgd"): "BaseNet with SGD",
    ("ex1_basenet", "adam"): "BaseNet with Adam",
    ("ex2_improvements", "normalize"): "Data normalisation",
    ("ex2_improvements", "augment"): "Data augmentation",
    ("ex2_improvements", "batchnorm"): "Batch normalisation",
    ("ex2_improvements", "batchnorm-after-relu"): "Batch normalisation after the ReLU",
    ("ex2_improvements", "depth"): "Greater depth",
    ("ex2_improvements", "dropout"): "Dropout",
    ("ex2_improvements", "early-stopping"): "Early stopping",
    ("ex2_improvements", "early-stopping-no-dropout"): "Early stopping without dropout",
    ("ex3_resnet_birds", "linear"): "Frozen ResNet50, one linear layer",
    ("ex3_resnet_birds", "fully-connected"): "Frozen ResNet50, three linear layers",
    ("ex3_resnet_birds", "convolutional"): "Frozen ResNet50, convolutional head",
    ("ex3_resnet_birds", "finetune"): "Fine-tuned ResNet50",
    ("bonus_residual", "wide"): "A wide BaseNet",
    ("bonus_residual", "residual"): "A residual BaseNet",
}


def heading(script: str, variant: str) -> str:
    """What an experiment is headed with."""
    return HEADINGS.get((script, variant), variant)


def section_of(exercise: Exercise) -> Section:
    """The section of an exercise."""
    return next(section for section in SECTIONS if section.script == exercise.name)
