import copy
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, visible_files
from PIL import Image

from common.reporting import figures
from common.reporting.run_folder import read_run

PUBLISHED = ROOT / "published/cifar100"


@pytest.fixture
def run(tmp_path):
    """A published run that stopped early, in a folder of its own."""
    folder = tmp_path / "seed-0"
    shutil.copytree(PUBLISHED / "ex2_improvements/early-stopping/seed-0", folder)
    return read_run(folder)


def drawn(run):
    return [name for name in visible_files(run.folder) if name.endswith(".png")]


def lines(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_every_figure_of_the_registry_is_drawn_and_only_missing_ones_again(run):
    figures.draw(run, again=False)
    assert drawn(run) == sorted(f"{name}.png" for name in figures.FIGURES)
    first = {name: (run.folder / name).read_bytes() for name in drawn(run)}
    (run.folder / "loss.png").write_bytes(b"old")
    (run.folder / "accuracy.png").unlink()
    figures.draw(run, again=False)
    assert (run.folder / "loss.png").read_bytes() == b"old"
    assert (run.folder / "accuracy.png").read_bytes() == first["accuracy.png"]
    figures.draw(run, again=True)
    assert {name: (run.folder / name).read_bytes() for name in drawn(run)} == first


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_the_evaluated_epoch_is_marked(run, metric):
    best, last = run.metrics["best_epoch"], run.metrics["epochs"]
    assert run.evaluated_epoch == best < last
    marked = lines(figures.FIGURES[metric](run))[f"Evaluated epoch: {best}"]
    assert marked.get_xdata() == [best] and marked.get_ydata() == [run.history[best - 1][f"val_{metric}"]]
    whole = replace(run, metrics={**run.metrics, "evaluated_epoch": last})  # as without early stopping
    marked = lines(figures.FIGURES[metric](whole))[f"Evaluated epoch: {last}"]
    assert marked.get_xdata() == [last] and marked.get_ydata() == [run.history[-1][f"val_{metric}"]]


def test_a_history_shows_training_and_validation(run):
    for metric in ("loss", "accuracy"):
        found = lines(figures.FIGURES[metric](run))
        assert list(found["Training"].get_ydata()) == [row[metric] for row in run.history]
        assert list(found["Validation"].get_ydata()) == [row[f"val_{metric}"] for row in run.history]


def test_a_training_loss_on_smoothed_labels_says_so():
    (folder,) = (PUBLISHED / "bonus_residual").glob("label-smoothing*/seed-0")
    assert "Training (labels smoothed by 0.1)" in lines(figures.loss(read_run(folder)))
    assert "Training" in lines(figures.accuracy(read_run(folder)))


def test_training_on_mixed_images_is_named_beside_both_metrics(run):
    settings = {**run.config["experiment"], "cutmix": 0.5, "label_smoothing": 0.1}
    mixed = replace(run, config={**run.config, "experiment": settings})
    assert "Training (CutMix of 50%, labels smoothed by 0.1)" in lines(figures.loss(mixed))
    assert "Training (CutMix of 50%)" in lines(figures.accuracy(mixed))


def test_the_confusion_matrix_has_the_true_class_in_rows_as_fractions(run):
    axes = figures.confusion_matrix(run).axes[0]
    matrix = np.array(run.per_class["confusion_matrix"])
    np.testing.assert_allclose(axes.images[0].get_array(), matrix / matrix.sum(axis=1, keepdims=True))
    assert [label.get_text() for label in axes.get_yticklabels()] == run.config["dataset"]["classes"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("True class", "Predicted class")


def test_names_that_look_like_mathematics_are_drawn_as_they_are(run, capsys):
    config = copy.deepcopy(run.config)
    config["dataset"]["classes"][3] = "Ba$$in_bird"
    config["dataset"]["classes"][4] = "$\\frac{1}$"
    config["name"] = "early-stopping,optimizer=a$b_c$"
    run = replace(run, config=config)
    figures.draw(run, again=True)
    figures.draw_comparison([run, run], run.folder)
    assert capsys.readouterr().err == ""
    assert len(drawn(run)) == len(figures.FIGURES) + len(figures.METRICS)


def test_names_too_long_of_other_scripts_or_with_control_characters_leave_the_matrix_its_room(run, recwarn):
    names = ["x" * 200, "a\nb\tc", "\u732b \U000e0000", "", "Größe", "Кот", *run.config["dataset"]["classes"][6:]]
    config = {**run.config, "dataset": {**run.config["dataset"], "classes": names}}
    figure = figures.confusion_matrix(replace(run, config=config))
    figures.draw(replace(run, config=config), again=True)
    axes = figure.axes[0]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown[:6] == ["x" * 29 + "…", "a b c", "class 2", "class 3", "Größe", "Кот"]
    figure.canvas.draw()
    assert axes.get_window_extent().width > 450  # of 900 pixels
    assert not recwarn.list


def test_a_figure_that_fails_is_one_warning_and_the_others_are_drawn(run, capsys):
    (run.folder / "loss.png").mkdir()
    figures.draw(run, again=True)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert warning.startswith(f"warning: {run.folder / 'loss.png'} was not drawn") and "--redraw" in warning
    assert drawn(run) == ["accuracy.png", "confusion_matrix.png"]


def test_a_long_name_stays_within_the_figure_and_leaves_the_curves_their_room(run):
    name = "early-stopping," + ",".join(f"setting-{number}=0.123" for number in range(6))
    run = replace(run, config={**run.config, "name": name[:120], "seed": 20240101})
    figures.draw(run, again=True)
    figures.draw_comparison([run, run, run], run.folder)
    assert len(drawn(run)) == len(figures.FIGURES) + len(figures.METRICS)  # a warning of matplotlib costs a figure here
    for path in (run.folder / name for name in drawn(run) if name != "confusion_matrix.png"):
        pixels = np.array(Image.open(path).convert("RGB")).astype(int)
        assert pixels[:, [0, 1, -2, -1]].min() == 255, path.name  # nothing touches the left or the right edge
        coloured = np.flatnonzero((np.ptp(pixels, axis=2) > 50).any(axis=0))  # the curves
        assert np.ptp(coloured) > 450, path.name  # of 640 pixels


def test_a_grid_shows_every_run_at_the_value_that_its_switch_ended_with(run, tmp_path):
    """``--epochs 10 20 --more-epochs 5`` makes runs of 15 and 25 epochs."""

    def with_epochs(epochs, accuracy):
        config = {**run.config, "experiment": {**run.config["experiment"], "epochs": epochs}}
        return replace(run, config=config, metrics={**run.metrics, "val_accuracy": accuracy})

    def picture(*accuracies):
        path = tmp_path / "grid.png"
        figures.draw_grid([with_epochs(15, accuracies[0]), with_epochs(25, accuracies[1])], ["epochs"], path)
        return path.read_bytes()

    assert len({picture(0.4, 0.5), picture(0.4, 0.6), picture(0.3, 0.5)}) == 3
