import errno
import json
import os
import random
import sys
import tarfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import run_code

from common import files
from common.errors import UserError
from common.files import atomic_folder, atomic_write, extract, locked, make_once, sha256_of, write_json


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    pytest.importorskip("resource")
    path = tmp_path / "file"
    atomic_write(path, lambda file: file.write(b"old"))
    code = (
        "import resource; from pathlib import Path; from common.files import atomic_write\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"atomic_write(Path({str(path)!r}), lambda file: file.write(bytes(5000)))"
    )
    assert "File too large" in run_code(code).stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="/proc is a file system that syncs no folder")
def test_a_file_system_that_syncs_no_folder_is_none_the_worse():
    with pytest.raises(OSError, match="Invalid argument"):
        descriptor = os.open("/proc/self", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    files._sync(Path("/proc/self"))


def test_json_reads_back_exactly_and_lists_of_numbers_stand_on_a_line(tmp_path):
    chance = random.Random(0)
    matrix = np.random.default_rng(0).integers(0, 100, (25, 25)).tolist()
    value = {
        "matrix": matrix,
        "numbers": [chance.uniform(-1, 1) * 10.0 ** chance.randint(-20, 20) for _ in range(200)],
        "names": ["a [1,\n 2]", "[\n  1,\n  2\n]", "b"],
        "mixed": [1, None, "x", [2, [3.5]], {}],
        "empty": [],
        "text": "é",
    }
    write_json(tmp_path / "file.json", value)
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert len(text.splitlines()) < 60


def test_json_is_python_s_own_but_for_lists_of_numbers(tmp_path):
    value = {"a": {}, "b": [], "ä": [[], [{}], "[ 1, 2 ]", None, True, float("inf")], "c": {"d": [{"e": -0.5}, ["1"]]}}
    write_json(tmp_path / "file.json", value)
    expected = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    assert (tmp_path / "file.json").read_text(encoding="utf-8") == expected
    write_json(tmp_path / "file.json", [[1, -2.5, 1e-9], [3], [float("nan"), 1]])
    lines = (tmp_path / "file.json").read_text(encoding="utf-8").splitlines()
    assert lines == ["[", "  [1, -2.5, 1e-09],", "  [3],", "  [", "    NaN,", "    1", "  ]", "]"]


def test_a_large_matrix_is_written_row_by_row(tmp_path):
    """That of 10,000 classes would take gigabytes as a whole, more than all that comes before."""
    matrix = [[0] * 400] * 400
    tracemalloc.start()
    write_json(tmp_path / "file.json", {"matrix": matrix})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "file.json").stat().st_size > 480_000
    assert peak < 240_000
    assert json.loads((tmp_path / "file.json").read_text()) == {"matrix": matrix}


def test_a_folder_is_whole_or_not_there(tmp_path):
    folder = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic_folder(folder) as temporary:
        (temporary / "file").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".folder.part").mkdir()
    (tmp_path / ".folder.part" / "old").touch()  # as a kill leaves it
    with atomic_folder(folder) as temporary:
        (temporary / "file").touch()
        assert not folder.exists()
    assert os.listdir(folder) == ["file"]
    assert list(tmp_path.iterdir()) == [folder]


def test_of_several_that_want_it_one_makes_it(tmp_path):
    path, made = tmp_path / "folder" / "file", []

    def make():
        made.append(threading.get_ident())
        path.write_text("once")

    threads = [threading.Thread(target=make_once, args=(path, make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and path.read_text() == "once"


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), locked(tmp_path / "x", busy="busy"):
        raise RuntimeError
    with locked(tmp_path / "x", busy="busy"):
        pass


def test_whether_a_folder_can_be_written_is_tried_and_leaves_nothing(read_only, tmp_path):
    (tmp_path / "closed").mkdir()
    code = """
from pathlib import Path
from common.files import is_writable
print([is_writable(Path({!r}) / name) for name in ("open", "closed", "closed/within")])
"""
    result = run_code(code.format(str(tmp_path)), **read_only(tmp_path / "closed"))
    assert result.stdout == "[True, False, False]\n", result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["closed", "open"]


def test_checksums_are_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_who_comes_second_is_told(tmp_path):
    with (
        locked(tmp_path / "x"),
        pytest.raises(UserError, match="somebody is there"),
        locked(tmp_path / "x", busy="somebody is there"),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks otherwise")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("busy", [None, "busy"])
def test_a_file_system_without_locks_is_named_by_its_folder(tmp_path, monkeypatch, number, busy):
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    words = rf"^{tmp_path} is on a file system without locks \({os.strerror(number)}\); choose another folder$"
    with pytest.raises(UserError, match=words), locked(tmp_path / "x", busy):
        pass


def test_a_lock_file_that_cannot_be_opened_is_named_itself(tmp_path):
    (tmp_path / ".x.lock").mkdir()
    with pytest.raises(OSError, match=r"Is a directory") as caught, locked(tmp_path / "x"):
        pass
    assert caught.value.filename == str(tmp_path / ".x.lock")


@pytest.mark.parametrize("mode", ["w:gz", "w"], ids=["gzipped", "as a browser unpacked it"])
def test_an_archive_is_extracted(mode, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with tarfile.open(tmp_path / "a.tar.gz", mode) as tar:
        tar.add(tmp_path / "a.txt", "data/inner/a.txt")
    extract(tmp_path / "a.tar.gz", "data", tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")] == [
        "inner",
        "inner/a.txt",
    ]
    assert (tmp_path / "out/inner/a.txt").read_text() == "a"


@pytest.mark.slow
def test_an_archive_holds_no_more_files_than_a_data_set(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(files.MOST_MEMBERS + 1):
            tar.addfile(tarfile.TarInfo("data/a"))
    with pytest.raises(UserError, match="holds more than 100,000 files"):
        extract(tmp_path / "a.tar", "data", tmp_path / "data")
    assert not (tmp_path / "data").exists()
