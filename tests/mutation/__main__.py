"""Changes a module in every small way, and counts the changes that its quick tests notice.

    pip install mutmut
    python -m tests.mutation experiment

The survivors stand at the end; ``cd FOLDER && mutmut show NAME`` prints one.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# By module: its file, the tests that run for each change, and what of them takes too long for that.
MODULES = {
    "experiment": ("common/experiment.py", ["tests/test_experiment.py"], "not network_has"),
    "metrics": ("common/reporting/metrics.py", ["tests/reporting/test_metrics.py"], ""),
    "pipeline": ("common/pipeline.py", ["tests/test_pipeline.py"], ""),
    "augmentation": ("common/augmentation.py", ["tests/test_augmentation.py"], ""),
    "optimizers": ("common/training/optimizers.py", ["tests/training/test_optimizers.py"], ""),
}
NEEDED = ("common", "tests", "published", "docs", "*.py", "*.toml")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("module", choices=MODULES)
    file, tests, chosen = MODULES[parser.parse_args().module]
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    for pattern in NEEDED:
        for path in ROOT.glob(pattern):
            shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder)
    copied = sorted(path.name for path in folder.iterdir() if path.name not in ("common", "pyproject.toml"))
    settings = {
        "source_paths": ["common"],
        "only_mutate": [file],
        "also_copy": copied,
        "pytest_add_cli_args": ["-n", "0", "-p", "no:cacheprovider", *(["-k", chosen] if chosen else [])],
        "pytest_add_cli_args_test_selection": tests,
    }
    with open(folder / "pyproject.toml", "a", encoding="utf-8") as project:
        project.write("\n[tool.mutmut]\n" + "".join(f"{key} = {value!r}\n" for key, value in settings.items()))
    print(folder, flush=True)
    done = subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", "1"], cwd=folder)
    subprocess.run([sys.executable, "-m", "mutmut", "results"], cwd=folder)
    return done.returncode


sys.exit(main())
