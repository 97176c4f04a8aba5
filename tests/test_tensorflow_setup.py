"""Settings from outside change no result."""

import json
import os
import shutil

import numpy as np
import pytest
from conftest import (
    EX2,
    FOUR_EPOCHS,
    QUICK,
    assert_done,
    assert_error,
    assert_same_run,
    edit,
    kill_at,
    run_code,
    run_script,
    script_process,
)
from numpy.lib.format import read_array

from common import tensorflow_setup


@pytest.mark.slow
def test_settings_of_keras_and_tensorflow_from_outside_change_nothing(finished, tmp_path):
    """All at once: what each would do alone, it would do here, or the run would fail."""
    home = tmp_path / "home"
    home.mkdir()
    settings = {"floatx": "float64", "epsilon": 0.1, "image_data_format": "channels_first", "backend": "jax"}
    (home / "keras.json").write_text(json.dumps(settings))
    environment = {
        **os.environ,
        "KERAS_HOME": str(home),
        "KERAS_BACKEND": "jax",
        "KERAS_MAX_EPOCHS": "2",
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true",
        "TF_USE_LEGACY_KERAS": "1",
        "TF_ENABLE_AUTO_MIXED_PRECISION": "1",
    }
    output = tmp_path / "results"
    result = run_script(EX2, *QUICK, "--epochs", 4, "--output", output, env=environment)
    assert_done(result)
    assert_same_run(finished[0], output / FOUR_EPOCHS)
    assert json.loads((home / "keras.json").read_text()) == settings  # the user's own file stays


@pytest.mark.slow
def test_the_suite_in_a_notebook_is_set_up_like_the_scripts():
    code = (
        "import os; os.environ.update(KERAS_MAX_EPOCHS='2', TF_XLA_FLAGS='--tf_xla_auto_jit=2')\n"
        "import gc; from common import tensorflow_setup\n"
        "collections = gc.get_stats()[2]['collections']\n"
        "assert tensorflow_setup.configure(threads=1)\n"
        "assert gc.isenabled() and gc.get_stats()[2]['collections'] == collections\n"
        "import keras, tensorflow as tf\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "assert keras.config.max_epochs() is None if hasattr(keras.config, 'max_epochs') else True\n"
        "assert not {'KERAS_MAX_EPOCHS', 'TF_XLA_FLAGS'} & {*os.environ}\n"
        "assert (keras.config.floatx(), keras.config.epsilon()) == ('float32', 1e-7)"
    )
    result = run_code(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("files", "visible", "words"),
    [
        ({}, None, None),
        ({}, "-1", None),
        ({"sys/bus/pci/devices/0000:01:00.0/vendor": "0x8086\n"}, None, None),
        ({"sys/bus/pci/devices/0000:01:00.1/class": "0x040300\n"}, None, None),  # the sound of a graphics card
        ({"sys/bus/pci/devices/0000:01:00.0/class": "0x030200\n"}, None, "not its driver"),
        ({"dev/nvidia0": ""}, None, 'pip install "tensorflow[and-cuda]"'),
        ({"dev/nvidia0": ""}, "0,1", 'pip install "tensorflow[and-cuda]"'),
        ({"dev/nvidia0": ""}, "GPU-8932f937", 'pip install "tensorflow[and-cuda]"'),
        ({"dev/nvidia0": ""}, "", "CUDA_VISIBLE_DEVICES= hides it"),
        ({"dev/nvidia0": ""}, "-1", "CUDA_VISIBLE_DEVICES=-1 hides it"),
    ],
)
def test_why_no_gpu_is_used_is_a_sentence(files, visible, words, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for path, text in files.items():
        device = tmp_path / path
        device.parent.mkdir(parents=True, exist_ok=True)
        if "pci" in path:
            (device.parent / "vendor").write_text("0x10de\n")
            (device.parent / "class").write_text("0x030000\n")
        device.write_text(text)
    sentence = tensorflow_setup.why_no_gpu(tmp_path)
    assert sentence is None if words is None else sentence is not None and words in sentence


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_as_many_runs_at_a_time_as_cores_and_memory_allow(tmp_path):
    cores = tensorflow_setup.available_threads()
    assert tensorflow_setup.runs_at_a_time(1, tmp_path) == cores
    assert tensorflow_setup.runs_at_a_time(2**60, tmp_path) == 1
    limit = tmp_path / "sys" / "fs" / "cgroup" / "memory.max"
    limit.parent.mkdir(parents=True)
    limit.write_text("max\n")
    assert tensorflow_setup.runs_at_a_time(2**20, tmp_path) == cores
    limit.write_text(f"{2**30}\n")  # a container's
    assert tensorflow_setup.runs_at_a_time(2**30, tmp_path) == 1
    limit.unlink()
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    assert tensorflow_setup.runs_at_a_time(1, tmp_path) == 1


@pytest.mark.parametrize(
    ("precision", "flags", "is_slower"),
    [
        ("bfloat16", "flags\t: fpu avx2 avx512f avx512_bf16", False),
        ("bfloat16", "flags\t: fpu avx2 avx512f", True),
        ("bfloat16", "Features\t: fp asimd bf16", False),
        ("float16", "flags\t: fpu avx512f avx512_bf16", True),
        ("float32", "flags\t: fpu", False),
        ("bfloat16", "cpu\t: POWER9", False),  # which does not say
    ],
)
def test_a_precision_that_the_processor_emulates_is_said_to_be_slower(precision, flags, is_slower, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    sentence = tensorflow_setup.why_slower(precision, cpuinfo)
    assert (sentence is not None) == is_slower
    assert not is_slower or (f"only emulates {precision}" in sentence and "slower" in sentence)
    assert tensorflow_setup.why_slower(precision, tmp_path / "none") is None


@pytest.mark.parametrize(
    ("flags", "has_it"), [("flags\t: fpu avx2 avx512f", True), ("flags\t: fpu avx2", False), ("cpu\t: POWER9", False)]
)
def test_avx512_is_found_where_linux_lists_it(flags, has_it, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\n{flags}\n")
    assert tensorflow_setup.has_avx512(cpuinfo) == has_it
    assert not tensorflow_setup.has_avx512(tmp_path / "none")


def test_a_kernel_that_tensorflow_lacks_is_one_line_and_the_first_line_says_why_no_gpu_is_used(project, tmp_path):
    """As of the gradient of frozen batch normalisation, deterministic, on a GPU."""
    raising = "    import tensorflow as tf\n\n    raise tf.errors.UnimplementedError(None, None, 'no kernel')\n"
    edit(project / "common" / "models" / "basenet.py", "    return Model(", f"{raising}    return Model(")
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "-1"}
    result = run_script(EX2, *QUICK, "--output", tmp_path / "results", root=project, env=environment)
    assert_error(result, "no kernel", "--no-deterministic does without")
    first = result.stdout.splitlines()[0]
    assert first.endswith(", on CPU, 1 thread. A GPU is here, but CUDA_VISIBLE_DEVICES=-1 hides it.")
    assert not [*(tmp_path / "results").glob("synthetic/*/*/.*.partial")]


@pytest.mark.slow
def test_float16_keeps_its_loss_scale_over_a_kill(tmp_path):
    flags = (*QUICK, "--epochs", 3, "--precision", "float16")
    assert_done(run_script(EX2, *flags, "--output", tmp_path / "whole"))
    kill_at(script_process(EX2, *flags, "--output", tmp_path / "killed"), "Epoch 2/3")
    (checkpoint,) = tmp_path.glob("killed/synthetic/*/*/.seed-0.partial/.checkpoint")
    assert np.float32(2**15) in scalars(checkpoint) or np.float32(2**14) in scalars(checkpoint)
    assert_done(run_script(EX2, *flags, "--output", tmp_path / "killed"))
    whole, killed = (next((tmp_path / name).glob("synthetic/*/*/seed-0")) for name in ("whole", "killed"))
    assert_same_run(whole, killed)


def scalars(checkpoint) -> list:
    """The numbers among the arrays of a checkpoint."""
    found = []
    with open(checkpoint, "rb") as file:
        while file.peek(1):
            array = read_array(file)
            if array.shape == ():
                found.append(array[()])
    return found
