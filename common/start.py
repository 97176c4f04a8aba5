"""What a run begins with, where that is not fresh weights: the weights, or the whole training, of a finished run."""

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.files import read_json
from common.saved_network import WEIGHTS, check_network

PART_OF_NAME = re.compile(r"[\w.-]{1,100}")  # of a folder, which must not lead elsewhere


@dataclass(frozen=True)
class InitialWeights:
    """The weights of a finished run, for another experiment.

    Attributes:
        model: the run's model.keras.
        variant: the run's.
        run: what it is called, DATASET/SCRIPT/NAME/seed-N.
        sha256: of its weights, in hexadecimal; two runs with the same have the same weights.
    """

    model: Path
    variant: str
    run: str
    sha256: str

    @classmethod
    def of(cls, folder: Path) -> "InitialWeights":
        """Those of the run in a folder.

        Raises:
            UserError: it is not a run's, or its network is damaged.
        """
        try:
            config = read_json(folder / "config.json")
            check_network(folder / "model.keras")
            with zipfile.ZipFile(folder / "model.keras") as archive:
                digest = hashlib.sha256(archive.read(WEIGHTS))
            run = f"{config['dataset']['name']}/{config['script']}/{config['name']}/seed-{config['seed']}"
            if not PART_OF_NAME.fullmatch(config["variant"]):
                raise ValueError("its variant has a name that none has")
            return cls(folder / "model.keras", config["variant"], run, digest.hexdigest())
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"--init {folder}: not the folder of a finished run, with a config.json and a model.keras ({error}); "
                "give one such as results/cifar100/ex2_improvements/dropout/seed-0"
            ) from error

    def __str__(self) -> str:
        """As it stands in a NAME: the variant, and of the weights what sets them apart from all others."""
        return f"{self.variant}~{self.sha256[:8]}"


@dataclass(frozen=True)
class Continued:
    """A finished run whose training goes on, with the same seed.

    Attributes:
        name: the NAME of its folder.
        epochs: the most that it was to take.
    """

    name: str
    epochs: int
