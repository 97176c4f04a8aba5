"""TensorFlow made quiet, repeatable and fast, before anything else imports it."""

import os
import shutil
import sys
from contextlib import contextmanager


def configure() -> str:
    """Sets up TensorFlow for this process and returns one line that says what it trains on.

    Deterministic kernels, GPU memory taken as needed, and oneDNN's kernels also where TensorFlow
    leaves them off: on Linux its ``DefaultOneDnnPolicy`` (``port.cc``) asks for a processor with
    VNNI or AMX instructions. TF_ENABLE_ONEDNN_OPTS=0 in the environment keeps them off.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_stderr():
        import keras
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
    keras.config.set_image_data_format("channels_last")  # whatever ~/.keras/keras.json says
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return _describe(tf, gpus)


def _describe(tf, gpus) -> str:
    if gpus:
        details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
        return "GPU: " + ", ".join(d.get("device_name", "unnamed") for d in details)
    line = f"CPU, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    if os.path.exists("/dev/nvidia0") or shutil.which("nvidia-smi"):
        if sys.platform == "win32":
            remedy = "on Windows it can in WSL2 only"
        else:
            remedy = 'the CUDA packages are missing: pip install "tensorflow[and-cuda]"'
        line += f" (a GPU is here, but TensorFlow cannot use it; {remedy})"
    return line


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
