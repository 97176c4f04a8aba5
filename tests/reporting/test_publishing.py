import csv
import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, edit, read_json, visible_files

import ex1_basenet
from common.errors import UserError
from common.files import write_json
from common.reporting import publishing
from common.reporting.run_folder import BEFORE_FINGERPRINTS, read_run

SCRIPTS = ["ex1_basenet"]
PLACE = "cifar100/ex1_basenet/adam/seed-0"


@pytest.fixture
def published(tmp_path):
    """A folder of published runs: the three of adam."""
    shutil.copytree(ROOT / "published/cifar100/ex1_basenet/adam", tmp_path / "published/cifar100/ex1_basenet/adam")
    return tmp_path / "published"


@pytest.fixture
def trained(tmp_path):
    """A run of another seed as training leaves it, weights and figures included."""
    folder = tmp_path / "results/cifar100/ex1_basenet/adam/seed-7"
    shutil.copytree(ROOT / "published" / PLACE, folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "seed": 7})
    for name in ("model.keras", "predictions.npz", "loss.png"):
        (folder / name).write_bytes(b"large")
    return folder


def test_a_run_is_added_as_text_and_the_others_stay(published, trained):
    before = visible_files(published)
    (run,) = publishing.add([trained.parents[3]], published, SCRIPTS)
    assert run.folder == published / "cifar100/ex1_basenet/adam/seed-7"
    added = [f"cifar100/ex1_basenet/adam/seed-7/{name}" for name in publishing.TEXT_FILES]
    assert visible_files(published) == sorted([*before, *added])


def test_the_same_name_and_seed_is_replaced(published, trained):
    publishing.add([trained], published, SCRIPTS)
    edit(trained / "metrics.json", '"epochs": 25', '"epochs": 24')
    publishing.add([trained], published, SCRIPTS)
    assert read_run(published / "cifar100/ex1_basenet/adam/seed-7").metrics["epochs"] == 24
    assert len(publishing.read_published(published)) == 4


def test_a_run_is_removed_only_when_it_is_named(published):
    for place in ("cifar100/ex1_basenet/adam", "cifar100/ex1_basenet/adam/seed-9", f"../{published.name}/{PLACE}"):
        with pytest.raises(UserError, match="is not a published run"):
            publishing.find(place, published)
    assert publishing.find(PLACE, published) == published / PLACE


def test_published_folders_and_folders_without_runs_are_refused(published, tmp_path):
    with pytest.raises(UserError, match="published already"):
        publishing.add([published / PLACE], published, SCRIPTS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no finished run"):
        publishing.add([tmp_path / "empty"], published, SCRIPTS)


def test_the_code_of_a_run_is_current_changed_or_unknown():
    run = read_run(ROOT / "published" / PLACE)
    code = {"common/pipeline.py": "1", "common/trial.py": "2"}
    settings = run.config["experiment"]
    run.config["code"] = code
    assert publishing.code_status(run, settings, dict(code)) == "current"
    assert publishing.code_status(run, settings, code | {"common/trial.py": "3"}) == "changed: common/trial.py"
    assert publishing.code_status(run, settings | {"epochs": 30}, code) == "settings changed"
    assert publishing.code_status(run, None, None) == "variant is gone"
    run.config["name"] += ",batch-size=64,epochs=25"
    assert publishing.code_status(run, settings | {"epochs": 30, "batch_size": 32}, code) == "current"
    assert publishing.code_status(run, settings | {"epochs": 30, "dropout": 0.1}, code) == "settings changed"
    run.config["code"] = BEFORE_FINGERPRINTS
    assert publishing.code_status(run, settings, code) == BEFORE_FINGERPRINTS


@pytest.mark.slow
def test_publishing_after_a_field_was_renamed_removes_nothing(project):
    """The command itself, in a copy of the project whose experiments have a field of another name."""
    shutil.copy(ROOT / "README.md", project)
    for folder in ("docs", "published"):
        shutil.copytree(ROOT / folder, project / folder)
    for path in [*project.glob("*.py"), *project.rglob("common/**/*.py")]:
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("label_smoothing", "smoothing_of_labels"), encoding="utf-8")
    before = visible_files(project / "published")
    assert len([name for name in before if name.endswith("metrics.json")]) >= 80
    command = [sys.executable, "docs/publish.py"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True, env=os.environ)
    assert result.returncode == 0, result.stderr
    assert visible_files(project / "published") == before
    with open(project / "published/results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len([name for name in before if name.endswith("metrics.json")])
    assert {row["comparable"] for row in rows if row["dataset"] == "cub200"} == {
        "images or lists not from the official archives"
    }


def test_a_run_of_an_unknown_script_or_without_its_table_is_named_and_nothing_copied(published, tmp_path):
    before = visible_files(published)
    for damage, words in (
        (
            lambda run: write_json(run / "config.json", {**read_json(run / "config.json"), "script": "ex9"}),
            "run of ex9",
        ),
        (lambda run: (run / "layer_table.md").unlink(), "layer_table.md is missing"),
    ):
        runs = tmp_path / words
        for seed in (0, 1):
            shutil.copytree(published / f"cifar100/ex1_basenet/adam/seed-{seed}", runs / f"seed-{seed}")
        damage(runs / "seed-1")
        with pytest.raises(UserError, match=words):
            publishing.add([runs], published, SCRIPTS)
    assert visible_files(published) == before


def test_a_table_without_runs_of_the_name_it_compares_with_is_an_error(published):
    runs = publishing.read_published(published)
    for make in (
        lambda: publishing.steps_table(runs, ex1_basenet.EXERCISE, "wide"),
        lambda: publishing.comparison_table(runs, ex1_basenet.EXERCISE, "wide", {}),
        lambda: publishing.summary_table(runs, ["wide"], {}),
    ):
        with pytest.raises(UserError, match="no run of wide is published"):
            make()


def test_the_table_of_steps_has_differences_seed_by_seed_of_one_variant(published):
    for number, seed in enumerate((1, 0, 2)):  # 0.01, 0.02 and 0.03 better
        base = published / f"cifar100/ex1_basenet/adam/seed-{seed}"
        other = published / f"cifar100/ex1_basenet/adam,normalize=yes/seed-{seed}"
        shutil.copytree(base, other)
        metrics = read_json(base / "metrics.json")
        better = metrics["test_accuracy"] + (number + 1) / 100
        write_json(other / "metrics.json", {**metrics, "test_accuracy": better})
        write_json(other / "config.json", {**read_json(base / "config.json"), "name": "adam,normalize=yes"})
    table = publishing.steps_table(publishing.read_published(published), ex1_basenet.EXERCISE, "adam")
    own, normalized = (line.split(" | ") for line in table.splitlines()[2:])
    assert (own[0], own[-1]) == ("| its own", "- |")
    half = 4.302653 * 0.01 / 3**0.5  # Student's, two degrees of freedom
    assert normalized[0] == "| `normalize=yes`" and normalized[1] == "0, 1, 2"
    assert normalized[-1] == f"+0.0200 ({0.02 - half:+.4f} to {0.02 + half:+.4f}) |"


def test_documentation_has_the_tables_of_today_s_published_runs(project):
    """Writing them again changes nothing, so no number there was written by hand."""
    for folder in ("docs", "published"):
        shutil.copytree(ROOT / folder, project / folder)
    shutil.copy(ROOT / "README.md", project)
    drawn = project / "published/synthetic/ex1_basenet/adam/seed-0"  # is in no table: they are of the report's images
    shutil.copytree(project / "published/cifar100/ex1_basenet/adam/seed-0", drawn)
    config = read_json(drawn / "config.json")
    config["dataset"]["name"] = "synthetic"
    write_json(drawn / "config.json", config)
    result = subprocess.run([sys.executable, "docs/publish.py"], cwd=project, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    assert (project / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
