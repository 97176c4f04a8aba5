"""A result says which code made it."""

import json
import os

import pytest
from conftest import (
    EX1,
    QUICK,
    QUICK_NAME,
    assert_done,
    assert_error,
    edit,
    kill_at,
    run_code,
    run_script,
    script_process,
)

from common.datasets.image_data import ImageArray
from common.datasets.image_files import ImageFiles
from common.trial import code_of
from ex3_resnet_birds import EXERCISE

RUN = f"synthetic/ex1_basenet/adam,{QUICK_NAME}/seed-0"


def fingerprint(project, modules=("common.probe",), alone=()):
    """In a process of its own, which reads the files anew."""
    code = (
        "import json; from common.fingerprint import code_fingerprint\n"
        f"print(json.dumps(code_fingerprint({list(modules)!r}, {list(alone)!r})))"
    )
    result = run_code(code, cwd=project)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def probe(project):
    """A small module of the project's copy, to be written anew, and what its fingerprint is then."""
    path = project / "common/probe.py"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return fingerprint(project)["common/probe.py"]

    return write


CODE = '''
"""A module."""
LIMIT = 1
class Thing:
    """A class."""
    def method(self, x):
        """A method."""
        return x + 1, f"{x}: {LIMIT:.2f}", None, "text"
'''


def test_comments_docstrings_and_layout_do_not_count(probe):
    known = probe(CODE)
    assert len(known) == 12
    for old, new in (
        ('"""A module."""', '"""Another\ntext."""'),
        ('"""A module."""', ""),
        ('    """A class."""\n', ""),
        ('"""A method."""', '"""What it does."""'),
        ("LIMIT = 1", "# a comment\n\nLIMIT = 1  # and another"),
        ("LIMIT = 1", "LIMIT = (1)"),
        ('x + 1, f"{x}', 'x\\\n            + 1, f"{x}'),
        ('"text"', "'te' 'xt'"),
    ):
        assert CODE.count(old) == 1
        assert probe(CODE.replace(old, new)) == known, new


def test_everything_else_counts(probe):
    known = {probe(CODE)}
    for old, new in (
        ("LIMIT = 1", "LIMIT = 2"),
        ("LIMIT = 1", "LIMIT = 1.0"),
        ("LIMIT = 1", "LIMIT = True"),
        ("LIMIT = 1", "LIMIT = '1'"),
        ("LIMIT = 1", "LIMIT = None"),
        ("x + 1", "x - 1"),
        ("x + 1", "1 + x"),
        ("method(self, x)", "method(self, x=None)"),
        ("method(self, x)", "method(self, *, x)"),
        ('f"{x}: ', 'f"{x}; '),
        ('f"{x}: ', 'f": {x}'),
        (":.2f", ":.3f"),
        (", None, ", ", "),
        ('"text"', '"Text"'),
        ('        """A method."""\n', '        "A method."; "Another text."\n'),
    ):
        found = probe(CODE.replace(old, new))
        assert found not in known, new
        known.add(found)


def test_what_a_module_imports_counts_and_packages_and_what_decides_nothing_do_not(project):
    (project / "common/extra").mkdir()
    (project / "common/extra/__init__.py").write_text("from common.extra import a\n")
    (project / "common/extra/a.py").write_text("import os\nfrom common.extra.b import f\n")
    (project / "common/extra/b.py").write_text(
        "from common.errors import UserError\ndef f():\n    import common.extra.c as c\n    return c, UserError\n"
    )
    (project / "common/extra/c.py").write_text("from common.extra import a\n")  # a circle ends
    (project / "common/probe.py").write_text("from common.extra import a\nfrom common import files\n")
    assert list(fingerprint(project)) == [
        "common/extra/a.py",
        "common/extra/b.py",
        "common/extra/c.py",
        "common/probe.py",
    ]
    alone = fingerprint(project, ["common.extra.c"], alone=["common.probe"])
    assert list(alone) == ["common/extra/a.py", "common/extra/b.py", "common/extra/c.py", "common/probe.py"]
    assert list(fingerprint(project, [], alone=["common.probe"])) == ["common/probe.py"]


@pytest.mark.slow
def test_a_result_is_shown_after_edits_that_change_nothing_and_refused_after_others(project, tmp_path):
    command = (EX1, *QUICK, "--variant", "adam", "--epochs", 1, "--quiet", "--output", tmp_path / "results")
    first = run_script(*command, root=project)
    assert_done(first)

    edit(project / "common/models/basenet.py", '"""BaseNet, the report', '"""The report')
    edit(project / "common/training/fit.py", "    phase.prepare(model)\n", "    phase.prepare(model)  # a comment\n")
    edit(project / "common/models/resnet9.py", "for filters in widths[1:]:", "for filters in widths[2:]:")
    edit(project / "common/transfer/linear.py", "FOLDS = 3", "FOLDS = 4")
    edit(project / "common/datasets/synthetic.py", "SIZE = 32", "SIZE = 16 + 16")  # the pixels themselves are compared
    edit(project / "common/datasets/loading.py", "max(classes) >=", "1 > 2 or max(classes) >=")
    (project / EX1).write_text((project / EX1).read_text().replace("BaseNet, Adam", "another description"))
    again = run_script(*command, root=project)
    assert_done(again)
    assert "training" not in again.stdout
    assert again.stdout.splitlines()[-2:] == first.stdout.splitlines()[-2:]

    metrics = (tmp_path / "results" / RUN / "metrics.json").read_bytes()
    edit(project / "common/models/basenet.py", "for filters in (6, 16):", "for filters in (6, 17):")
    edit(project / "common/augmentation.py", "SHIFT = 0.1", "SHIFT = 0.2")
    refused = run_script(*command, root=project)
    files = "common/augmentation.py and common/models/basenet.py"
    assert_error(refused, f"holds a finished run that differs: its code has changed since, in {files}. ", "--force")
    assert (tmp_path / "results" / RUN / "metrics.json").read_bytes() == metrics


def test_what_decodes_files_belongs_to_the_code_of_runs_that_read_them():
    decoders = {"common/datasets/decoding.py", "common/datasets/image_files.py"}
    in_files, in_memory = ({*code_of(EXERCISE.experiment("finetune"), kind)} for kind in (ImageFiles, ImageArray))
    assert in_files - in_memory == decoders
    assert not [file for file in in_files if file in ("common/datasets/cub200.py", "common/datasets/loading.py")]


@pytest.mark.slow
def test_a_half_trained_run_of_other_code_is_refused(project, tmp_path):
    command = (EX1, *QUICK, "--variant", "adam", "--epochs", 300, "--output", tmp_path / "results")
    kill_at(script_process(*command, root=project), "Epoch 3/300")
    edit(project / "common/pipeline.py", "PREFETCHED = 4", "PREFETCHED = 5")
    edit(project / "common/training/optimizers.py", '"gamma", "beta"', '"gamma"')
    (folder,) = (tmp_path / "results/synthetic/ex1_basenet").iterdir()
    before = {name: (folder / ".seed-0.partial" / name).stat() for name in os.listdir(folder / ".seed-0.partial")}
    assert_error(
        run_script(*command, root=project),
        "holds an unfinished run that differs: its code has changed since, in common/pipeline.py and "
        "common/training/optimizers.py. ",
        "--force",
    )
    after = {name: (folder / ".seed-0.partial" / name).stat() for name in os.listdir(folder / ".seed-0.partial")}
    assert {*before} == {*after} and before[".checkpoint"].st_mtime_ns == after[".checkpoint"].st_mtime_ns
