"""How many places a change touches: each addition is made in a copy of the project and the real script run on it."""

import filecmp
import shutil

import numpy as np
from conftest import (
    EX1,
    EX2,
    FOUR_EPOCHS,
    QUICK,
    QUICK_NAME,
    ROOT,
    assert_done,
    assert_error,
    edit,
    read_json,
    run_script,
)
from PIL import Image

from common.reporting.run_folder import read_run

TINY = """
from keras import Model, layers


def tiny(input_shape, classes, *, dropout=0.0):
    inputs = layers.Input(input_shape)
    return Model(inputs, layers.Dense(classes)(layers.Dropout(dropout)(layers.GlobalAveragePooling2D()(inputs))))
"""
NOISE = """
import numpy as np

from common.datasets.image_data import DataSet, ImageArray, ImageData
from common.experiment import Flag, parse_number


def load(data_dir, classes, options):
    random = np.random.default_rng(options["noise_seed"])
    labels = np.repeat(np.arange(4), 20)
    images = [ImageArray(random.integers(0, 256, (80, 24, 24, 3), np.uint8)) for _ in range(2)]
    return ImageData("noise", images[0], labels, images[1], labels, ("a", "b", "c", "d"))


NOISE = DataSet(
    name="noise",
    description="random pixels",
    class_count=4,
    default_classes=(0, 1, 2, 3),
    image_size=24,
    load=load,
    why_not_comparable=lambda data, options: "random pixels",
    flags=(Flag("noise-seed", "what the pixels are drawn from", 0, lambda text: parse_number(text, int, low=0)),),
)
"""
VARIANTS = """
TINY = ADAM.vary(
    "tiny", "one linear layer", network="tiny", batch_normalization=None, deep=None, dropout=0.5, learning_rate=0.01
)
RMSPROP = ADAM.vary(
    "rmsprop",
    "RMSprop that decays along a polynomial",
    optimizer=Component("RMSprop", {"rho": 0.8, "momentum": 0.5}),
    schedule=Component("PolynomialDecay", {"end_learning_rate": 0.0001, "power": 1.0}),
)

EXERCISE ="""


def touched(project):
    """The files that differ from the project's own, or are new."""
    files = (path for path in project.rglob("*.py"))
    relative = [path.relative_to(project).as_posix() for path in files]
    return sorted(
        name for name in relative if not ((ROOT / name).exists() and filecmp.cmp(project / name, ROOT / name, False))
    )


def test_a_data_set_is_its_file_and_its_name(project, tmp_path):
    (project / "common/datasets/noise.py").write_text(NOISE)
    registry = project / "common/datasets/__init__.py"
    edit(
        registry,
        "from common.datasets.synthetic import",
        "from common.datasets.noise import NOISE\nfrom common.datasets.synthetic import",
    )
    edit(registry, "SMALL_FOLDER),", "SMALL_FOLDER, NOISE),")
    assert touched(project) == ["common/datasets/__init__.py", "common/datasets/noise.py"]

    flags = ("--dataset", "noise", "--noise-seed", 5, "--variant", "adam", "--epochs", 1)
    result = run_script(EX1, *flags, "--output", tmp_path / "results", root=project)
    assert_done(result)
    run = read_run(tmp_path / "results/noise/ex1_basenet/adam,epochs=1,noise-seed=5/seed-0")
    assert run.config["dataset"]["classes"] == ["a", "b", "c", "d"] and run.not_comparable == "random pixels"
    assert result.stdout.endswith("(not comparable with the report: random pixels)\n")
    assert "noise: random pixels" in " ".join(run_script(EX1, "--help", root=project).stdout.split())
    refused = run_script(EX1, "--plan", "--dataset", "synthetic", "--noise-seed", 5, root=project)
    assert_error(refused, "--noise-seed")  # which the other data sets do not have
    assert "24 → 20" in (run.folder / "layer_table.md").read_text(encoding="utf-8")


def test_a_network_is_its_file_and_its_name_and_a_variant_or_an_optimizer_its_script(project, tmp_path):
    edit(project / EX1, "\nEXERCISE =", VARIANTS)
    edit(project / EX1, "experiments=(SGD, ADAM)", "experiments=(SGD, ADAM, TINY, RMSPROP)")
    assert touched(project) == [EX1]  # the variants and the optimizer
    (project / "common/models/tiny.py").write_text(TINY)
    registry = project / "common/models/__init__.py"
    edit(registry, "import resnet9\n", "import resnet9\nfrom common.models.tiny import tiny\n")
    edit(registry, '    "residual": residual,\n', '    "residual": residual,\n    "tiny": tiny,\n')
    assert touched(project) == ["common/models/__init__.py", "common/models/tiny.py", EX1]

    flags = (*QUICK, "--variant", "tiny", "rmsprop", "--epochs", 2, "--output", tmp_path)
    assert_done(run_script(EX1, *flags, root=project))
    rest = QUICK_NAME.replace("epochs=1", "epochs=2")
    tiny, rmsprop = (read_run(tmp_path / f"synthetic/ex1_basenet/{name},{rest}/seed-0") for name in ("tiny", "rmsprop"))
    assert tiny.metrics["parameters"] == 3 * 5 + 5
    assert tiny.config["experiment"]["dropout"] == 0.5
    assert "common/models/tiny.py" in tiny.config["code"] and "common/models/tiny.py" not in rmsprop.config["code"]
    assert rmsprop.config["experiment"]["optimizer"] == "rmsprop+momentum=0.5+rho=0.8"
    rates = [row["learning_rate"] for row in rmsprop.history]
    np.testing.assert_allclose(rates, [(0.001 + 0.0001) / 2, 0.0001], rtol=1e-5)  # over all steps of the run
    listed = run_script(EX1, "--list", root=project).stdout
    assert "rmsprop  RMSprop that decays along a polynomial; report: no numbers" in listed


def test_a_figure_is_its_function_and_its_name_and_reaches_finished_runs(project, finished, tmp_path):
    output = tmp_path / "results"
    shutil.copytree(finished[0], output / FOUR_EPOCHS)
    figures = project / "common/reporting/figures.py"
    edit(
        figures,
        "\n\nFIGURES: ",
        '\n\ndef rate(run: Run) -> Figure:\n    """The learning rate."""\n    figure = Figure(figsize=(2, 1))\n'
        '    figure.add_subplot().plot([row["learning_rate"] for row in run.history])\n    return figure\n'
        "\n\nFIGURES: ",
    )
    edit(figures, '    "loss": loss,\n', '    "loss": loss,\n    "rate": rate,\n')
    assert touched(project) == ["common/reporting/figures.py"]

    path, others = output / FOUR_EPOCHS / "rate.png", output / FOUR_EPOCHS / "loss.png"
    before = others.stat().st_mtime_ns
    result = run_script(EX2, *QUICK, "--epochs", 4, "--redraw", "--output", output, root=project)
    assert_done(result)
    assert "training" not in result.stdout and "Epoch" not in result.stdout
    with Image.open(path) as image:
        assert image.size == (200, 100)
    assert others.stat().st_mtime_ns > before
    assert read_json(output / FOUR_EPOCHS / "environment.json") == read_json(finished[0] / "environment.json")


def test_a_switch_is_a_field_of_the_experiment(project):
    edit(
        project / "common/experiment.py",
        "    network_options: Mapping",
        '    colours: int | None = switch(3, "how many of the channels are seen", low=1)\n    network_options: Mapping',
    )
    assert touched(project) == ["common/experiment.py"]
    text = " ".join(run_script(EX1, "--help", root=project).stdout.split())
    assert "--colours N [N ...] how many of the channels are seen" in text
    plan = run_script(EX1, "--plan", "--variant", "sgd", "--colours", 1, 2, root=project).stdout
    assert [line.split()[2:8] for line in plan.splitlines()] == [
        ["--variant", "sgd", "--colours", colours, "--seed", "0"] for colours in "12"
    ]
    refused = run_script(EX1, "--plan", "--colours", 0, root=project)
    assert refused.returncode == 2 and "--colours: '0' is not a whole number from 1" in refused.stderr
