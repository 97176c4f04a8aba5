"""What the page reads out of runs: claims, gains, layer tables, figures, commands."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import bonus_residual
import ex1_basenet
import ex2_improvements
import ex3_resnet_birds
from common.experiment import run_name
from common.reporting.report import charts, claims, content, improvements, pictures, verdicts, worth
from common.reporting.report.commands import command, flags_of
from common.reporting.report.layers import read_layer_table
from common.reporting.report.runs import Runs, read_runs

EXERCISES = tuple(module.EXERCISE for module in (ex1_basenet, ex2_improvements, ex3_resnet_birds, bonus_residual))
PUBLISHED = ROOT / "published"
SGD = Path("cifar100/ex1_basenet/sgd/seed-0")


@pytest.fixture(scope="module")
def published() -> Runs:
    return read_runs(PUBLISHED, {"cifar100", "cub200"})


@pytest.fixture
def some(tmp_path) -> Path:
    """A folder with the published runs of exercise 1, to be changed."""
    shutil.copytree(PUBLISHED / "cifar100" / "ex1_basenet", tmp_path / "cifar100" / "ex1_basenet")
    return tmp_path


def examine(key: str, runs: Runs) -> claims.Result:
    return next(each for each in claims.CLAIMS if each.key == key).examine(runs)


def shift(folder: Path, name: str, by: float) -> None:
    """Adds to the test accuracy of every run of a NAME of exercise 1."""
    for path in (folder / "cifar100/ex1_basenet" / name).glob("*/metrics.json"):
        text = path.read_text(encoding="utf-8")
        number = text.split('"test_accuracy": ')[1].split(",")[0]
        path.write_text(text.replace(f'"test_accuracy": {number}', f'"test_accuracy": {float(number) + by}'), "utf-8")


def test_at_least_a_dozen_claims_can_be_tested_on_the_published_runs(published):
    words = [each.examine(published).word for each in claims.CLAIMS]
    assert len({each.key for each in claims.CLAIMS}) == len(claims.CLAIMS)
    assert sum(word != claims.UNTESTED for word in words) >= 12


@pytest.mark.parametrize(
    "by, better, remarkable",
    [(0.1, claims.SUPPORTED, claims.CONTRADICTED), (-0.1, claims.CONTRADICTED, claims.CONTRADICTED)],
)
def test_a_difference_is_supported_or_contradicted_by_its_interval(some, by, better, remarkable):
    shift(some, "adam", by)
    runs = read_runs(some, {"cifar100"})
    assert examine("adam-better", runs).word == better
    assert examine("adam-not-remarkable", runs).word == remarkable


def test_a_claim_without_runs_names_them(some):
    result = examine("depth-helps", read_runs(some, {"cifar100"}))
    assert result.word == claims.UNTESTED
    assert "ex2_improvements batchnorm" in result.evidence


def test_a_claim_about_runs_that_are_there_in_bfloat16_alone_is_tested_on_those(published):
    assert not published.named("ex3_resnet_birds", "finetune")
    assert examine("birds-finetune-similar", published).word != claims.UNTESTED


def test_every_experiment_that_a_claim_or_a_gain_names_is_one(published):
    known = {(exercise.name, each.name) for exercise in EXERCISES for each in exercise.experiments}
    places = [
        place
        for name, place in vars(claims).items()
        if isinstance(place, tuple) and len(place) == 2 and all(isinstance(each, str) for each in place)
    ]
    assert len(places) > 10
    assert set(places) <= known
    assert {("bonus_residual", name) for step in improvements.STEPS for name in step[:2]} <= known


@pytest.mark.parametrize(
    "exercise, names",
    [
        (ex1_basenet.EXERCISE, [each.added for each in improvements.IMPROVEMENTS]),
        (ex2_improvements.EXERCISE, [each.removed for each in improvements.IMPROVEMENTS]),
    ],
)
def test_the_names_of_the_ablation_are_those_that_their_flags_make(exercise, names, tmp_path):
    from common import cli

    for name in names:
        _, (job,) = cli.select(exercise, cli.parse(exercise, ["--variant", *flags_of(name)]))
        assert job.name == name
        own = exercise.experiment(job.experiment.name)
        assert run_name(job.experiment, own, {}) == name


def test_a_gain_is_positive_where_the_second_is_the_better(published):
    gains = {gain.name: gain for gain in worth.bonus_steps(published)}
    assert gains["shortcuts added"].difference.n == (3,)
    assert gains["shortcuts added"].after == "residual"
    champion = gains["more channels, global pooling, Muon, CutMix, 45 epochs"]
    assert champion.difference.mean > 0
    assert champion.difference.low is None  # one pair


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ex1_basenet/adam", 28**2 * 25 * 3 * 6 + 10**2 * 25 * 6 * 16 + 400 * 50 + 50 * 25),
        (
            "bonus_residual/wide",
            32**2 * 32 * (25 * 3 + 2 * 9 * 32) + 16**2 * 64 * (25 * 32 + 2 * 9 * 64) + 512 * (4096 + 25),
        ),
    ],
)
def test_multiply_adds_come_from_the_layer_table(name, expected):
    assert read_layer_table(PUBLISHED / "cifar100" / name / "seed-0").multiply_adds == expected


def test_a_layer_table_with_a_network_in_a_line_has_no_multiply_adds_and_a_broken_one_is_none(tmp_path):
    folder = next((PUBLISHED / "cub200/ex3_resnet_birds").glob("finetune-staged*/seed-0"))
    assert read_layer_table(folder).multiply_adds is None
    assert read_layer_table(tmp_path) is None
    (tmp_path / "layer_table.md").write_text("| a | b |\n", encoding="utf-8")
    assert read_layer_table(tmp_path) is None


def test_a_name_gives_its_flags_back():
    assert flags_of("dropout,augment=no,dropout=0.4,patience=none") == [
        "dropout",
        "--no-augment",
        "--dropout",
        "0.4",
        "--patience",
        "none",
    ]
    assert command("ex1_basenet", "adam,classes=0-4+7,limit=3", "synthetic", [0, 2]) == (
        "python ex1_basenet.py --variant adam --classes 0-4,7 --limit 3 --dataset synthetic --seed 0 2"
    )


def test_the_figures_are_the_thirty_of_the_report(published):
    figures = pictures.report_figures(EXERCISES)
    assert list(figures) == list(range(1, 31))
    assert figures[5].variants == figures[6].variants == ("sgd", "adam")
    assert [figures[number].variants for number in (1, 17, 20, 30)] == [
        ("sgd",),
        ("early-stopping",),
        ("linear",),
        ("residual",),
    ]
    assert {figure.metric for number, figure in figures.items() if number % 2} == {"loss"}


@pytest.mark.parametrize("number", [6, 17])
def test_a_figure_has_the_same_bytes_every_time(published, number, tmp_path):
    figure = pictures.report_figures(EXERCISES)[number]
    for name in "ab":
        pictures.save(pictures.drawn(figure.draw, published), tmp_path / name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_figure_shows_mean_range_evaluated_epoch_and_stop(published):
    figure = pictures.drawn(pictures.report_figures(EXERCISES)[17].draw, published)
    (axes,) = figure.axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    runs = published.named("ex2_improvements", "early-stopping")
    evaluated = [run.metrics["evaluated_epoch"] for run in runs]
    stopped = [run.metrics["epochs"] for run in runs if run.metrics["epochs"] < 80]  # the others ran to their end
    assert labels == [
        "training",
        "validation",
        f"evaluated: epoch {min(evaluated)} to {max(evaluated)}",
        f"stopped: epoch {min(stopped)} to {max(stopped)}",
    ]
    assert axes.get_legend().get_title().get_text() == "mean and range of 3 runs"
    runs = published.named("ex2_improvements", "early-stopping")
    epochs, mean, low, high = pictures.mean_curve(runs, "val_loss")
    shortest = min(run.metrics["epochs"] for run in runs)
    assert list(axes.lines[0].get_xdata()) == list(epochs) == list(range(1, shortest + 1))
    assert mean[0] == pytest.approx(sum(run.history[0]["val_loss"] for run in runs) / 3)
    assert (low <= mean).all() and (mean <= high).all()


def test_in_figures_5_and_6_thin_is_training_and_thick_validation(published):
    (axes,) = pictures.drawn(pictures.report_figures(EXERCISES)[6].draw, published).axes
    widths = {line.get_label(): line.get_linewidth() for line in axes.lines if not line.get_label().startswith("_")}
    for name in ("sgd", "adam"):
        assert widths[f"{name}, validation"] >= 2 * widths[f"{name}, training"]


def test_the_curves_table_has_means_over_the_runs_that_got_so_far(published):
    runs = published.named("ex2_improvements", "early-stopping")
    rows = charts.curve_table(runs)
    first, second, third = sorted(run.metrics["epochs"] for run in runs)
    assert first < second < third  # else this shows less than it says
    assert [row[1] for row in rows] == [3] * first + [2] * (second - first) + [1] * (third - second)
    assert rows[79][2] == next(run for run in runs if len(run.history) == 80).history[79]["loss"]


def test_rows_of_other_images_or_settings_are_shown_and_not_judged(published):
    found = content.collect(content.Request(EXERCISES), published)
    by_variant = {row["variant"]: row for row in found["summary"]}
    assert len(by_variant) == 15
    words = (verdicts.REPRODUCED, verdicts.BETTER, verdicts.WORSE)
    assert [name for name, row in by_variant.items() if row["verdict"] not in words] == [
        "linear",
        "fully-connected",
        "convolutional",
        "finetune",
    ]
    assert by_variant["linear"]["verdict"].startswith("cannot be compared: ")
    assert found["joint"]["rows"] == 11
    assert found["banners"]


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "history.csv",
        "metrics.json",
        "per_class.json",
        "timing.json",
        "environment.json",
        "layer_table.md",
    ],
)
@pytest.mark.parametrize("change", ["missing", "empty", "cut"])
def test_a_run_with_a_missing_or_damaged_file_is_named_and_left_out(some, file, change):
    path = some / SGD / file
    kept = 500 if file == "history.csv" else 100
    if change == "missing":
        path.unlink()
    else:
        path.write_text("" if change == "empty" else path.read_text(encoding="utf-8")[:kept], encoding="utf-8")
    runs = read_runs(some, {"cifar100"})
    found = content.collect(content.Request(EXERCISES[:1]), runs)
    assert [each["run"] for each in found["damaged"]] == [SGD.as_posix()]
    assert found["sections"][0]["experiments"][0]["n"] == 2


def test_a_run_whose_history_ends_before_its_evaluated_epoch_is_damaged(some):
    path = some / SGD / "history.csv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:5]), encoding="utf-8")
    (damaged,) = read_runs(some, {"cifar100"}).damaged
    assert "history.csv ends before the evaluated epoch" in damaged.reason


def test_predictions_that_cannot_be_read_make_a_run_damaged(some):
    path = some / SGD / "predictions.npz"
    labels = np.arange(2500) % 25
    np.savez(path, labels=labels, probabilities=np.eye(25)[labels])
    assert read_runs(some, {"cifar100"}).damaged == []
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-2000], whole[:5000] + b"x" * 100 + whole[5100:]):
        path.write_bytes(damaged)
        assert [each.folder for each in read_runs(some, {"cifar100"}).damaged] == [some / SGD]


def test_examples_that_cannot_be_read_make_a_run_damaged(some, budgeted):
    path = some / SGD / "examples.npz"
    shutil.copy(budgeted / "examples.npz", path)
    assert read_runs(some, {"cifar100"}).damaged == []
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000], whole[:-2000]):
        path.write_bytes(damaged)
        assert [each.folder for each in read_runs(some, {"cifar100"}).damaged] == [some / SGD]
    with np.load(budgeted / "examples.npz") as arrays:
        np.savez(path, **{name: arrays[name] for name in arrays if name != "label"})
    (damaged,) = read_runs(some, {"cifar100"}).damaged
    assert "examples.npz lacks label" in damaged.reason


def test_the_calibration_of_several_runs_is_that_of_all_their_images_together(some):
    """Two seeds of 100 images in 15 bins: all in the last one, or half of them in the one below."""
    runs = some / "cifar100/bonus_residual/residual"
    bins = np.zeros((2, 3, 15))
    bins[0, :, -1] = (100, 0.98, 0.9)
    bins[1, :, -1], bins[1, :, -2] = (50, 0.96, 0.6), (50, 0.9, 0.9)
    for seed, values in enumerate(bins):
        shutil.copytree(PUBLISHED / f"cifar100/bonus_residual/residual/seed-{seed}", runs / f"seed-{seed}")
        path = runs / f"seed-{seed}" / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        images, confidence, accuracy = values.tolist()
        images = [int(count) for count in images]
        metrics["test_reliability"] = {"images": images, "confidence": confidence, "accuracy": accuracy}
        path.write_text(json.dumps(metrics), encoding="utf-8")
    (found,) = content.collect(content.Request(EXERCISES), read_runs(some, {"cifar100"}))["calibration"]
    assert (found["name"], found["runs"]) == ("residual", 2)
    assert [each["images"] for each in found["bins"]] == [50, 150]
    confidence = (100 * 0.98 + 50 * 0.96) / 150
    assert found["bins"][1]["confidence"] == pytest.approx(confidence)
    assert found["bins"][1]["accuracy"] == pytest.approx(0.8)
    assert found["error"] == pytest.approx((confidence - 0.8) * 150 / 200)
