"""TensorFlow made quiet, repeatable and fast, before anything else imports it.

All that could change results from outside is dealt with here: environment variables and a user's
``keras.json`` are overridden; what cannot be is refused.
"""

import gc
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

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
# Instructions that compute in a precision, by the names that Linux has for them on x86 and ARM.
INSTRUCTIONS = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
}
VISIBLE = (*"0123456789", "GPU-", "MIG-")  # what CUDA_VISIBLE_DEVICES begins with where it names a GPU


def configure(threads: int | None = None, deterministic: bool = True) -> str:
    """Sets up TensorFlow for this process and returns what it computes on: "CPU", or the GPUs' names.

    Deterministic kernels, GPU memory taken as needed, and oneDNN's kernels also where TensorFlow
    leaves them off: on Linux its ``DefaultOneDnnPolicy`` (``port.cc``) asks for a processor with
    VNNI or AMX instructions. TF_ENABLE_ONEDNN_OPTS=0 in the environment keeps them off.

    Args:
        threads: that an operation may use; None: all cores.
        deterministic: every kernel gives the same bits each time. Without, a GPU may use faster ones, and Keras
            compiles the steps on it with XLA (``keras.src.trainers.trainer``: ``jit_compile="auto"``).

    Raises:
        UserError: Keras was imported before, with another backend.
    """
    for name in REMOVED:
        os.environ.pop(name, None)
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_stderr(), _no_garbage_collection():
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
    if deterministic:
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


def runs_at_a_time(memory_each: int, root: Path = Path("/")) -> int:
    """As many runs as there are cores, and memory for; one where there is a GPU, which they would share.

    Args:
        memory_each: bytes that a run may need.
        root: of the file system, where Linux says how much memory a container has (``/sys/fs/cgroup/memory.max``).
    """
    if _has_driver(root):
        return 1
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows does not say
        return 1
    with suppress(OSError, ValueError):
        memory = min(memory, int((root / "sys/fs/cgroup/memory.max").read_text()))
    return max(1, min(available_threads(), memory // memory_each))


def why_slower(precision: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """A sentence where the processor has no instructions for a precision; None if it has, or if nobody says.

    Source: https://uxlfoundation.github.io/oneDNN/dev_guide_data_types.html, on what oneDNN emulates.

    Args:
        precision: a key of ``common.experiment.PRECISIONS``.
        cpuinfo: what Linux says of the processor, its instructions in lines that begin with flags or Features.
    """
    known = _instructions(cpuinfo)
    if precision not in INSTRUCTIONS or not known or known & INSTRUCTIONS[precision]:
        return None
    return (
        f"This processor only emulates {precision}: on it, --precision {precision} is slower than float32, not faster."
    )


def has_avx512(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has AVX-512, whose vectors hold 16 float32 numbers; False if nobody says.

    Args:
        cpuinfo: as in ``why_slower``.
    """
    return "avx512f" in _instructions(cpuinfo)


@lru_cache
def _instructions(cpuinfo: Path) -> frozenset[str]:
    if not cpuinfo.exists():
        return frozenset()
    lines = [line.partition(":") for line in cpuinfo.read_text(errors="replace").splitlines()]
    return frozenset(word for key, _, words in lines if key.strip() in ("flags", "Features") for word in words.split())


def why_no_gpu(root: Path = Path("/")) -> str | None:
    """A sentence on why TensorFlow does not use the GPU that is in this machine; None if there is none.

    Args:
        root: of the file system, whose ``/sys/bus/pci`` lists the devices and ``/dev`` those with a driver.
    """
    if not _has_driver(root):
        if not any(map(_is_nvidia_gpu, (root / "sys" / "bus" / "pci" / "devices").glob("*"))):
            return None
        return "A GPU is here, but not its driver: install NVIDIA's; in a container, let the GPU in (--gpus all)."
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip().startswith(VISIBLE):
        return f"A GPU is here, but CUDA_VISIBLE_DEVICES={visible} hides it."
    if sys.platform == "win32":
        return "A GPU is here, but TensorFlow cannot use it: on Windows it can in WSL2 only."
    return 'A GPU is here, but TensorFlow lacks the CUDA packages: pip install "tensorflow[and-cuda]".'


def _has_driver(root: Path) -> bool:
    return any((root / "dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None


def _is_nvidia_gpu(device: Path) -> bool:
    """Whether a PCI device is a display or 3D controller (class 03) of NVIDIA's (vendor 10de).

    Source: https://pci-ids.ucw.cz.
    """
    try:
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
    except (OSError, UnicodeDecodeError):
        return False
    return vendor == "0x10de" and kind.startswith("0x03")


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


@contextmanager
def _no_garbage_collection():
    """For imports: what they make stays, and to look through it again and again took a quarter of TensorFlow's."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
