"""Settings from outside change no result."""

import json
import os

import pytest
from conftest import EX2, FOUR_EPOCHS, QUICK, assert_done, assert_same_run, run_code, run_script


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
        "from common import tensorflow_setup\n"
        "assert tensorflow_setup.configure(threads=1)\n"
        "import keras, tensorflow as tf\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "assert keras.config.max_epochs() is None if hasattr(keras.config, 'max_epochs') else True\n"
        "assert not {'KERAS_MAX_EPOCHS', 'TF_XLA_FLAGS'} & {*os.environ}\n"
        "assert (keras.config.floatx(), keras.config.epsilon()) == ('float32', 1e-7)"
    )
    result = run_code(code)
    assert result.returncode == 0, result.stderr
