"""The house: imports run downwards, and nothing outside datasets/ and transfer/ asks which data or script it is."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BONUS, EX1, EX2, EX3, ROOT

# From the roof down; each imports only what stands below it. Packages of one floor do not import each other.
FLOORS = (
    ("scripts",),
    ("common.collect", "common.api"),
    ("common.cli",),
    ("common.sweep",),
    ("common.run",),
    ("common.trial", "common.examples", "common.predictor"),
    ("common.transfer",),
    ("common.display",),
    ("common.models", "common.training", "common.datasets", "common.reporting"),
    ("common.pipeline", "common.experiment", "common.grad_cam"),
    (
        "common.engines",
        "common.augmentation",
        "common.process",
        "common.tensorflow_setup",
        "common.environment",
        "common.fingerprint",
        "common.start",
    ),
    ("common.saved_network",),
    ("common.files",),
    ("common.errors",),
)
KINDS = re.compile(r"birds?\b|cub.?200|cifar|synthetic|photograph|small images|ex[123]_|bonus_residual", re.IGNORECASE)
SOURCES = sorted((ROOT / "common").rglob("*.py"))
SCRIPTS = sorted(path for path in ROOT.glob("*.py"))


def module_of(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """The modules of the suite that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            for alias in node.names:
                below = ROOT / node.module.replace(".", "/") / f"{alias.name}.py"
                folder = ROOT / node.module.replace(".", "/") / alias.name
                found.add(f"{node.module}.{alias.name}" if below.exists() or folder.is_dir() else node.module)
    scripts = {path.stem for path in SCRIPTS}
    return {name for name in found if name.split(".")[0] in {"common", *scripts}}


def place_of(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.startswith("common.") else "scripts"


def floor_of(place: str) -> int:
    for number, floor in enumerate(FLOORS):
        if place in floor:
            return number
    raise AssertionError(f"{place} has no floor yet: give it one in {Path(__file__).name} and in docs/design.md")


def test_imports_run_downwards():
    upwards = []
    for path in (*SCRIPTS, *SOURCES):
        module = module_of(path)
        if module == "common":
            continue
        place = place_of(module)
        for imported in imports(path):
            other = place_of(imported)
            if other != place and floor_of(other) <= floor_of(place):
                upwards.append(f"{path.relative_to(ROOT)} imports {imported}")
    assert not upwards


def test_a_variant_s_script_imports_the_command_line_and_experiments_alone():
    for script in (EX1, EX2, EX3, BONUS):
        assert imports(ROOT / script) == {"common.cli", "common.experiment"}


def conditions(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.Assert):
            yield node.test
        elif isinstance(node, ast.comprehension):
            yield from node.ifs
        elif isinstance(node, ast.Match):
            yield node.subject
            yield from (case.pattern for case in node.cases)
        elif isinstance(node, ast.Compare | ast.BoolOp):
            yield node


def test_no_branch_on_the_kind_of_data_or_the_script():
    branches = [
        f"{path.relative_to(ROOT)}:{condition.lineno}: {ast.unparse(condition)}"
        for path in SOURCES
        if place_of(module_of(path)) not in ("common.datasets", "common.transfer")
        for condition in conditions(path)
        if KINDS.search(ast.unparse(condition))
    ]
    assert not branches


def test_the_search_for_branches_finds_them():
    """In datasets/, where they may be; a test of nothing would pass too."""
    found = [ast.unparse(each) for path in SOURCES for each in conditions(path)]
    assert len(found) > 100
    assert KINDS.search("data.name == 'cub200'") and KINDS.search("if birds") and KINDS.search("name == 'cifar100'")


@pytest.mark.parametrize("script", [EX1, EX2, EX3, BONUS])
def test_telling_about_runs_imports_neither_tensorflow_nor_scikit_learn(script):
    code = f"""
import runpy, sys
for flags in (["--list"], ["--plan"], ["--plan", "--variant", "all", "--seed", "1", "2"], ["--help"]):
    sys.argv = [{script!r}, *flags]
    try:
        runpy.run_path({script!r}, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, end.code
    heavy = {{"tensorflow", "keras", "sklearn", "matplotlib"}} & {{*sys.modules}}
    assert not heavy, (flags, heavy)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--seed" in result.stdout
