"""The user's own images, as folders of classes: every layout is trained on, or one line says what would do."""

import csv
import hashlib
import os
import shutil

import numpy as np
import pytest
from conftest import (
    BONUS,
    EX1,
    EX2,
    EX3,
    assert_done,
    assert_error,
    assert_same_run,
    read_json,
    run_script,
    script_process,
    visible_files,
)
from PIL import Image

from common.datasets import loading
from common.datasets.folder import PHOTOGRAPH_FOLDER, SMALL_FOLDER
from common.datasets.image_data import DataFolder, ImageData
from common.errors import UserError
from common.reporting.run_folder import find_runs, read_run

CLASSES = {"$cat$": "red", "Grüne Äpfel": "green", "ants, bees & <co>": "blue"}
NAMES = ("$cat$", "Grüne Äpfel", "ants, bees & <co>")  # sorted
OPTIONS = {"image_size": 32, "resize": "squash"}


def paint(folder, colour, count, first=0):
    """Photographs of several sizes and formats, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        random = np.random.default_rng((len(colour), number))
        pixels = np.full((40 + number, 50, 3), Image.new("RGB", (1, 1), colour).getpixel((0, 0)), np.uint8)
        pixels = np.where(random.random((*pixels.shape[:2], 1)) < 0.3, 128, pixels).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.{('jpg', 'PNG', 'webp')[number % 3]}")
    return folder


def fingerprint(folder):
    """Names, bytes and times of all that is in a folder."""
    paths = sorted(folder.rglob("*"))
    return [
        (str(path), path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None)
        for path in (folder, *paths)
    ]


@pytest.fixture
def flat(tmp_path):
    """A folder with three classes of 10 images, and what stands about in such folders."""
    folder = tmp_path / "my photos"
    for name, colour in CLASSES.items():
        paint(folder / name, colour, 10)
        for other in ("Thumbs.db", ".DS_Store", "._00.jpg", "notes.txt"):
            (folder / name / other).write_bytes(b"no image")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "__MACOSX" / "$cat$").mkdir(parents=True)
    (folder / "readme.txt").write_text("mine")
    return folder


@pytest.fixture
def split_folder(tmp_path):
    """The same with train/ and test/."""
    folder = tmp_path / "split"
    for name, colour in CLASSES.items():
        paint(folder / "train" / name, colour, 8)
        paint(folder / "test" / name, colour, 2, first=8)
    return folder


def load(folder, dataset=SMALL_FOLDER, classes=(0, 1, 2), limit=None, options=OPTIONS):
    return loading.load(dataset, DataFolder(folder, folder), classes, limit, options)


def refused(folder, words, dataset=SMALL_FOLDER, classes=(0, 1, 2)):
    with pytest.raises(UserError, match=words) as caught:
        dataset.count_classes(DataFolder(folder, folder))
        load(folder, dataset, classes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("dataset", [SMALL_FOLDER, PHOTOGRAPH_FOLDER], ids=["in memory", "in files"])
def test_a_fifth_of_each_class_is_drawn_by_the_seed_to_test(flat, dataset):
    source = load(flat, dataset)
    assert source.class_names == NAMES and dataset.count_classes(DataFolder(flat, flat)) == 3
    first, again, other = (source.for_seed(seed) for seed in (0, 0, 1))
    for data in (first, other):
        assert np.bincount(data.test_labels).tolist() == [2] * 3 and np.bincount(data.train_labels).tolist() == [8] * 3
        names = [*data.train_images.names, *data.test_images.names]
        assert sorted(names) == sorted(source.train_images.names) and len({*names}) == 30
        labels = [*data.train_labels, *data.test_labels]
        assert all(name.startswith(NAMES[label] + "/") for name, label in zip(names, labels))
        strongest = np.asarray(data.test_images).astype(float).mean(axis=(1, 2)).argmax(axis=1)
        assert [strongest[data.test_labels == label][0] for label in range(3)] == [0, 1, 2]  # red, green, blue
    assert first.sha256 == again.sha256 != other.sha256
    assert [count.tolist() for count in source.images_per_class()] == [[8] * 3, [2] * 3]
    limited = load(flat, dataset, limit=4)
    assert [count.tolist() for count in limited.images_per_class()] == [[4] * 3, [2] * 3]
    assert list(limited.for_seed(1).test_images.names) == list(other.test_images.names)
    assert np.bincount(limited.for_seed(1).train_labels).tolist() == [4] * 3
    chosen = load(flat, dataset, classes=(2, 0))
    assert chosen.class_names == (NAMES[2], NAMES[0]) and len(chosen.for_seed(0).test_labels) == 4


def test_images_in_memory_are_those_of_the_files_as_bytes(flat):
    in_memory, in_files = (load(flat, dataset) for dataset in (SMALL_FOLDER, PHOTOGRAPH_FOLDER))
    values = np.asarray(in_memory.train_images)
    assert (values.dtype, values.shape) == (np.uint8, (30, 32, 32, 3))
    assert np.array_equal(values, np.rint(np.asarray(in_files.train_images)))


@pytest.mark.parametrize("others", [(), ("val",), ("Validation",), ("VAL",)])
def test_test_images_of_their_own_are_used_and_those_to_validate_join_the_training(split_folder, capsys, others):
    for name in others:
        for of_class, colour in CLASSES.items():
            paint(split_folder / name / of_class, colour, 3, first=20)
    data = load(split_folder)
    assert type(data) is ImageData and data.for_seed(1) is data
    assert [count.tolist() for count in data.images_per_class()] == [[11 if others else 8] * 3, [2] * 3]
    assert all(name.startswith("test/") for name in data.test_images.names)
    assert f"images in {others[0]}/ join those of train/" in capsys.readouterr().out if others else True
    shutil.rmtree(split_folder / "test")
    assert [count.tolist() for count in load(split_folder).images_per_class()] == [
        [9 if others else 6] * 3,
        [2] * 3,
    ]


def test_a_class_may_be_called_train(flat):
    (flat / NAMES[0]).rename(flat / "train")
    assert load(flat).class_names == (*NAMES[1:], "train")


LAYOUTS = "takes a folder for each class with its images straight in it, such as .*; or such folders in .*/train and"


def test_folders_that_are_none_of_the_layouts_are_refused_with_those_that_are(tmp_path, flat, split_folder):
    refused(tmp_path / "nowhere", f"nowhere is not a folder that is there.*{LAYOUTS}")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", f"has no folders of classes in it.*{LAYOUTS}")
    outer = tmp_path / "outer"
    outer.mkdir()
    shutil.copytree(flat, outer / "inner")
    refused(outer, f"has only one folder, inner, where classes should be.*{LAYOUTS}")
    shutil.copytree(flat, outer / "second")
    refused(outer, f"class inner has 0 images straight in .*inner|{LAYOUTS}")
    paint(flat / NAMES[0] / "more", "red", 2)
    refused(flat, rf"is the folder of a class and holds a folder, more;.*{LAYOUTS}")
    pictures = tmp_path / "pictures"
    paint(pictures / "train", "red", 4)
    paint(pictures / "test", "red", 4)
    refused(pictures, f"has no folders of classes in it.*{LAYOUTS}")
    shutil.rmtree(split_folder / "train")
    refused(split_folder, f"has test/ without train/.*{LAYOUTS}")


def test_runs_may_not_go_among_the_classes_where_the_next_command_would_take_them_for_one(flat, split_folder):
    for folder, output in ((flat, flat / "results"), (split_folder, split_folder / "train" / "a" / "b")):
        with pytest.raises(UserError, match=r"--output .* is among the classes in .*choose a folder elsewhere"):
            loading.load(SMALL_FOLDER, DataFolder(folder, output / "data"), (0, 1, 2), None, OPTIONS)
    beside = DataFolder(split_folder, split_folder / "results" / "data")
    assert loading.load(SMALL_FOLDER, beside, (0, 1, 2), None, OPTIONS).class_names == NAMES


def test_classes_that_differ_between_the_parts_are_refused(split_folder):
    (split_folder / "test" / NAMES[1]).rename(split_folder / "test" / "Birnen")
    refused(split_folder, r"test has a class Birnen that train/ has not; .*the same class folders")
    shutil.rmtree(split_folder / "test" / "Birnen")
    refused(split_folder, f"test lacks the class {NAMES[1]}; .*the same class folders")
    (split_folder / "test" / NAMES[1]).mkdir()
    refused(split_folder, f"class {NAMES[1]} has 0 images straight in .*test/{NAMES[1]}: it takes 1 to test")
    assert load(split_folder, classes=(0, 2)).class_names == (NAMES[0], NAMES[2])


def test_a_class_with_too_few_images_is_named_with_its_count(flat):
    images = sorted((flat / NAMES[1]).glob("[0-9]*"))
    for path in images[3:]:
        path.unlink()
    assert load(flat).images_per_class()[1].tolist() == [2, 1, 2]
    images[0].unlink()
    refused(flat, f"class {NAMES[1]} has 2 images straight in .*{NAMES[1]}: it takes 3 to train, validate and test")
    for path in images[1:3]:
        path.unlink()
    refused(flat, f"class {NAMES[1]} has 0 images straight in .*--classes")
    assert load(flat, classes=(0, 2)).class_names == (NAMES[0], NAMES[2])


def test_names_that_are_not_utf_8_are_refused(flat):
    path = flat / NAMES[0] / "\udcff.jpg"
    try:
        path.write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("this file system has only names in UTF-8")
    refused(flat, "holds a name that is not UTF-8, .*; rename it")


def splits(folder):
    with open(folder / "split.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_exercise_2_trains_on_a_folder_and_leaves_it_as_it_was(flat, tmp_path):
    """The seeds' splits are written down, and other images of the same names make another run."""
    before = fingerprint(flat)
    command = (EX2, "--dataset", "folder", "--data-dir", flat, "--variant", "dropout", "--epochs", 1, "--quiet")
    result = run_script(*command, "--seed", 0, 1, "--output", tmp_path / "results")
    assert_done(result)
    assert "folder: 3 classes, 24 images to train and validate, 6 to test" in result.stdout
    assert result.stdout.endswith("(not comparable with the report: images of one's own)\n")
    runs = [read_run(folder) for folder in find_runs(tmp_path / "results")]
    assert [run.folder.relative_to(tmp_path / "results").as_posix() for run in runs] == [
        f"folder/ex2_improvements/dropout,epochs=1/seed-{seed}" for seed in (0, 1)
    ]
    tested = []
    for run in runs:
        rows = splits(run.folder)
        assert {row["file"] for row in rows} == {
            f"{name}/{number:02d}.{('jpg', 'PNG', 'webp')[number % 3]}" for name in NAMES for number in range(10)
        }
        assert all(row["file"].startswith(row["class"] + "/") for row in rows)
        counts = {part: sum(row["split"] == part for row in rows) for part in ("train", "validation", "test")}
        assert counts == {"train": 21, "validation": 3, "test": 6}
        assert run.config["dataset"]["classes"] == list(NAMES)
        tested.append({row["file"] for row in rows if row["split"] == "test"})
        with np.load(run.folder / "predictions.npz") as saved:
            assert saved["labels"].tolist() == [NAMES.index(r["class"]) for r in rows if r["split"] == "test"]
    assert tested[0] != tested[1]
    assert "common/datasets/folder.py" not in runs[0].config["code"]
    assert fingerprint(flat) == before

    again = run_script(*command, "--output", tmp_path / "again")
    assert_done(again)
    (same,) = (tmp_path / "again").rglob("seed-0")
    assert [(same / name).read_bytes() for name in ("split.csv", "history.csv")] == [
        (runs[0].folder / name).read_bytes() for name in ("split.csv", "history.csv")
    ]
    with Image.open(flat / NAMES[0] / "01.PNG") as image:
        image.rotate(180).save(flat / NAMES[0] / "01.PNG")
    refused_run = run_script(*command, "--output", tmp_path / "results")
    assert_error(refused_run, "a finished run that differs: it was made from other images", "give another --output")
    (flat / NAMES[2] / "00.jpg").write_bytes(b"damaged")
    damaged = run_script(*command, "--output", tmp_path / "damaged")
    assert_error(damaged, "00.jpg is not an image in JPEG, PNG")
    assert visible_files(tmp_path / "damaged") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (EX1, ("--variant", "adam", "--image-size", 48, "--resize", "crop")),
        (BONUS, ("--variant", "champion")),
    ],
)
def test_the_other_exercises_on_small_images_train_on_a_folder(split_folder, tmp_path, script, flags):
    before = fingerprint(split_folder)
    command = (script, "--dataset", "folder", "--data-dir", split_folder, *flags, "--epochs", 1, "--quiet")
    assert_done(run_script(*command, "--output", tmp_path / "results"))
    (run,) = (read_run(folder) for folder in find_runs(tmp_path / "results"))
    assert run.config["dataset"]["test_images"] == 6
    rows = splits(run.folder)
    assert {row["file"].partition("/")[0] for row in rows if row["split"] == "test"} == {"test"}
    assert sum(row["split"] == "test" for row in rows) == 6
    assert fingerprint(split_folder) == before


@pytest.mark.slow
def test_exercise_3_extracts_the_features_of_a_folder_once_for_all_seeds(flat, tmp_path):
    before = fingerprint(flat)
    command = (EX3, "--dataset", "folder", "--data-dir", flat, "--weights", "none", "--image-size", 32, "--quiet")
    variants = ("--variant", "linear", "finetune", "--epochs", 1, "--batch-size", 8)
    result = run_script(*command, *variants, "--seed", 0, 1, "--output", tmp_path / "results")
    assert_done(result)
    assert len(list((tmp_path / "results/folder/features").glob("*.npy"))) == 1
    runs = {(run.variant, run.seed): run for run in map(read_run, find_runs(tmp_path / "results"))}
    assert len(runs) == 4
    for seed in (0, 1):
        linear, finetune = (splits(runs[variant, seed].folder) for variant in ("linear", "finetune"))
        assert linear == finetune
        # The features of a run are those of its own images: the same run alone extracts and finds the same.
    alone = tmp_path / "alone"
    assert_done(run_script(*command, *variants[:2], *variants[3:], "--seed", 1, "--output", alone))
    (only,) = find_runs(alone)
    assert (only / "history.csv").read_bytes() == (runs["linear", 1].folder / "history.csv").read_bytes()
    assert read_json(only / "config.json") == runs["linear", 1].config
    assert fingerprint(flat) == before


def disturbed(command, watch):
    """Runs a script, shows ``watch`` each line as it is printed, and returns the one line that ends it."""
    process = script_process(*command, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    for line in process.stdout:
        watch(line)
    error = process.stderr.read()
    process.communicate()
    assert (process.returncode, error.count("\n")) == (2, 1), error
    assert error.startswith("error: ") and "the same command again" in error
    return error


def on_photographs(folder, *flags):
    return (EX3, "--dataset", "folder", "--data-dir", folder, "--weights", "none", "--image-size", 32, *flags)


FINETUNE = ("--variant", "finetune", "--batch-size", 8)


@pytest.mark.slow
def test_a_photograph_that_changes_while_a_run_trains_costs_the_run(flat, tmp_path):
    command = (*on_photographs(flat, *FINETUNE, "--epochs", 1), "--output", tmp_path / "results")
    changed = flat / NAMES[0] / "01.PNG"

    def watch(line):
        if line.endswith(": training\n"):  # the images' fingerprint has been taken
            changed.write_bytes((flat / NAMES[1] / "01.PNG").read_bytes())

    assert disturbed(command, watch).startswith(f"error: {changed} has changed since ")
    assert not [path for path in (tmp_path / "results").rglob("*") if path.name != ".seed-0.lock" and path.is_file()]
    assert_done(run_script(*command, "--quiet"))


@pytest.mark.slow
def test_photographs_that_are_swapped_and_swapped_back_while_a_run_trains_cost_a_line(flat, tmp_path):
    command = on_photographs(flat, *FINETUNE, "--epochs", 5)
    for_training = [flat / name / "01.PNG" for name in NAMES[:2]]

    def swap():
        first, second = (path.read_bytes() for path in for_training)
        for path, content in zip(for_training, (second, first)):
            path.write_bytes(content)

    def watch(line):
        if line.startswith(("Epoch 2/", "Epoch 4/")):  # epoch 3 reads every photograph
            swap()

    error = disturbed((*command, "--output", tmp_path / "results"), watch)
    assert any(f"{path} has changed since " in error for path in for_training)
    assert_error(run_script(*command, "--output", tmp_path / "results"), "it was made from other images")
    swap()
    resumed = run_script(*command, "--output", tmp_path / "results")
    assert_done(resumed)
    assert "resumes after epoch " in resumed.stdout
    assert_done(run_script(*command, "--output", tmp_path / "undisturbed"))
    (folder,) = find_runs(tmp_path / "undisturbed")
    assert_same_run(folder, tmp_path / "results" / folder.relative_to(tmp_path / "undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "beginning"),
    [
        ((*FINETUNE, "--epochs", 2), "Epoch 2/"),
        (("--variant", "logistic"), "features of 30 images"),
        (("--variant", "logistic", "--seed", 0, 1, "--jobs", 2), "features of 30 images"),
    ],
    ids=["while training", "while features are computed", "before several runs"],
)
def test_a_folder_that_is_unmounted_and_comes_back_costs_a_line(flat, tmp_path, flags, beginning):
    command = on_photographs(flat, *flags)

    def watch(line):
        if line.startswith(beginning):
            flat.rename(tmp_path / "unmounted")

    error = disturbed((*command, "--output", tmp_path / "results"), watch)
    assert str(flat) in error and "cannot be read: No such file or directory" in error
    (tmp_path / "unmounted").rename(flat)
    assert_done(run_script(*command, "--quiet", "--output", tmp_path / "results"))
    assert_done(run_script(*command, "--quiet", "--output", tmp_path / "undisturbed"))
    for folder in find_runs(tmp_path / "undisturbed"):
        assert_same_run(folder, tmp_path / "results" / folder.relative_to(tmp_path / "undisturbed"))


def test_the_flags_say_what_a_folder_takes(flat, split_folder):
    text = " ".join(run_script(EX1, "--help").stdout.split())
    assert "folder: images of one's own, a folder for each class" in text
    assert "images are resized to N×N (default: 32)" in text
    plan = run_script(EX1, "--plan", "--dataset", "folder", "--data-dir", flat, "--classes", "0,2")
    assert_done(plan)
    assert "--classes\t0,2" in plan.stdout
    too_many = run_script(EX1, "--plan", "--dataset", "folder", "--data-dir", flat, "--classes", "0-3")
    assert_error(too_many, "--classes 3: folder has the classes 0..2")
    assert_error(run_script(EX3, "--dataset", "folder", "--data-dir", flat.parent / "no"), "is not a folder")


@pytest.fixture(scope="module")
def real_crops(real_data_dir, tmp_path_factory):
    """Three species of real birds, training and test images of the official lists together."""
    folder = tmp_path_factory.mktemp("crops") / "birds"
    images = real_data_dir / "CUB_200_2010" / "images"
    for species in ("017.Cardinal", "014.Indigo_Bunting", "047.American_Goldfinch"):
        shutil.copytree(images / species, folder / species, ignore=shutil.ignore_patterns("._*"))
    return folder


@pytest.mark.slow
def test_real_photographs_in_a_folder_are_told_apart(real_crops, real_weights, tmp_path):
    command = ("--dataset", "folder", "--data-dir", real_crops, "--quiet", "--output", tmp_path)
    assert_done(run_script(EX2, *command, "--variant", "batchnorm", "--epochs", 20, "--batch-size", 8))
    assert_done(run_script(EX3, *command, "--variant", "linear", "--weights", real_weights))
    runs = {run.script: run for run in map(read_run, find_runs(tmp_path))}
    print({script: run.metrics["test_accuracy"] for script, run in runs.items()})
    assert runs["ex2_improvements"].metrics["test_accuracy"] > 0.55  # a third by guessing
    assert runs["ex3_resnet_birds"].metrics["test_accuracy"] > 0.9
