"""The improvements that are turned on and off alone, and the steps of the bonus, by the NAMEs of their runs."""

from dataclasses import dataclass

EX1, EX2, BONUS = "ex1_basenet", "ex2_improvements", "bonus_residual"


@dataclass(frozen=True)
class Improvement:
    """A switch that exercise 2 turns on.

    Attributes:
        name: for people.
        added: NAME of exercise 1's runs with it alone, on BaseNet with Adam.
        removed: NAME of exercise 2's runs without it, of the network with every improvement.
    """

    name: str
    added: str
    removed: str


WITHOUT_ANY, WITH_ALL = "adam", "dropout"  # both of 25 epochs
IMPROVEMENTS = (
    Improvement("normalisation", "adam,normalize=yes", "dropout,normalize=no"),
    Improvement("augmentation", "adam,augment=yes", "dropout,augment=no"),
    Improvement("batch normalisation", "adam,batch-normalization=before-relu", "dropout,batch-normalization=none"),
    Improvement("depth", "adam,deep=yes", "dropout,deep=no"),
    Improvement("dropout", "adam,dropout=0.2", "dropout,dropout=0.0"),
)
# Pairs of the bonus: from, to, what was changed.
STEPS = (
    ("wide", "residual", "shortcuts added"),
    ("residual", "bottleneck", "bottleneck blocks, five a stage"),
    ("residual", "deeper", "two blocks a stage, narrower"),
    ("deeper", "deeper-3", "three blocks a stage, narrower still"),
    ("residual", "self-calibrated", "self-calibrated convolutions"),
    ("residual", "label-smoothing", "label smoothing 0.1"),
    ("label-smoothing", "weight-decay", "AdamW, cosine schedule, 40 epochs"),
    ("weight-decay", "flip-average", "mean over the mirror image"),
    ("flip-average", "champion", "more channels, global pooling, Muon, CutMix, 45 epochs"),
)
