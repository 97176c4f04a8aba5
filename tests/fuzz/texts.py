"""Texts of the command line: classes, switches with their values, and what a NAME says of them."""

import shlex
from pathlib import Path

from hypothesis import strategies as st

import bonus_residual
import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common import cli, sweep
from common.experiment import LONGEST_NAME, Component, switches

from .harness import Target, value_or_error

EXERCISES = [each.EXERCISE for each in (ex1_basenet, ex2_improvements, ex3_resnet_birds, bonus_residual)]
NUMBERS = st.one_of(
    st.integers(-3, 300).map(str),
    st.floats().map(repr),
    st.sampled_from(["0.5", "1e-400", "0x10", "1_0", "٣", " 7 ", "9" * 5000, "1e999", "nan", "-0.0", "1.", "²", ""]),
)
NAMES = ["adam", "sgd", "AdamW", "constant", "CosineDecay", "cosine_decay", "sgdé", "none", "yes"]
VALUES = st.one_of(NUMBERS, st.sampled_from(["yes", "no", "none", "TRUE", "a.b", "a-b", "é"]), st.text(max_size=5))
COMPONENTS = st.one_of(
    st.builds(
        lambda name, pairs: "+".join([name, *(f"{key}={value}" for key, value in pairs)]),
        st.sampled_from(NAMES),
        st.lists(st.tuples(st.sampled_from(["momentum", "beta_1", "A", "a", "1a", "é", ""]), VALUES), max_size=3),
    ),
    st.text(max_size=12),
)
CLASSES = st.one_of(
    st.lists(st.one_of(st.integers(0, 30).map(str), st.builds("{}-{}".format, NUMBERS, NUMBERS), NUMBERS)).map(
        ",".join
    ),
    st.integers(1, 15_000).map(lambda times: "0-9999," * times + "0"),
    st.sampled_from(["all", "0-24", "0-9999", "24-0", "0-", "-5", "0,1,٢"]),
    st.text("0123456789-,", max_size=12),
)
TUPLES = st.lists(NUMBERS, max_size=3).map("+".join)
FLAGS = {
    **{f"--{name.replace('_', '-')}": kind for name, kind in switches().items()},
    **{
        f"--{name}": {"type": str}
        for name in ("classes", "variant", "seed", "limit", "dataset", "image-size", "resize", "precision", "threads")
    },
}


@st.composite
def cases(draw) -> tuple[int, list[str]]:
    """An exercise, and flags."""
    exercise = draw(st.integers(0, len(EXERCISES) - 1))
    found = []
    for flag in draw(st.lists(st.sampled_from(sorted(FLAGS)), max_size=4)):
        kind = FLAGS[flag]
        if flag == "--classes":
            texts = [draw(CLASSES)]
        elif flag == "--variant":
            names = [each.name for each in EXERCISES[exercise].experiments]
            texts = draw(st.lists(st.one_of(st.sampled_from(names), st.text(max_size=4)), max_size=2))
        elif kind["type"] is bool:
            flag, texts = draw(st.sampled_from([flag, flag.replace("--", "--no-")])), []
        elif "choices" in kind:
            texts = draw(st.lists(st.sampled_from(kind["choices"]), max_size=2))
        else:
            value = {Component: COMPONENTS, tuple: TUPLES}.get(kind["type"], VALUES)
            texts = draw(st.lists(value, max_size=2))
        found += [flag, *texts]
    if draw(st.booleans()):
        found += ["--dataset", "synthetic"]
    return exercise, found


def check(folder: Path, case: tuple[int, list[str]]) -> None:
    exercise, argv = EXERCISES[case[0]], case[1]
    places = ["--output", str(folder / "out"), "--data-dir", str(folder / "data")]

    def chosen(argv):
        return cli.select(exercise, cli.parse(exercise, [*argv, *places]))

    found = value_or_error(lambda: chosen(argv))
    if found is None:
        return
    selection, todo = found
    settings = {}
    for job, line in zip(todo, sweep.plan(selection, todo).split("\n")):
        assert len(job.name) <= LONGEST_NAME and job.name.isprintable() and "/" not in job.name and " " not in job.name
        assert settings.setdefault((job.name, job.seed), job.experiment.settings()) == job.experiment.settings()
        _, script, *again = [word.strip("\t") for word in shlex.split(line)]
        assert script == f"{exercise.name}.py"
        _, (same,) = chosen(again)
        assert (same.name, same.seed) == (job.name, job.seed)
    assert len(settings) == len(todo)


FOUND = (
    (0, ["--accumulate", "\U00018cd6"]),
    (0, ["--classes", "0-9999," * 15_000 + "0"]),
    (0, ["--label-smoothing", "0", "-0.0"]),
)
TARGET = Target("texts", cases(), check, FOUND)
