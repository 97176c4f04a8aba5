"""From a run folder's NAME back to the flags that make it."""

import shlex
from collections.abc import Sequence


def flags_of(name: str) -> list[str]:
    """The flags behind ``--variant``: ``dropout,augment=no`` gives ``dropout --no-augment``."""
    variant, *settings = name.split(",")
    return [variant, *(text for setting in settings for text in _flags(setting))]


def command(script: str, name: str, dataset: str, seeds: Sequence[int]) -> str:
    """The command that makes these runs, but for where data and weights are."""
    flags = ["--variant", *flags_of(name), "--dataset", dataset, "--seed", *map(str, seeds)]
    return shlex.join(["python", f"{script}.py", *flags])


def _flags(setting: str) -> list[str]:
    key, equals, value = setting.partition("=")
    if not equals:  # a NAME that was cut
        return []
    if value == "yes":
        return [f"--{key}"]
    if value == "no":
        return [f"--no-{key}"]
    return [f"--{key}", value.replace("+", ",") if key == "classes" else value]
