"""More epochs of a finished run, and runs that begin with the weights of another: the real scripts."""

import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    EX1,
    EX2,
    EX3,
    FOUR_EPOCHS,
    QUICK,
    assert_done,
    assert_error,
    kill_at,
    run_script,
    script_process,
)

import ex1_basenet
import ex3_resnet_birds
from common import cli
from common.errors import UserError
from common.files import sha256_of
from common.reporting.run_folder import MANIFEST, read_run

FEW = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20, "--quiet")
SAME = ("examples.npz", "history.csv", "layer_table.md", "metrics.json", "per_class.json")


def assert_same_training(a: Path, b: Path) -> None:
    """The same bytes in all that training and evaluation leave; the runs may have other names."""
    for name in SAME:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    with np.load(a / "predictions.npz") as first, np.load(b / "predictions.npz") as second:
        assert all(np.array_equal(first[key], second[key]) for key in ("labels", "probabilities"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in folder.iterdir()}


def names(exercise, *flags):
    return [job.name for job in cli.select(exercise, cli.parse(exercise, [str(flag) for flag in flags]))[1]]


@pytest.fixture(scope="module")
def went_on(finished, tmp_path_factory):
    """The shared run, which has patience, dropout and augmentation, for two epochs more; killed once on the way."""
    output = tmp_path_factory.mktemp("went_on")
    shutil.copytree(finished[0], output / FOUR_EPOCHS)
    before = digests(output / FOUR_EPOCHS)
    command = (EX2, *QUICK, "--epochs", 4, "--more-epochs", 2, "--output", output)
    kill_at(script_process(*command), "Epoch 6/6")
    result = run_script(*command)
    assert_done(result)
    assert digests(output / FOUR_EPOCHS) == before
    return output / "synthetic/ex2_improvements/early-stopping,classes=0-4,epochs=6,from=4,limit=40/seed-0", result


@pytest.mark.slow
def test_more_epochs_give_the_bytes_of_as_many_at_once_also_after_a_kill(went_on, tmp_path):
    folder, result = went_on
    assert "Epoch 1/6" not in result.stdout and "resumes after epoch 5" in result.stdout
    assert_done(run_script(EX2, *QUICK, "--epochs", 6, "--quiet", "--output", tmp_path))
    assert_same_training(
        tmp_path / "synthetic/ex2_improvements/early-stopping,classes=0-4,epochs=6,limit=40/seed-0", folder
    )


@pytest.mark.slow
def test_a_run_that_went_on_says_from_where(went_on):
    folder, _ = went_on
    run = read_run(folder)
    assert run.config["continued"] == {"name": "early-stopping,classes=0-4,epochs=4,limit=40", "epochs": 4}
    assert run.config["experiment"]["epochs"] == 6
    assert [row["first_epoch"] for row in run.environment] == [1, 5, 6]
    assert len(run.timing["epoch_seconds"]) == 6


@pytest.mark.slow
def test_several_runs_go_on_beside_each_other_and_one_after_the_other_each_says_which_it_is(tmp_path):
    """sgd has a schedule that does not depend on the number of epochs."""
    command = (EX1, *FEW, "--variant", "all", "--output", tmp_path)
    two = run_script(*command, "--epochs", 2)
    assert_done(two)
    lines = [line for line in two.stdout.splitlines() if line.startswith("run ")]
    assert lines[0] == "run 1 of 2: sgd,classes=0-2,epochs=2,limit=20, seed 0"
    assert lines[1].startswith("run 2 of 2: adam,classes=0-2,epochs=2,limit=20, seed 0; about ")
    assert lines[1].endswith(" left")
    assert_done(run_script(*command, "--epochs", 2, "--more-epochs", 1, "--jobs", 2))
    assert_done(run_script(*command, "--epochs", 3))
    for variant in ("sgd", "adam"):
        folder = tmp_path / "synthetic/ex1_basenet"
        assert_same_training(
            folder / f"{variant},classes=0-2,epochs=3,limit=20/seed-0",
            folder / f"{variant},classes=0-2,epochs=3,from=2,limit=20/seed-0",
        )


@pytest.mark.slow
def test_a_schedule_over_all_epochs_is_a_warning_and_what_cannot_go_on_an_error(tmp_path):
    cosine = (EX1, *FEW, "--variant", "adam", "--schedule", "CosineDecay", "--epochs", 2, "--output", tmp_path)
    assert_done(run_script(*cosine))
    went_on = run_script(*cosine, "--more-epochs", 2)
    assert went_on.returncode == 0
    assert went_on.stderr == (
        "warning: the learning rate jumps from 0 to 0.0005, for the schedule cosinedecay is laid over all 4 epochs; "
        "this is not the run that --epochs 4 gives\n"
    )
    (folder,) = (tmp_path / "synthetic/ex1_basenet").glob("adam,classes=0-2,epochs=2,*/seed-0")
    checkpoint = bytearray((folder / ".checkpoint").read_bytes())
    checkpoint[len(checkpoint) // 2] ^= 1
    (folder / ".checkpoint").write_bytes(checkpoint)
    assert_error(run_script(*cosine, "--more-epochs", 1), "nothing to go on from", f"{folder / '.checkpoint'} does not")
    (folder / ".checkpoint").unlink()
    assert_error(run_script(*cosine, "--more-epochs", 1), "holds no .checkpoint of its last epoch", "--force")

    # Steps too small to change a weight: the second epoch is no better than the first.
    patient = (EX1, *FEW, "--variant", "adam", "--learning-rate", 1e-12, "--patience", 1, "--output", tmp_path)
    assert_done(run_script(*patient))
    assert_error(run_script(*patient, "--more-epochs", 1), "ended after 2 epochs", "--patience 1", "--init")
    edited = next((tmp_path / "synthetic/ex1_basenet").glob("adam,*patience=1/seed-0")) / "config.json"
    edited.write_text(edited.read_text().replace('"seed": 0', '"seed": 7'))
    assert_error(run_script(*patient, "--more-epochs", 1), "nothing to go on from", "seed is 7 there, 0 here")


def test_a_run_that_is_not_there_cannot_go_on_and_nothing_is_written(tmp_path):
    command = (EX1, *FEW, "--variant", "adam", "--epochs", 2, "--more-epochs", 1, "--output", tmp_path)
    for more in ((), ("--jobs", 2)):
        assert_error(run_script(*command, *more), "adam,classes=0-2,epochs=2,limit=20/seed-0", "without --more-epochs")
    assert list(tmp_path.iterdir()) == []


def test_names_and_plans_of_runs_that_go_on():
    exercise = ex1_basenet.EXERCISE
    assert names(exercise, "--variant", "adam", "--epochs", 10, "--more-epochs", 5) == ["adam,epochs=15,from=10"]
    assert names(exercise, "--variant", "adam", "--more-epochs", 5) == ["adam,epochs=30,from=25"]
    assert names(exercise, "--variant", "adam", "--epochs", 10, 20, "--more-epochs", 5) == [
        "adam,epochs=15,from=10",
        "adam,from=20",  # 25 are the variant's own
    ]
    plan = run_script(EX1, "--seed", 0, 1, "--epochs", 10, "--more-epochs", 5, "--tensorboard", "--plan")
    assert_done(plan)
    lines = plan.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert "--epochs\t10\t" in line and "--more-epochs\t5\t" in line and "--tensorboard" in line
        assert len(names(exercise, *shlex.split(line)[2:])) == 1


@pytest.mark.parametrize("flag", ["--more-epochs", "--init"])
def test_linear_classifiers_have_no_epochs_to_go_on_or_begin_with(flag):
    with pytest.raises(UserError, match=f"svm has nothing that {flag} could change"):
        names(ex3_resnet_birds.EXERCISE, "--variant", "svm", flag, 5)


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another(budgeted, tmp_path):
    """With steps too small to change a weight, it ends with them too."""
    source = read_run(budgeted)
    command = (EX1, "--dataset", "synthetic", "--variant", "adam", "--epochs", 1, "--limit", 30)
    more = ("--learning-rate", 1e-12, "--init", budgeted, "--output", tmp_path)
    result = run_script(*command, *more)
    assert_done(result)
    place = "synthetic/ex1_basenet/adam,epochs=2,limit=30/seed-0"
    assert f"begins with the weights of {place} in 4 of 4 layers\n" in result.stdout
    (folder,) = (tmp_path / "synthetic/ex1_basenet").glob("adam,*/seed-0")
    run = read_run(folder)
    assert run.config["initial_weights"]["run"] == place
    digest = run.config["initial_weights"]["sha256"]
    assert folder.parent.name == f"adam,epochs=1,init=adam~{digest[:8]},learning-rate=1e-12,limit=30"
    assert run.history[0]["val_loss"] == pytest.approx(source.history[-1]["val_loss"], abs=1e-6)
    assert run.metrics["test_accuracy"] == source.metrics["test_accuracy"]
    assert names(ex1_basenet.EXERCISE, "--variant", "adam", "--init", folder) != names(
        ex1_basenet.EXERCISE, "--variant", "adam", "--init", budgeted
    )


def test_a_folder_that_is_not_a_run_is_no_beginning(budgeted, tmp_path):
    assert_error(run_script(EX1, *FEW, "--init", tmp_path), f"--init {tmp_path}: not the folder of a finished run")
    shutil.copytree(budgeted, tmp_path / "run")
    network = tmp_path / "run/model.keras"
    with zipfile.ZipFile(network, "a") as archive:
        archive.writestr("more", "")
    with pytest.raises(UserError, match=r"run/model\.keras is not as the run left it"):
        names(ex1_basenet.EXERCISE, "--init", tmp_path / "run")
    (tmp_path / "run" / MANIFEST).unlink()  # as a run older than manifests
    assert names(ex1_basenet.EXERCISE, "--init", tmp_path / "run")
    network.write_bytes(b"PK")
    with pytest.raises(UserError, match="not the folder of a finished run"):
        names(ex1_basenet.EXERCISE, "--init", tmp_path / "run")


@pytest.mark.slow
def test_a_fine_tuning_goes_on_and_begins_with_another_s_weights_but_for_the_head(staged_birds, drawn_birds, tmp_path):
    """An epoch is one step, the first of its schedule's warm-up, so more epochs do not change it."""
    output, place = tmp_path / "results", staged_birds.relative_to(staged_birds.parents[3])
    shutil.copytree(staged_birds, output / place)
    birds = (EX3, "--dataset", "synthetic", "--data-dir", drawn_birds.parent, "--weights", "none", "--image-size", 32)
    staged = (*birds, "--variant", "finetune-staged", "--quiet", "--output", output)
    assert_done(run_script(*staged, "--classes", "0-3", "--epochs", 1, "--more-epochs", 1))
    assert_done(run_script(*staged, "--classes", "0-3", "--epochs", 2))
    (went_on,) = output.glob("synthetic/ex3_resnet_birds/finetune-staged,*,epochs=2,from=1,*/seed-0")
    (at_once,) = output.glob("synthetic/ex3_resnet_birds/finetune-staged,*,epochs=2,[!f]*/seed-0")
    assert_same_training(at_once, went_on)

    result = run_script(*staged, "--classes", "0-4", "--epochs", 1, "--init", staged_birds)
    assert_done(result)
    assert f"begins with the weights of {place.as_posix()} in 106 of 107 layers: all but dense\n" in result.stdout
