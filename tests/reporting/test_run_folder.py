import io
import json
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import ROOT, read_json

from common.errors import UserError
from common.reporting.report.runs import read_runs
from common.reporting.run_folder import RunFolder, find_runs, read_history, read_run, write_history

PROCESS = read_json(find_runs(ROOT / "published")[0] / "environment.json")[0]
CONFIG = {"experiment": {"epochs": 25, "batch_size": 64}, "seed": 0}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path, "synthetic", "script", "variant", 0)


def test_history_reads_back_exactly(tmp_path):
    history = [
        {"epoch": 1, "loss": 1 / 3, "accuracy": 0.1, "val_loss": 1e-9, "val_accuracy": 2 / 7, "learning_rate": 0.01}
    ]
    write_history(tmp_path / "history.csv", history)
    assert read_history(tmp_path / "history.csv") == history


@pytest.mark.parametrize("is_finished", [True, False], ids=["finished", "unfinished"])
def test_other_settings_are_named_setting_by_setting(folder, is_finished):
    with folder.locked():
        folder.begin(CONFIG)
        if is_finished:
            folder.partial.rename(folder.path)
        else:
            assert folder.finished(CONFIG) is None
        words = r"run that differs: experiment\.epochs is 25 there, 3 here; seed is 0 there, 1 here\..*--force"
        with pytest.raises(UserError, match=words):
            folder.finished({"experiment": {"epochs": 3, "batch_size": 64}, "seed": 1})


def test_lists_are_compared_value_by_value_and_long_lists_of_differences_cut(folder):
    with folder.locked():
        folder.begin({"classes": ["apple", "baby"], "seed": 0})
        with pytest.raises(UserError, match=r'differs: classes\.1 is "baby" there, null here\. Keep'):
            folder.finished({"classes": ["apple"], "seed": 0})
        with pytest.raises(UserError, match=r"; and 2 more\. Keep"):
            folder.finished({"classes": ["x", "y", "z", "u", "v"], "seed": 1})


def test_changed_code_is_named_by_its_files(folder):
    code = {"common/a.py": "1", "common/b.py": "2", "common/c.py": "3"}
    with folder.locked():
        folder.begin({**CONFIG, "code": code})
        with pytest.raises(UserError, match=r"differs: its code has changed since, in common/b\.py and common/c\.py\."):
            folder.finished({**CONFIG, "code": {"common/a.py": "1", "common/b.py": "other"}})
        assert folder.finished({**CONFIG, "code": code}) is None


def test_a_run_that_was_to_be_replaced_when_the_power_failed_is_put_back(folder):
    """The other, which was to take its place, stays beside it: ``--force`` goes on from there."""
    replaced = folder.path.with_name(".seed-0.old")
    with folder.locked():
        folder.begin(CONFIG)
        folder.partial.rename(replaced)
        folder.begin({**CONFIG, "seed": 1})
    with folder.locked():
        assert read_json(folder.path / "config.json") == CONFIG
        assert folder.has_begun({**CONFIG, "seed": 1})
    shutil.copytree(folder.path, replaced)  # the new one is in place; the old one was about to go
    (folder.path / "config.json").write_text("{}")
    with folder.locked():
        assert read_json(folder.path / "config.json") == {} and not replaced.exists()


def test_an_unfinished_run_is_kept_for_its_own_settings_only(folder):
    with folder.locked():
        folder.begin(CONFIG)
        folder.checkpoint.write_bytes(b"checkpoint")
        folder.begin(CONFIG)
        assert folder.checkpoint.exists()
        folder.begin({**CONFIG, "seed": 1})
        assert not folder.checkpoint.exists()


def test_a_run_that_goes_on_begins_with_the_training_of_the_other(folder, tmp_path):
    source = RunFolder(tmp_path, "synthetic", "script", "other", 0)
    with source.locked(), folder.locked():
        source.begin(CONFIG)
        source.add_environment(PROCESS | {"first_epoch": 1})
        source.checkpoint.write_bytes(b"checkpoint")
        source.partial.rename(source.path)
        folder.begin(CONFIG, source)
        assert folder.has_begun(CONFIG) and not folder.has_begun({})
        assert folder.checkpoint.read_bytes() == b"checkpoint"
        folder.add_environment(PROCESS | {"first_epoch": 3})
        assert [row["first_epoch"] for row in read_json(folder.partial / "environment.json")] == [1, 3]
        assert read_json(source.path / "environment.json") == [PROCESS | {"first_epoch": 1}]
        folder.checkpoint.write_bytes(b"of the next epoch")
        folder.begin(CONFIG, source)
        assert folder.checkpoint.read_bytes() == b"of the next epoch"


def test_each_process_that_works_on_a_run_adds_a_row(folder):
    with folder.locked():
        folder.begin(CONFIG)
        rows = [PROCESS | {"first_epoch": first_epoch} for first_epoch in (1, 3)]
        for row in rows:
            folder.add_environment(row)
        assert read_json(folder.partial / "environment.json") == rows
        for damage in ("", "null", "[1]", '{"a": 1}', '[{"first_epoch": 1}]'):
            (folder.partial / "environment.json").write_text(damage)
            with pytest.raises(UserError, match=r"environment\.json is damaged .*remove .*\.seed-0\.partial"):
                folder.add_environment(PROCESS)


def test_a_second_process_is_refused_until_the_first_is_gone(folder, tmp_path):
    code = (
        "import sys; from pathlib import Path; from common.reporting.run_folder import RunFolder\n"
        f"with RunFolder(Path({str(tmp_path)!r}), 'synthetic', 'script', 'variant', 0).locked():\n"
        "    print('locked', flush=True); sys.stdin.read()"
    )
    first = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert first.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match="another process is writing"), folder.locked():
        pass
    first.kill()
    first.communicate()
    with folder.locked():
        pass


def test_published_runs_are_found_and_read_back_whole():
    found = find_runs(ROOT / "published")
    assert len(found) >= 80
    for path in found:
        run = read_run(path)
        assert path == ROOT / "published" / run.dataset / run.script / run.name / f"seed-{run.seed}"
        assert run.name.split(",")[0] == run.variant
        assert len(run.history) == run.metrics["epochs"] >= run.evaluated_epoch >= 1


@pytest.mark.parametrize("damage", ["missing", "cut", "nested"])
def test_a_folder_that_is_not_a_whole_run_is_named(tmp_path, damage):
    whole = find_runs(ROOT / "published")[0]
    for name in ("config", "metrics", "per_class", "timing", "environment"):
        (tmp_path / f"{name}.json").write_bytes((whole / f"{name}.json").read_bytes())
    (tmp_path / "history.csv").write_bytes((whole / "history.csv").read_bytes())
    assert read_run(tmp_path).metrics == read_run(whole).metrics
    path = tmp_path / "metrics.json"
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(json.dumps({"epochs": 1})[:-1] if damage == "cut" else "[" * 100_000)
    with pytest.raises(UserError, match=r"does not hold a whole run .*--force"):
        read_run(tmp_path)


def changed(text: str, **changes) -> str:
    return json.dumps(json.loads(text) | changes)


FOREIGN = {
    "a list": ("config.json", lambda text: "[]", "config.json is not an object"),
    "nothing": ("metrics.json", lambda text: "null", "metrics.json is not an object"),
    "a name that leads elsewhere": ("config.json", lambda text: changed(text, name="../../x"), "name is not a name"),
    "a name of two lines": ("config.json", lambda text: changed(text, script="a\nb"), "script is not a name"),
    "a seed that is a text": ("config.json", lambda text: changed(text, seed="0"), "seed is not a whole number"),
    "a whole number that is true": ("metrics.json", lambda text: changed(text, epochs=True), "not a whole number"),
    "a number beyond all": ("metrics.json", lambda text: changed(text, test_accuracy=10**400), "is not a number"),
    "an accuracy that is none": ("metrics.json", lambda text: changed(text, val_accuracy=float("nan")), "not a number"),
    "a diagram of one bin": (
        "metrics.json",
        lambda text: changed(text, test_reliability={"images": [1], "confidence": [1.0], "accuracy": [1.0]}),
        "test_reliability is not whole",
    ),
    "a matrix of texts": ("per_class.json", lambda text: changed(text, confusion_matrix=[["1"]]), "whole number"),
    "no process": ("environment.json", lambda text: "[]", "is not of any process"),
    "no seconds": ("timing.json", lambda text: changed(text, epoch_seconds=[]), "epoch_seconds is not of any epoch"),
    "a process that is none": ("environment.json", lambda text: "[1]", "is not an object"),
    "no epoch": ("history.csv", lambda text: text.splitlines()[0], "a row for each epoch"),
    "an epoch twice": ("history.csv", lambda text: f"{text}{text.splitlines()[-1]}", "a row for each epoch"),
    "a field of a megabyte": ("history.csv", lambda text: text + "9" * 1_000_000, "larger than field limit"),
    "an interval of nothing": (
        "metrics.json",
        lambda text: changed(text, test_accuracy_interval=[]),
        "test_accuracy_interval is not two numbers",
    ),
    "epochs that are a text": (
        "config.json",
        lambda text: text.replace('"epochs": ', '"epochs": "x", "": '),
        "experiment: epochs is not a whole number",
    ),
    "more bytes than a run has": ("metrics.json", lambda text: text + " " * 10_000_000, "at most 10,000,000 are read"),
    "a matrix of more bytes than its classes": ("per_class.json", lambda text: text + " " * 10_100_000, "at most 10,"),
    "nested lists": ("timing.json", lambda text: "[" * 100_000, "recursion"),
    "a row cut short": ("history.csv", lambda text: f"{text}99,0.1", "history.csv"),
    "other columns": ("history.csv", lambda text: text.replace("val_loss", "loss of validation"), "val_loss"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_run_of_elsewhere_is_read_only_if_its_files_hold_what_a_run_s_hold(tmp_path, kind):
    shutil.copytree(find_runs(ROOT / "published")[0], tmp_path, dirs_exist_ok=True)
    name, change, words = FOREIGN[kind]
    (tmp_path / name).write_text(change((tmp_path / name).read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=f"does not hold a whole run .*{words}"):
        read_run(tmp_path)


def test_a_run_of_a_system_that_does_not_say_its_peak_memory_is_whole(tmp_path):
    shutil.copytree(find_runs(ROOT / "published")[0], tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "timing.json").read_text(encoding="utf-8")
    (tmp_path / "timing.json").write_text(changed(text, peak_memory_mb=None), encoding="utf-8")
    assert read_run(tmp_path).timing["peak_memory_mb"] is None


@pytest.fixture
def whole(finished, tmp_path):
    """The shared run in an output folder of its own, and its configuration."""
    source, _ = finished
    folder = RunFolder(tmp_path, *source.relative_to(source.parents[3]).parts[:3], seed=0)
    shutil.copytree(source, folder.path)
    return folder, read_json(source / "config.json")


def results(folder):
    return [path for path in sorted(folder.path.iterdir()) if path.suffix != ".png" and not path.name.startswith(".")]


def test_a_finished_run_is_compared_with_its_manifest_when_it_is_read(whole):
    folder, config = whole
    assert [*read_json(folder.path / ".manifest")] == [path.name for path in results(folder)]
    assert {"model.keras", "predictions.npz", "metrics.json"} <= {path.name for path in results(folder)}
    assert folder.finished(config) == read_run(folder.path)
    for path in results(folder):
        content = path.read_bytes()
        changed = bytes([content[0], content[1] ^ 1]) + content[2:]
        for damage, words in (
            (lambda p=path, c=content: p.write_bytes(c[:-1]), "is not as the run left it; use --force"),
            (lambda p=path, c=changed: p.write_bytes(c), "is not as the run left it; use --force"),
            (path.unlink, "is missing; put it back, or use --force"),
        ):
            if path.name != "config.json":  # which says first of all whether it is the run that was asked for
                damage()
                with pytest.raises(UserError, match=rf"{re.escape(str(path))} {words}"):
                    folder.finished(config)
                path.write_bytes(content)
    (folder.path / "loss.png").write_bytes(b"figures are drawn again")
    (folder.path / ".checkpoint").unlink()
    assert folder.finished(config) == read_run(folder.path)


def test_a_run_kept_elsewhere_is_replaced_in_its_place(whole, tmp_path):
    folder, _ = whole
    kept = folder.path.rename(tmp_path / "kept")
    folder.path.symlink_to(kept, target_is_directory=True)
    shutil.copytree(kept, folder.partial)
    with folder.locked():
        folder.publish()
    assert folder.path.is_dir() and not folder.path.is_symlink() and kept.is_dir()
    assert {path.name for path in folder.path.parent.iterdir()} == {"seed-0", ".seed-0.lock"}
    shutil.rmtree(folder.path)
    folder.path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a link to a folder that is not there"), folder.locked():
        pass


def test_a_page_leaves_out_copies_and_runs_with_other_predictions(whole, tmp_path):
    folder, _ = whole
    copies = [folder.path.with_name("seed-1"), folder.path.with_name("seed-0 (copy)")]
    renamed = folder.path.parent.with_name("early-stopping")
    for copy in copies:
        shutil.copytree(folder.path, copy)
    shutil.copytree(folder.path.parent, renamed)
    runs = read_runs(tmp_path, ["synthetic"])
    assert [run.folder for run in runs.found] == [folder.path]
    assert {each.folder for each in runs.damaged} == {*copies, *renamed.glob("seed-*")}
    assert all("a copy, or a folder that was renamed" in each.reason for each in runs.damaged)
    predictions = folder.path / "predictions.npz"
    labels = np.load(predictions)["labels"]
    np.savez(predictions, labels=labels, probabilities=np.eye(5, dtype=np.float32)[labels])  # all of them right
    reasons = [each.reason for each in read_runs(tmp_path, ["synthetic"]).damaged]
    assert any(f"{predictions} is not as the run left it" in reason for reason in reasons)


def test_predictions_that_claim_terabytes_are_a_damaged_run(whole, tmp_path):
    folder, _ = whole
    (folder.path / ".manifest").unlink()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**13, 5)})
    with zipfile.ZipFile(folder.path / "predictions.npz", "w") as archive:
        for name in ("labels", "probabilities"):
            archive.writestr(f"{name}.npy", header.getvalue())
    (damaged,) = read_runs(tmp_path, ["synthetic"]).damaged
    assert "does not hold a whole run" in damaged.reason


def test_a_page_of_many_runs_reads_their_text_files_alone(whole):
    folder, _ = whole
    (folder.path / "model.keras").write_bytes(b"damaged")
    read_run(folder.path)
    write_history(folder.path / "history.csv", [])
    with pytest.raises(UserError, match=r"history\.csv is not as the run left it"):
        read_run(folder.path)
    (folder.path / ".manifest").write_text("[")
    with pytest.raises(UserError, match=r"\.manifest is damaged .*--force"):
        read_run(folder.path)
