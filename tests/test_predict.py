"""What ``predict.py`` says of images, by runs of all kinds, as the real scripts leave them."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    BIRDS,
    BONUS,
    EX1,
    EX2,
    EX3,
    QUICK,
    ROOT,
    assert_done,
    assert_error,
    edit,
    read_json,
    run_code,
    run_script,
    visible_files,
)
from PIL import Image

import predict
from common.predictor import Predictor
from common.reporting.run_folder import MANIFEST, find_runs

HEADS = ("linear", "fully-connected", "convolutional", "svm", "logistic", "second-order")


@pytest.fixture(scope="session")
def shapes(synthetic_data, tmp_path_factory):
    """Some test images of the first five classes as PNG files, by their index among all of these."""
    folder = tmp_path_factory.mktemp("shapes")
    images = synthetic_data.select(tuple(range(5))).test_images
    paths = {index: folder / f"{index:03d}.png" for index in range(0, len(images), 50)}
    for index, path in paths.items():
        Image.fromarray(images.values[index]).save(path)
    return paths


@pytest.fixture(scope="session")
def birds(drawn_birds, tmp_path_factory):
    """All test photographs of the first four species, as large as they are, as PNG files, by their index."""
    folder = tmp_path_factory.mktemp("birds_as_png")
    lines = (drawn_birds / "lists" / "test.txt").read_text(encoding="utf-8").split()
    photographs = [drawn_birds / "images" / line for line in lines if int(line[:3]) <= 4]
    paths = {index: folder / f"{index:03d}.png" for index in range(len(photographs))}
    for path, photograph in zip(paths.values(), photographs):
        pixels = tf.io.decode_jpeg(tf.io.read_file(str(photograph)))
        tf.io.write_file(str(path), tf.io.encode_png(pixels))
    return paths


@pytest.fixture(scope="session")
def heads(drawn_birds, tmp_path_factory):
    """The folders of short runs of every head on frozen features, by variant."""
    output = tmp_path_factory.mktemp("heads")
    flags = (*BIRDS, "--data-dir", drawn_birds.parent, "--validation-fraction", 0.2, "--output", output)
    assert_done(run_script(EX3, *flags, "--variant", *HEADS))
    rest = "classes=0-3,validation-fraction=0.2,weights=none"
    return {name: output / f"synthetic/ex3_resnet_birds/{name},{rest}/seed-0" for name in HEADS}


@pytest.fixture
def run_copy(finished, tmp_path):
    """A copy of a run, to be changed."""
    return shutil.copytree(finished[0], tmp_path / "run" / "seed-0")


def said(capsys, *arguments) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command, in this process."""
    code = predict.main([str(each) for each in arguments])
    return code, *capsys.readouterr()


def assert_predicts_what_the_run_did(capsys, run, images):
    code, out, err = said(capsys, run, *images.values(), "--json", "--top", 1000)
    assert (code, err) == (0, "")
    classes = read_json(run / "config.json")["dataset"]["classes"]
    with np.load(run / "predictions.npz") as saved:
        expected = saved["probabilities"][list(images)]
    results = json.loads(out)
    assert [each["file"] for each in results] == [str(path) for path in images.values()]
    for result, probabilities in zip(results, expected):
        found = {each["class"]: each["probability"] for each in result["predictions"]}
        np.testing.assert_allclose([found[name] for name in classes], probabilities, rtol=0, atol=1e-5)
        assert [*found.values()] == sorted(found.values(), reverse=True)
    assert np.ptp(expected, axis=0).max() > 1e-3  # they do depend on the image


def test_a_run_of_images_predicts_its_own_test_images(capsys, finished, shapes):
    assert_predicts_what_the_run_did(capsys, finished[0], shapes)


def test_a_run_with_test_time_augmentation_predicts_its_own_test_images(capsys, champion, shapes):
    three_classes = {index: path for index, path in shapes.items() if index < 300}
    assert_predicts_what_the_run_did(capsys, champion, three_classes)


def test_a_fine_tuning_predicts_its_own_test_images(capsys, staged_birds, birds):
    assert_predicts_what_the_run_did(capsys, staged_birds, birds)


@pytest.mark.parametrize("variant", HEADS)
def test_a_head_on_features_predicts_its_own_test_images(capsys, heads, birds, variant):
    assert_predicts_what_the_run_did(capsys, heads[variant], birds)


def test_a_ridge_regression_says_what_it_chose(heads):
    metrics, config = (read_json(heads["second-order"] / name) for name in ("metrics.json", "config.json"))
    assert metrics["alpha"] in config["experiment"]["grid"] and metrics["temperature"] > 1
    assert "common/transfer/ridge.py" in config["code"] and "common/transfer/linear.py" not in config["code"]


EPOCH = ("--epochs", 1)
SLOWLY = ("--learning-rate", 0.0001)  # at its own, a network of drawn weights says the same of every image
FINE_TUNINGS = ("finetune", "finetune-frozen-bn", "finetune-staged", "finetune-second-order")
EVERY_VARIANT = {
    "exercise 1": (EX1, ("--variant", "all", *EPOCH)),
    "exercise 2": (EX2, ("--variant", "all", *EPOCH)),
    "bonus": (BONUS, ("--variant", "all", *EPOCH)),
    "fine-tunings": (EX3, ("--variant", *FINE_TUNINGS, *EPOCH, *SLOWLY)),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", EVERY_VARIANT)
def test_every_variant_predicts_its_own_test_images(capsys, shapes, birds, drawn_birds, tmp_path, what):
    script, flags = EVERY_VARIANT[what]
    data = (*BIRDS, "--data-dir", drawn_birds.parent) if script == EX3 else (*QUICK, "--limit", 20)
    assert_done(run_script(script, *data, *flags, "--output", tmp_path))
    runs = find_runs(tmp_path)
    assert len(runs) >= 2
    for run in runs:
        assert_predicts_what_the_run_did(capsys, run, birds if script == EX3 else shapes)


@pytest.mark.slow
def test_fine_tuned_at_224_pixels_a_photograph_is_resized_as_in_training(capsys, birds, drawn_birds, tmp_path):
    flags = (*BIRDS, "--image-size", 224, "--resize", "crop", "--data-dir", drawn_birds.parent, "--output", tmp_path)
    assert_done(run_script(EX3, *flags, "--variant", "finetune", "linear", *EPOCH, *SLOWLY))
    runs = find_runs(tmp_path)
    assert len(runs) == 2
    for run in runs:
        assert_predicts_what_the_run_did(capsys, run, birds)


def test_from_python_probabilities_stand_in_the_order_of_the_classes(finished, shapes):
    predictor = Predictor(finished[0])
    with np.load(finished[0] / "predictions.npz") as saved:
        expected = saved["probabilities"][50]
    found = predictor.predict(shapes[50])
    assert found.dtype == np.float32 and len(predictor.classes) == 5
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def tree(folder):
    """Every file below a folder and its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def pictures(shapes, tmp_path):
    """A folder as people have them: folders in folders, one stem twice, a hidden file, a text, and a damaged image."""
    folder = tmp_path / "pictures"
    (folder / "b").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for source, path in (
        (0, "cat.png"),
        (50, "b/cat.png"),
        (100, "c.PNG"),
        (0, ".hidden.png"),
        (0, ".thumbnails/cat.png"),
    ):
        shutil.copy(shapes[source], folder / path)
    (folder / "notes.txt").write_text("nothing")
    (folder / "bad.png").write_bytes(shapes[0].read_bytes()[:200])
    return folder


def test_a_folder_is_read_in_order_and_a_damaged_file_is_a_line_beside_the_others(finished, pictures, tmp_path):
    before = tree(pictures.parent)
    flags = ("--csv", "--explain", "--output", tmp_path / "why")
    result = run_script("predict.py", finished[0], pictures, *flags)
    assert_error(result, "bad.png")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [*rows[0]] == ["file", "rank", "class", "probability", "explanation"]
    assert [row["file"] for row in rows[::5]] == [str(pictures / name) for name in ("b/cat.png", "c.PNG", "cat.png")]
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"] * 3
    explanations = {row["explanation"] for row in rows}
    assert {str(path) for path in (tmp_path / "why").iterdir()} == explanations and len(explanations) == 3
    assert {path: content for path, content in tree(tmp_path).items() if path.parent.name != "why"} == before
    for path in explanations:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.size == (448, 224)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_names_that_are_not_utf_8_or_hold_a_line_break_are_read(capsys, finished, shapes, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    shutil.copy(shapes[0], folder / os.fsdecode(b"\xe9\n.png"))
    code, out, err = said(capsys, finished[0], folder, "--json", "--explain", "--output", tmp_path / "why")
    assert (code, err) == (0, "") and len(json.loads(out)) == 1 and len([*(tmp_path / "why").iterdir()]) == 1


def test_only_a_damaged_file_is_one_line_and_no_table(capsys, finished, pictures):
    code, out, err = said(capsys, finished[0], pictures / "bad.png")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and "bad.png" in err
    code, out, _ = said(capsys, finished[0], pictures / "bad.png", "--json")
    assert (code, json.loads(out)) == (2, [])


def test_the_table_names_the_five_most_probable_classes(capsys, finished, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = said(capsys, finished[0], shapes[0], "--explain")
    assert (code, err) == (0, "")
    name, *lines, last = out.splitlines()
    assert name == str(shapes[0])
    assert len(lines) == 5 and all(re.fullmatch(r"  \w+ \w+ +[01]\.\d{4}", line) for line in lines)
    (picture,) = (tmp_path / "explanations").iterdir()
    assert last == f"  explanation: explanations/{picture.name}"


def test_names_cannot_command_the_terminal(capsys):
    result = predict.Result(Path("a\x1b[2J.png"), [("cat\x1b]0;dog\a", 0.5)], Path("why\x1b.png"))
    predict.print_table([result], True)
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable() and r"cat\x1b]0;dog\x07" in text


def test_an_image_with_the_longest_name_is_explained_beside_others(capsys, finished, shapes, tmp_path):
    long = tmp_path / ("å" * 125 + ".png")  # 254 bytes
    shutil.copy(shapes[0], long)
    code, out, err = said(capsys, finished[0], long, shapes[0], "--explain", "--output", tmp_path / "why")
    assert (code, err) == (0, "")
    assert len([*(tmp_path / "why").iterdir()]) == out.count("explanation") == 2


@pytest.mark.parametrize("variant", ["linear", "convolutional", "svm", "second-order"])
def test_heads_on_features_explain_themselves(capsys, heads, birds, tmp_path, variant):
    code, out, err = said(capsys, heads[variant], birds[0], birds[9], "--explain", "--json", "--output", tmp_path)
    assert (code, err) == (0, "")
    for result in json.loads(out):
        with Image.open(result["explanation"]) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape == (224, 448, 3)
        assert np.ptp(pixels[:, 224:]) > 50


def test_the_explanation_stands_where_the_class_is(finished, tmp_path):
    """The left half is the image itself, in colour; the right one differs."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = np.asarray(Predictor(finished[0]).explain(tmp_path / "a.png", 0)).astype(int)
    assert (found[10, 10] == (255, 0, 0)).all() and (found[200, 200] == 0).all()
    assert not (found[:, 224:] == found[:, :224]).all()


def test_a_network_without_maps_says_so_once_and_goes_on(capsys, run_copy, shapes, tmp_path):
    (run_copy / MANIFEST).unlink()
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.Dense(5)(keras.layers.Flatten()(inputs))).save(run_copy / "model.keras")
    flags = ("--explain", "--json", "--output", tmp_path / "why")
    code, out, err = said(capsys, run_copy, shapes[0], shapes[50], *flags)
    assert code == 0 and err.count("\n") == 1 and err.startswith("warning: ") and "no maps" in err
    assert [each["explanation"] for each in json.loads(out)] == [None, None]
    assert not (tmp_path / "why").exists()


@pytest.mark.parametrize(
    ("images", "flags", "words"),
    [
        (("000.png", "nothing.png"), (), "nothing.png does not exist"),
        (("",), ("--explain", "--output", "{}/why"), "is in the folder of images"),
        (("empty",), (), "holds no image"),
        (("000.png",), ("--weights", "none"), "needs no --weights"),
    ],
)
def test_what_cannot_be_is_one_line_before_anything_is_computed(
    capsys, finished, shapes, tmp_path, images, flags, words
):
    folder = tmp_path / "images"
    (folder / "empty").mkdir(parents=True)
    shutil.copy(shapes[0], folder)
    paths = [folder / name for name in images]
    code, out, err = said(capsys, finished[0], *paths, *(flag.format(folder) for flag in flags))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and words in err
    assert visible_files(tmp_path) == ["images/000.png"]


def no_config(run):
    (run / "config.json").unlink()
    return run


def other_config(run):
    (run / "config.json").write_text('{"name": "something else"}')
    return run


def damaged_config(run):
    (run / "config.json").write_text("{")
    return run


def no_model(run):
    (run / "model.keras").unlink()
    return run


def damaged_model(run):
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:20_000])
    return run


def other_model(run):
    """One that Keras reads without a word."""
    with zipfile.ZipFile(run / "model.keras", "a") as archive:
        archive.writestr("more", "")
    return run


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda run: run / "nothing", "does not exist"),
        (lambda run: run.parent, "is not the folder of a finished run, which is .../NAME/seed-N; it has seed-0 in it"),
        (lambda run: run / "loss.png", "is not the folder of a finished run"),
        (no_config, "is not the folder of a finished run"),
        (other_config, "is not the configuration of a run"),
        (damaged_config, "is damaged"),
        (no_model, "has no model.keras"),
        (damaged_model, "model.keras is damaged"),
        (other_model, "seed-0/model.keras is not as the run left it"),
    ],
)
def test_what_is_no_finished_run_is_one_line(capsys, run_copy, shapes, make, words):
    code, out, err = said(capsys, make(run_copy), shapes[0])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and words in err


def test_a_head_on_features_of_other_lengths_is_refused(capsys, heads, birds, tmp_path):
    run = shutil.copytree(heads["linear"], tmp_path / "seed-0", ignore=shutil.ignore_patterns(MANIFEST))
    edit(run / "config.json", '"features": "pooled"', '"features": "second-order"')
    code, out, err = said(capsys, run, birds[0])
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "was trained on features 'second-order' of another version of the suite; train it again" in err


def test_a_head_wants_the_weights_of_its_run(capsys, heads, birds, tmp_path):
    run = shutil.copytree(heads["linear"], tmp_path / "seed-0", ignore=shutil.ignore_patterns(MANIFEST))
    config = read_json(run / "config.json")
    config["backbone"]["weights_sha256"] = "0" * 64
    (run / "config.json").write_text(json.dumps(config))
    code, out, err = said(capsys, run, birds[0], "--weights", "none")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "other weights of ResNet50 than --weights none" in err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of this system")
def test_a_progress_bar_is_on_a_terminal_and_leaves_stdout_alone(finished, shapes):
    for flags, has_bar in (((), True), (("--quiet",), False)):
        terminal, end = os.openpty()
        command = [sys.executable, "predict.py", finished[0], shapes[0].parent, "--json", *flags]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=end)
        os.close(end)
        out, _ = process.communicate()
        os.set_blocking(terminal, False)
        try:
            shown = os.read(terminal, 1 << 16).decode()
        except (BlockingIOError, OSError):
            shown = ""
        os.close(terminal)
        assert process.returncode == 0
        assert len(json.loads(out)) == len(shapes)
        assert ("images" in shown) == has_bar, shown


def test_help_needs_no_tensorflow():
    code = """
import sys
import predict
try:
    predict.main(["--help"])
except SystemExit as end:
    assert end.code == 0
assert not {"tensorflow", "keras", "matplotlib"} & {*sys.modules}
"""
    result = run_code(code)
    assert result.returncode == 0, result.stderr
    assert "RUN_FOLDER" in result.stdout


def test_output_is_a_flag_of_explain():
    result = run_script("predict.py", "run", "image.png", "--output", "why")
    assert_error(result, "--explain")


def test_what_is_needed_to_use_a_network_is_in_its_file(finished, staged_birds, heads):
    told = {}
    for name, run in (("shapes", finished[0]), ("tuned", staged_birds), ("head", heads["svm"])):
        config = read_json(run / "config.json")
        with zipfile.ZipFile(run / "model.keras") as file:
            assert file.testzip() is None
            told[name] = json.loads(file.read("preprocessing.json"))
        assert told[name].pop("classes") == config["dataset"]["classes"]
        normalization = {key: told[name].pop(key) for key in ("mean", "standard_deviation")}
        assert normalization == config["normalization"]
    assert told == {
        "shapes": {"image_size": 32, "resize": "squash", "features": None, "precision": "float32"},
        "tuned": {"image_size": 32, "resize": "squash", "features": None, "precision": "float32"},
        "head": {"image_size": 32, "resize": "squash", "features": "pooled-flip-average", "precision": "float32"},
    }


def test_the_lines_in_the_docs_name_the_class_without_the_suite(capsys, finished, synthetic_data, tmp_path):
    (code,) = re.findall(r"```python\n(.+?)```", (ROOT / "docs/own_images.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    code += "\nimport sys; assert not any(name.split('.')[0] == 'common' for name in sys.modules)"
    shutil.copy(finished[0] / "model.keras", tmp_path)
    with np.load(finished[0] / "predictions.npz") as saved:
        surest = saved["probabilities"].max(axis=1).argmax()  # resizing it the other way changes no class
    pixels = synthetic_data.select((0, 1, 2, 3, 4)).test_images.values[surest]
    Image.fromarray(pixels).resize((90, 60), Image.Resampling.BICUBIC).save(tmp_path / "photo.jpg", quality=95)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = run_code(code, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    lines = [line.split(": ") for line in result.stdout.splitlines()]
    _, out, _ = said(capsys, finished[0], tmp_path / "photo.jpg", "--json")
    (expected,) = json.loads(out)
    assert next(name for name, _ in lines) == expected["predictions"][0]["class"]
    found = {name: float(probability) for name, probability in lines}
    for each in expected["predictions"]:  # Pillow's and TensorFlow's JPEG decoders and resizing round otherwise
        assert abs(found[each["class"]] - each["probability"]) < 0.02
