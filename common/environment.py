"""Where a result was made: the process, its packages, the processor, the commit."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn")
# Beginnings of the variables that may change what TensorFlow computes, as its libraries have them. No shorter: what
# begins with TF_ may be Terraform's, and with NVIDIA_ a key, and a record is published.
VARIABLES = (
    *(
        "TF_AUTO_",
        "TF_AUTOTUNE_",
        "TF_CONV2D_",
        "TF_CPP_",
        "TF_CPU_",
        "TF_CUBLAS_",
        "TF_CUDA_",
        "TF_CUDNN_",
        "TF_CUFFT_",
    ),
    *("TF_DETERMINISTIC_", "TF_DISABLE_", "TF_ENABLE_", "TF_FORCE_", "TF_FP16_", "TF_GPU_", "TF_MATMUL_", "TF_MKL_"),
    *("TF_NUM_", "TF_ONEDNN_", "TF_OVERRIDE_", "TF_USE_", "TF_XLA_", "ONEDNN_", "DNNL_", "OMP_"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES"),
)


def describe(device: str, threads: int, first_epoch: int) -> dict:
    """A row of ``environment.json``.

    Args:
        device: what TensorFlow computes on: "CPU", or the GPU's name.
        threads: that an operation may use.
        first_epoch: the first, from 1, that this process trains.
    """
    commit, clean = _commit()
    return {
        "first_epoch": first_epoch,
        "device": device,
        "processor": processor(),
        "threads": threads,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "system": platform.platform(),
        "variables": {key: os.environ[key] for key in sorted(os.environ) if key.startswith(VARIABLES)},
        "commit": commit,
        "clean": clean,
    }


def processor() -> str:
    """The processor's name; on Linux with its family and model, which tell generations apart that share a name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*: (.+)$", text, re.MULTILINE))
    if "model name" in fields:
        return f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"
    if sys.platform == "darwin":
        return _output(["sysctl", "-n", "machdep.cpu.brand_string"]) or platform.processor()
    return platform.processor() or platform.machine()


def peak_memory_mb() -> int | None:
    """The most memory that this process has held, in megabytes; None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kilobytes on Linux, bytes on macOS
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def _commit() -> tuple[str | None, bool | None]:
    """The commit of the code, and whether the files that git tracks are as it has them; None where git is not."""
    if not (ROOT / ".git").exists():
        return None, None
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    changes = _output(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return (commit, changes == "") if commit else (None, None)


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None  # as tensorflow is called tensorflow-cpu, say
