"""The bonus and what follows from it, the real script."""

import pytest
from conftest import BONUS, ROOT, RUN_FILES, assert_done, read_json, run_script, visible_files

from bonus_residual import EXERCISE


@pytest.fixture(scope="module")
def tables() -> dict[str, str]:
    """The networks of all variants, by their names."""
    result = run_script(BONUS, "--table", "--variant", "all")
    assert_done(result)
    names, *_ = zip(*(line.split(maxsplit=1) for line in run_script(BONUS, "--list").stdout.splitlines()))
    starts = [result.stdout.index(f"{name}\n\n| no.") for name in names]
    return dict(zip(names, (result.stdout[start:end] for start, end in zip(starts, [*starts[1:], None]))))


def test_wide_and_residual_are_the_report_s(tables):
    wide, residual = tables["wide"], tables["residual"]
    assert all("2,259,737 parameters" in table for table in (wide, residual))
    assert "Add" not in wide
    assert "| 8 | Add (the output of 3) | - | 32 → 32 | - |" in residual
    assert "| 19 | Add (the output of 14) | - | 16 → 16 | - |" in residual
    assert "| 28 | Linear | - | 512 → 25 | - |" in residual


def test_the_next_steps_change_the_blocks_and_keep_the_rest(tables):
    names = ("bottleneck", "deeper", "deeper-3", "self-calibrated")
    bottleneck, deeper, deeper_3, calibrated = (tables[name] for name in names)
    for table, last, blocks in ((bottleneck, 64, 5), (deeper, 64, 2), (deeper_3, 48, 3), (calibrated, 64, 1)):
        assert f"Linear | - | {64 * last} → 512 | - |" in table
        shortcuts = table.count("Add (the output of")
        assert shortcuts == 2 * blocks
    assert bottleneck.count("| 1 | 32 → 32 | 32 → 16 |") == bottleneck.count("| 1 | 32 → 32 | 16 → 32 |") == 5
    assert bottleneck.count("Conv2D, same padding | 3 | 16 → 16 | 32 → 32 |") == 5
    # In each of four convolutions: one of pooled channels, three of half the channels in full size.
    assert calibrated.count("AveragePooling2D | 4 | 32 → 8 |") == 2
    assert calibrated.count("AveragePooling2D | 2 | 16 → 8 |") == 2
    assert calibrated.count("| 3 | 32 → 32 | 16 → 16 |") == 6
    assert calibrated.count("Multiply") == calibrated.count("Add (the outputs of") == 4


def test_the_champion_leaves_a_whole_run(champion):
    assert visible_files(champion) == RUN_FILES
    settings = read_json(champion / "config.json")["experiment"]
    assert settings["test_time_augmentation"] is True and settings["label_smoothing"] == 0.1
    assert settings["optimizer"] == "muon" and settings["cutmix"] == 0.5
    assert "dropout" not in settings and "shortcuts" not in settings


def test_fast_is_what_was_published():
    published = read_json(ROOT / "published/cifar100/bonus_residual/fast,precision=bfloat16/seed-0/config.json")
    assert EXERCISE.experiment("fast").settings() == {"cutmix": 0.0, **published["experiment"]}


@pytest.mark.slow
def test_smoothing_reaches_the_training_images(tmp_path):
    """One batch, so the first epoch's loss is that of the same fresh weights."""
    flags = ("--dataset", "synthetic", "--classes", "0-2", "--limit", 20, "--epochs", 1, "--variant", "wide")
    assert_done(run_script(BONUS, *flags, "--label-smoothing", 0, 0.1, "--output", tmp_path))
    rest = "classes=0-2,epochs=1,{}limit=20/seed-0/history.csv"
    plain, smoothed = (
        float((tmp_path / "synthetic/bonus_residual" / f"wide,{rest.format(more)}").read_text().split(",")[6])
        for more in ("", "label-smoothing=0.1,")
    )
    assert abs(smoothed - plain) > 1e-3
