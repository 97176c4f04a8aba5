"""How far a run has come, from its checkpoint, without Keras: for those who watch it from another process."""

import json
from pathlib import Path

from numpy.lib.format import read_array


def read_progress(checkpoint: Path) -> list[dict]:
    """The history so far, a row an epoch, as ``common.training.checkpoint`` wrote it; empty if there is none yet."""
    try:
        with open(checkpoint, "rb") as file:
            return json.loads(str(read_array(file)))[0]
    except (OSError, ValueError):
        return []
