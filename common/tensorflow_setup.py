"""TensorFlow made quiet, repeatable and fast, before anything else imports it.

All that could change results from outside is dealt with here: environment variables and a user's
``keras.json`` are overridden; what cannot be is refused.
"""

import os
import shutil
import sys
from contextlib import contextmanager

from common.errors import UserError

# Each changes in silence what fit or TensorFlow computes.
REMOVED = (
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_AUTO_MIXED_PRECISION",
    "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE",
    "TF_USE_LEGACY_KERAS",
    "TF_XLA_FLAGS",
    "XLA_FLAGS",
)


def configure(threads: int | None = None) -> str:
    """Sets up TensorFlow for this process and returns what it computes on: "CPU", or the GPUs' names.

    Deterministic kernels, GPU memory taken as needed, and oneDNN's kernels also where TensorFlow
    leaves them off: on Linux its ``DefaultOneDnnPolicy`` (``port.cc``) asks for a processor with
    VNNI or AMX instructions. TF_ENABLE_ONEDNN_OPTS=0 in the environment keeps them off.

    Args:
        threads: that an operation may use; None: all cores.

    Raises:
        UserError: Keras was imported before, with another backend.
    """
    for name in REMOVED:
        os.environ.pop(name, None)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_stderr():
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    if keras.config.backend() != "tensorflow":
        raise UserError(f"Keras runs on {keras.config.backend()} in this process; import the suite before Keras")
    # Whatever keras.json in KERAS_HOME or ~/.keras says:
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()
    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(
            threads
        )  # idle ones spin: 10 % of BaseNet's time on a core
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    if not gpus:
        return "CPU"
    return ", ".join(tf.config.experimental.get_device_details(gpu).get("device_name", "unnamed GPU") for gpu in gpus)


def available_threads() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def unused_gpu() -> str | None:
    """A sentence on a GPU that is here and that TensorFlow cannot use, if there is one."""
    if not (os.path.exists("/dev/nvidia0") or shutil.which("nvidia-smi")):
        return None
    if sys.platform == "win32":
        return "A GPU is here, but TensorFlow cannot use it: on Windows it can in WSL2 only."
    return 'A GPU is here, but TensorFlow lacks the CUDA packages: pip install "tensorflow[and-cuda]".'


@contextmanager
def _silent_stderr():
    """Drops what TensorFlow's C++ says while it loads: no log level reaches those lines."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
