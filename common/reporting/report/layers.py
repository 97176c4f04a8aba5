"""A network's table, as its run folder holds it, read back."""

import re
from dataclasses import dataclass
from pathlib import Path

from common.files import read_text


@dataclass(frozen=True)
class LayerTable:
    """``layer_table.md``.

    Attributes:
        header: names of the columns.
        rows: a tuple of texts for each layer.
        multiply_adds: what its convolutions and linear layers take for one image, forward; None where the table
            holds a whole network in one line.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    multiply_adds: int | None


def read_layer_table(folder: Path) -> LayerTable | None:
    """The table in a run's folder; None if it holds none, or a damaged one."""
    try:
        text = read_text(folder / "layer_table.md")
    except (OSError, ValueError):
        return None
    lines = [
        tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if line[:1] == "|"
    ]
    is_whole = re.search(r"^[\d,]+ parameters$", text, re.MULTILINE)  # its last line
    if not is_whole or len(lines) < 3 or {*map(len, lines)} != {5}:
        return None
    header, rows = lines[0], tuple(lines[2:])
    try:
        return LayerTable(header, rows, _multiply_adds(rows))
    except ValueError:  # a size or a kernel that is no number
        return None


def _multiply_adds(rows) -> int | None:
    count = 0
    for _, layer, kernel, size, channels in rows:
        inputs, outputs = _numbers(size)
        if re.search(r"\(\d+ layers\)", layer):
            return None
        if layer.startswith("Conv2D"):
            of_input, of_output = _numbers(channels)
            count += int(kernel) ** 2 * of_input * of_output * outputs**2
        elif layer.startswith("Linear"):
            count += inputs * outputs
    return count


def _numbers(text: str) -> tuple[int, int]:
    first, _, last = text.partition(" → ")
    return int(first), int(last)
