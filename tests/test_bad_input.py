"""Bad input of every kind, through the real command line: one line that says what to do, exit code 2, nothing changed.

What needs no TensorFlow must be said before TensorFlow is imported, so these cases share one process.
"""

import gzip
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import BONUS, EX1, EX2, EX3, ROOT, assert_error, run_script, visible_files
from PIL import Image

PREDICT, REPORT = "predict.py", "reproduce_report.py"
CIFAR, CUB, CUB11 = "cifar-100-python", "CUB_200_2010", "CUB_200_2011"
DEEP = b"[" * 10_000 + b"]" * 10_000


@dataclass
class Case:
    """A command that is bad, and what is said of it.

    Attributes:
        command: the script and its flags; "{}" stands for the case's folder.
        words: in the line on stderr, in their order; "{}" as above.
        prepare: called with the case's folder, which holds ``data/`` and ``out/``.
        cwd: where the command is given, below the case's folder; else in the project's.
    """

    command: Sequence[str]
    words: Sequence[str]
    prepare: Callable[[Path], object] = lambda folder: None
    cwd: str = ""


def flags(text: str, *words: str, script: str = EX1) -> Case:
    """A command whose flags alone are bad."""
    return Case([script, *text.split(), "--output", "{}/out"], words)


# Small data sets of every layout.


def cifar(folder: Path) -> Path:
    home = folder / "data" / CIFAR
    home.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, count in (("train", 3), ("test", 1)):
        labels = np.repeat(np.arange(25), count).tolist()
        pixels = random.integers(0, 256, (len(labels), 3072), np.uint8)
        split = {"train": "training", "test": "testing"}[name]
        content = {"data": pixels, "fine_labels": labels, "batch_label": f"{split} batch 1 of 1"}
        (home / name).write_bytes(pickle.dumps(content, 2))
    (home / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class {n}" for n in range(100)]}, 2))
    return home


def picture(path: Path, side: int = 40, color: str = "navy") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), color).save(path)
    return path


def birds(folder: Path) -> Path:
    home = folder / "data" / CUB
    (home / "lists").mkdir(parents=True)
    for part, numbers in (("train", (0, 1)), ("test", (2,))):
        names = [f"{k:03d}.Bird_{k}/b_{k}_{n}.jpg" for k in (1, 2, 3) for n in numbers]
        for name in names:
            picture(home / "images" / name)
        (home / "lists" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return home


def birds_2011(folder: Path) -> Path:
    home = folder / "data" / CUB11
    names = [f"{k:03d}.Bird_{k}/b_{k}_{n}.jpg" for k in (1, 2, 3) for n in (0, 1, 2)]
    for name in names:
        picture(home / "images" / name)
    lists = {
        "images.txt": names,
        "image_class_labels.txt": [name[:3].lstrip("0") for name in names],
        "train_test_split.txt": [str(int(not name.endswith("_2.jpg"))) for name in names],
        "classes.txt": [f"{k:03d}.Bird_{k}" for k in (1, 2, 3)],
    }
    for name, lines in lists.items():
        text = "".join(f"{number} {line}\n" for number, line in enumerate(lines, 1))
        (home / name).write_text(text)
    return home


def photos(folder: Path) -> Path:
    for name in ("ants", "bees"):
        for number in range(4):
            picture(folder / "data" / name / f"{number}.png")
    return folder / "data"


def finished_run(folder: Path) -> Path:
    """The text files of a published run, and an archive in place of its network."""
    run = folder / "run" / "seed-0"
    shutil.copytree(ROOT / "published/cifar100/ex1_basenet/adam/seed-0", run)
    with zipfile.ZipFile(run / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("metadata.json", "{}")
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            file["layers/dense/vars/0"] = np.zeros((2, 2), np.float32)
        archive.writestr("model.weights.h5", content.getvalue())
    picture(folder / "a.png")
    return run


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def damaged(make: Callable[[Path], Path], change: Callable[[Path], object]) -> Callable[[Path], object]:
    """Prepares a data set and then changes something in its folder."""
    return lambda folder: change(make(folder))


def change_pickle(path: Path, **changes) -> None:
    edit(path, lambda content: pickle.dumps({**pickle.loads(content), **changes}, 2))


class Runs:
    """What a prepared pickle would call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def twice(times: int) -> list:
    """A list of a list twice, which is a list of a list twice, and so on."""
    value: list = [0]
    for _ in range(times):
        value = [value, value]
    return value


def headers(kind: bytes, count: int) -> Callable[[Path], None]:
    """An archive of members whose headers are all that it has."""

    def write(folder: Path) -> None:
        (folder / "data").mkdir()
        block = bytearray(member(f"{CIFAR}/a", kind).tobuf(tarfile.GNU_FORMAT))
        if kind == tarfile.GNUTYPE_SPARSE:
            block[482] = 1  # its map goes on
            block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:512]))
        with gzip.open(folder / "data" / ARCHIVE, "wb", compresslevel=1) as file:
            for _ in range(count):
                file.write(block[:512])

    return write


def archive(folder: Path, name: str, *members: tarfile.TarInfo | tuple[str, bytes], kind: str = "w:gz") -> None:
    (folder / "data").mkdir(exist_ok=True)
    with tarfile.open(folder / "data" / name, kind) as tar:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zeros(folder: Path, name: str, kind: bytes, size: int) -> None:
    """An archive with a member that claims a size, and holds a thousandth of it in zeros."""
    (folder / "data").mkdir(exist_ok=True)
    info = member(f"{CIFAR}/train", kind)
    info.size = size
    with gzip.open(folder / "data" / name, "wb", compresslevel=1) as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.write(bytes(size // 1000))


def arrays(**values) -> Callable[[Path], None]:
    """Writes an HDF5 file of arrays and links."""

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, value in values.items():
                file[name] = value

    return write


WEIGHTS_DATA = [EX3, "--dataset", "synthetic", "--output", "{}/out", "--weights"]
CIFAR_DATA = [EX1, "--variant", "adam", "--data-dir", "{}/data", "--output", "{}/out", "--offline"]
BIRDS_DATA = [EX3, "--variant", "linear", "--weights", "none", "--classes", "0-2", *CIFAR_DATA[3:]]
BIRDS_2011_DATA = [*BIRDS_DATA, "--dataset", "cub200-2011"]
OWN_DATA = [EX2, "--dataset", "folder", *CIFAR_DATA[3:]]
ASK = [PREDICT, "{}/run/seed-0", "{}/a.png"]
BEGIN = [EX1, "--dataset", "synthetic", "--init", "{}/run/seed-0", "--output", "{}/out"]


def of_cifar(change: Callable[[Path], object], *words: str) -> Case:
    return Case(CIFAR_DATA, words, damaged(cifar, change))


def of_birds(change: Callable[[Path], object], *words: str) -> Case:
    return Case(BIRDS_DATA, words, damaged(birds, change))


def of_birds_2011(change: Callable[[Path], object], *words: str) -> Case:
    return Case(BIRDS_2011_DATA, words, damaged(birds_2011, change))


def of_photos(change: Callable[[Path], object], *words: str) -> Case:
    return Case(OWN_DATA, words, damaged(photos, change))


def of_archive(name: str, *members, words: Sequence[str], command: Sequence[str] = CIFAR_DATA) -> Case:
    return Case(command, words, lambda folder: archive(folder, name, *members))


def with_network(folder: Path) -> Path:
    """A finished run whose network may be looked at."""
    with_layer(folder, {"module": "keras.layers", "class_name": "Dense"})
    return folder / "run" / "seed-0"


def with_layer(folder: Path, layer: dict | None) -> None:
    """A finished run whose network has this layer; None: one nested ten thousand deep."""
    path = finished_run(folder) / "model.keras"
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = DEEP if layer is None else json.dumps({"config": {"layers": [layer]}}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def of_network(layer: dict | None) -> Case:
    words = ["model.keras is damaged", *([f"{layer['class_name']}, which may run code"] if layer else [])]
    return Case(ASK, words, lambda folder: with_layer(folder, layer))


def of_weights(make: Callable[[Path], object], *words: str) -> Case:
    return Case([*WEIGHTS_DATA, "{}/w.h5"], words, lambda folder: make(folder / "w.h5"))


def of_config(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return damaged(finished_run, lambda run: edit(run / "config.json", change))


def append(path: Path, text: str) -> None:
    edit(path, lambda content: content + text.encode())


ARCHIVE = f"{CIFAR}.tar.gz"
NEEDLESS = ("which no data set needs",)
CASES = {
    # Flags.
    "no such variant": flags("--variant nadam", "--variant nadam is not one of sgd, adam, all"),
    "a variant twice": flags("--variant adam adam", "twice"),
    "half a flag": flags("--varian adam", "unrecognized arguments"),
    "classes that CIFAR-100 has not": flags("--classes 90-100", "--classes 100: cifar100 has the classes 0..99"),
    "classes that the drawn images have not": flags("--classes 0-25 --dataset synthetic", "has the classes 0..24"),
    "a class twice": flags("--classes 1,2,1", "names a class twice"),
    "classes the wrong way round": flags("--classes 5-2", "neither a range"),
    "one class": flags("--classes 7", "a classifier needs two"),
    "an empty class": flags("--classes 1,,2", "neither a range"),
    "a class like a superscript": flags("--classes 1,²", "neither a range"),
    "a class of many digits": flags("--classes 0-99999999999999999999", "no data set has"),
    "a negative class": flags("--classes=-3-5", "neither a range"),
    "no epochs": flags("--epochs 0", "--epochs: '0' is not a whole number from 1"),
    "half an epoch": flags("--epochs 1.5", "--epochs: '1.5' is not a whole number"),
    "epochs twice": flags("--epochs 3 3", "--epochs names one value twice"),
    "too many digits": flags(f"--epochs {'9' * 5000}", "is not a whole number"),
    "a negative batch": flags("--batch-size -4", "--batch-size"),
    "no images": flags("--limit 0", "--limit: '0' is not"),
    "a rate that is no number": flags("--learning-rate nan", "--learning-rate: 'nan' is not a number above 0"),
    "an infinite rate": flags("--learning-rate inf", "--learning-rate: 'inf' is not a number above 0"),
    "all images to validate": flags("--validation-fraction 1", "'1' is not a number between 0 and 1"),
    "all dropped out": flags("--variant adam --dropout 1", "--dropout: '1' is not a number from 0 to below 1"),
    "an optimizer that is a number": flags(
        "--optimizer 3", "'3' is not a name, nor NAME+setting=value of numbers, yes and no"
    ),
    "an optimizer's setting that is a word": flags("--optimizer adam+clipnorm=abc", "of numbers, yes and no"),
    "a schedule's setting that is no number": flags("--schedule CosineDecay+alpha=nan", "of numbers, yes and no"),
    "normalisation between": flags("--batch-normalization between", "'between' is not one of before-relu"),
    "CutMix of one image": flags("--cutmix 0.5 --batch-size 1", "CutMix takes its boxes from another: --batch-size 2"),
    "CutMix in micro-batches of one image": flags(
        "--variant finetune-frozen-bn --cutmix 0.5 --batch-size 8 --accumulate 8", "--accumulate 4 at most", script=EX3
    ),
    "CutMix of features": flags(
        "--variant linear --cutmix 0.5",
        "linear has nothing that --cutmix could change; choose others with --variant: finetune, finetune-frozen-bn, ",
        script=EX3,
    ),
    "more micro-batches than images": flags("--accumulate 65", "--batch-size is 64"),
    "micro-batches of one image": flags(
        "--variant finetune --batch-size 67 --accumulate 67", "of one image", "--accumulate 33 at most", script=EX3
    ),
    "micro-batches of one image, of an odd batch": flags(
        "--variant early-stopping --batch-size 3 --accumulate 2", "of one image", "--accumulate 1", script=EX2
    ),
    "a warm-up of nothing": flags("--warmup 0.1", "--warmup needs --schedule CosineDecay", "not inversetimedecay"),
    "a warm-up that Keras has not": flags(
        "--warmup 0.1 --schedule ExponentialDecay+decay_rate=0.5", "--warmup needs", "not exponentialdecay"
    ),
    "a switch the variant has not": flags("--shortcuts", "has nothing that --shortcuts could change"),
    "a switch that cannot be off": flags("--no-block", "unrecognized arguments: --no-block"),
    "a flag of exercise 3": flags("--weights none", "unrecognized arguments: --weights"),
    "a negative seed": flags("--seed -1", "--seed"),
    "a seed twice": flags("--seed 1 1", "--seed names one value twice"),
    "a flag of the other engine": flags("--gpus-per-run 1", "--gpus-per-run is a flag of --engine ray"),
    "a flag of the other data": flags("--resize crop --dataset synthetic", "--resize"),
    "a switch of residual networks": flags("--shortcuts", "early-stopping has nothing that", script=EX2),
    "dropout of a support vector machine": flags("--variant svm --dropout 0.1", "svm has nothing that", script=EX3),
    "epochs of one of two": flags("--variant linear svm --epochs 3", "svm has nothing that --epochs", script=EX3),
    "images too small": flags("--image-size 8", "32 to 1024", script=EX3),
    "weights that are not there": flags("--weights no.weights.h5", "is not a file", script=EX3),
    "no block of this name": flags("--block dense", "'dense' is not one of plain", script=BONUS),
    "report: no such flag": flags("--fast", "unrecognized arguments: --fast", script=REPORT),
    "no finished run to go on from": flags(
        "--dataset synthetic --variant adam --more-epochs 3", "nothing to go on from", "without --more-epochs"
    ),
    # Weights.
    "weights that are text": of_weights(lambda f: f.write_text("none"), "is not an HDF5 file, or not whole"),
    "weights with another ending": Case([*WEIGHTS_DATA, "{}/a.png"], ["ends with .h5"], lambda f: picture(f / "a.png")),
    "weights cut short": of_weights(lambda f: (arrays(a=np.zeros(5000))(f), edit(f, lambda c: c[:-100])), "{}/w.h5"),
    "weights that are a link inside": of_weights(arrays(b=h5py.SoftLink("/a")), "b is a link"),
    "weights that are links outside": of_weights(arrays(b=h5py.ExternalLink("/etc/passwd", "/a")), "b is a link"),
    "weights that lie in another file": of_weights(
        lambda f: h5py.File(f, "w").create_dataset("b", (64,), "u1", external=[("/etc/passwd", 0, 64)]),
        "b lies in another file",
    ),
    "weights of terabytes": of_weights(
        lambda f: h5py.File(f, "w").create_dataset("b", (1 << 40,), "f4", chunks=(1 << 20,)), "hold more than"
    ),
    "weights that are words": of_weights(arrays(b=np.array([b"word"])), "b holds no numbers"),
    "weights of a user who is not there": Case([*WEIGHTS_DATA, "~nobody-of-this-name/w.h5"], ["no such user"]),
    # Folders.
    "the data folder is a file": Case(CIFAR_DATA, ["{}/data is a file"], lambda f: (f / "data").write_text("x")),
    "the data folder is below a file": Case(
        [*CIFAR_DATA[:4], "{}/file/data", *CIFAR_DATA[5:]], ["{}/file"], lambda f: (f / "file").write_text("x")
    ),
    "the output is a file": Case(
        [*CIFAR_DATA[:6], "{}/file"], ["{}/file is a file"], lambda f: (cifar(f), (f / "file").write_text("x"))
    ),
    "the output is below a file": Case(
        [*CIFAR_DATA[:6], "{}/file/out"], ["{}/file"], lambda f: (cifar(f), (f / "file").write_text("x"))
    ),
    "the data folder is a link to itself": Case(CIFAR_DATA, ["{}/data"], lambda f: (f / "data").symlink_to(f / "data")),
    "the output is a link to itself": Case(
        [*CIFAR_DATA[:6], "{}/loop"], ["{}/loop"], lambda f: (cifar(f), (f / "loop").symlink_to(f / "loop"))
    ),
    "a name of 300 letters": Case([*CIFAR_DATA[:6], "{}/" + "o" * 300], ["File name too long"], cifar),
    "the data has a name of 300 letters": Case(
        [*CIFAR_DATA[:4], "{}/" + "d" * 300, *CIFAR_DATA[5:]], ["File name too long"]
    ),
    "a user who is not there": Case([*CIFAR_DATA[:6], "~nobody-of-this-name/out"], ["~nobody-of-this-name"], cifar),
    "an empty name of a folder": Case([*CIFAR_DATA[:6], ""], ["--output"], cifar),
    "a relative path, from another folder": Case(
        [*CIFAR_DATA[:4], "here", *CIFAR_DATA[5:]], [f"Put {ARCHIVE} into here (from"], cwd="out"
    ),
    "no data, and no network": Case(CIFAR_DATA, [f"Put {ARCHIVE} into {{}}/data"]),
    "no birds, and no network": Case(BIRDS_DATA, ["Put images.tgz and lists.tgz into {}/data"]),
    "no photographs": Case(OWN_DATA, ["is not a folder that is there"]),
    # CIFAR.
    "a file cut short": of_cifar(lambda f: edit(f / "train", lambda c: c[:-1000]), "train is not a whole CIFAR-100"),
    "an empty file": of_cifar(lambda f: edit(f / "train", lambda c: b""), "train is not a whole CIFAR-100"),
    "a file that is missing": of_cifar(lambda f: (f / "train").unlink(), "lacks train"),
    "a folder in place of a file": of_cifar(lambda f: ((f / "train").unlink(), (f / "train").mkdir()), "lacks train"),
    "train and test swapped": of_cifar(lambda f: shutil.copy(f / "train", f / "test"), "look swapped"),
    "pixels that are not bytes": of_cifar(
        lambda f: change_pickle(f / "train", data=np.zeros((75, 3072))), "uint8 array"
    ),
    "labels too few": of_cifar(lambda f: change_pickle(f / "train", fine_labels=[0] * 74), "75 integers"),
    "a label outside": of_cifar(lambda f: change_pickle(f / "train", fine_labels=[100] * 75), "outside 0..99"),
    "labels of two lengths": of_cifar(lambda f: change_pickle(f / "train", fine_labels=[[0], [0, 1]]), "train"),
    "names too few": of_cifar(lambda f: change_pickle(f / "meta", fine_label_names=["apple"]), "100 names"),
    "a class without images": of_cifar(
        lambda f: change_pickle(f / "train", fine_labels=[1] * 75), "class 0 (class 0) has 0 training"
    ),
    "a class of one image": of_cifar(
        lambda f: change_pickle(f / "train", fine_labels=[0, *[1] * 5, *np.repeat(range(2, 25), 3).tolist()]),
        "class 0 (class 0) has one training image",
        "--classes",
    ),
    "one image a class": Case([*CIFAR_DATA, "--limit", "1"], ["one training image", "--limit"], cifar),
    "a pickle that calls": of_cifar(
        lambda f: (f / "train").write_bytes(pickle.dumps(Runs(os.mkdir, str(f.parents[1] / "mark")))), "asks for"
    ),
    "a pickle that evaluates": of_cifar(
        lambda f: (f / "meta").write_bytes(pickle.dumps(Runs(eval, "open('mark', 'w')"))), "asks for builtins.eval"
    ),
    "a pickle that asks for memory": of_cifar(
        lambda f: (f / "train").write_bytes(b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little")), "train is not a whole"
    ),
    "a pickled array of terabytes": of_cifar(
        lambda f: (f / "train").write_bytes(
            pickle.dumps({"data": Runs(np.ndarray, (1 << 40, 3072), "u1"), "fine_labels": []}, 2)
        ),
        "train is not a whole",
    ),
    "labels that are one list a billion times": of_cifar(
        lambda f: change_pickle(f / "train", fine_labels=twice(60)), "75 integers"
    ),
    "a split that is one list a billion times": of_cifar(
        lambda f: change_pickle(f / "train", batch_label=twice(60)), "look swapped"
    ),
    "names that are one list a billion times": of_cifar(
        lambda f: change_pickle(f / "meta", fine_label_names=[twice(60)] * 100), "100 names"
    ),
    "a key that is one tuple a billion times": of_cifar(
        lambda f: (f / "train").write_bytes(b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s."), "a key is no text"
    ),
    "an array without its pixels": of_cifar(
        lambda f: (f / "train").write_bytes(
            pickle.dumps({"data": Runs(np.ndarray, (1000, 3072), "u1"), "fine_labels": [0] * 1000}, 2)
        ),
        "data is not a uint8 array",
    ),
    "a pickle that is nested": of_cifar(
        lambda f: (f / "train").write_bytes(b"(" * 1_000_000 + b"l" * 1_000_000 + b"."), "train is not a whole"
    ),
    # Archives.
    "an archive that is HTML": Case(
        CIFAR_DATA, ["is not whole"], lambda f: ((f / "data").mkdir(), (f / "data" / ARCHIVE).write_text("<html>"))
    ),
    "an archive without the files": of_archive(ARCHIVE, (f"{CIFAR}/meta", b"x"), words=["no cifar-100-python/train"]),
    "an archive with a link": of_archive(ARCHIVE, member(f"{CIFAR}/train", tarfile.SYMTYPE, "/etc"), words=NEEDLESS),
    "an archive with a hard link": of_archive(
        ARCHIVE, member(f"{CIFAR}/train", tarfile.LNKTYPE, "/etc/passwd"), words=NEEDLESS
    ),
    "an archive with a device": of_archive(ARCHIVE, member(f"{CIFAR}/train", tarfile.CHRTYPE), words=NEEDLESS),
    "an archive with a pipe": of_archive(ARCHIVE, member(f"{CIFAR}/train", tarfile.FIFOTYPE), words=NEEDLESS),
    "an archive that leaves": of_archive(ARCHIVE, (f"{CIFAR}/../../mark", b"x"), words=NEEDLESS),
    "an archive with a whole path": of_archive(ARCHIVE, ("/tmp/mark", b"x"), words=NEEDLESS),
    "an archive with a path of Windows": of_archive(ARCHIVE, (f"{CIFAR}\\..\\mark", b"x"), words=NEEDLESS),
    "an archive with a file where a folder is": of_archive(
        ARCHIVE, (CIFAR, b"x"), (f"{CIFAR}/train", b"x"), words=["is not whole"]
    ),
    "an archive with a file and a folder of one name": of_archive(
        ARCHIVE, (f"{CIFAR}/a", b"x"), (f"{CIFAR}/a/b", b"x"), words=["is not whole"]
    ),
    "an archive with a name of 300 letters": of_archive(ARCHIVE, (f"{CIFAR}/{'n' * 300}", b"x"), words=[ARCHIVE]),
    "an archive with a zero in a name": of_archive(ARCHIVE, (f"{CIFAR}/a\0b", b"x"), words=[ARCHIVE]),
    "gigabytes of zeros": Case(
        CIFAR_DATA, ["holds more than 4,294,967,296 bytes"], lambda f: zeros(f, ARCHIVE, tarfile.REGTYPE, 5 << 30)
    ),
    "a long name of gigabytes": Case(
        CIFAR_DATA, ["a header of"], lambda f: zeros(f, ARCHIVE, tarfile.GNUTYPE_LONGNAME, 3 << 30)
    ),
    "an extended header of gigabytes": Case(
        CIFAR_DATA, ["a header of"], lambda f: zeros(f, ARCHIVE, tarfile.XHDTYPE, 3 << 30)
    ),
    "an archive of long names of long names": Case(
        CIFAR_DATA, ["is not whole"], headers(tarfile.GNUTYPE_LONGNAME, 1500)
    ),
    "an archive with a map that does not end": Case(CIFAR_DATA, ["is not whole"], headers(tarfile.GNUTYPE_SPARSE, 1)),
    "birds in an archive with a link": of_archive(
        "images.tgz", member("images/a", tarfile.SYMTYPE, "/etc"), words=["images.tgz"], command=BIRDS_DATA
    ),
    # Birds.
    "a list that is missing": of_birds(lambda f: (f / "lists/train.txt").unlink(), "train.txt is missing"),
    "a list that is empty": of_birds(lambda f: (f / "lists/test.txt").write_text(""), "names no images"),
    "a list of bytes": of_birds(lambda f: (f / "lists/test.txt").write_bytes(b"\xff\xfe\x00"), "is not a text file"),
    "a list that leaves": of_birds(
        lambda f: append(f / "lists/train.txt", "001.Bird_1/../../lists/train.txt\n"), "is not NNN.Species/file.jpg"
    ),
    "a list that names an image twice": of_birds(
        lambda f: append(f / "lists/train.txt", "001.Bird_1/b_1_0.jpg\n"), "twice"
    ),
    "a list that names what is missing": of_birds(
        lambda f: append(f / "lists/train.txt", "001.Bird_1/other.jpg\n"), "other.jpg is missing"
    ),
    "a list with a zero": of_birds(lambda f: append(f / "lists/train.txt", "001.Bird_1/a\0.jpg\n"), "is missing"),
    "a name that Windows does not take": of_birds(
        lambda f: (picture(f / "images/001.Bird_1/a:b.jpg"), append(f / "lists/train.txt", "001.Bird_1/a:b.jpg\n")),
        "lists names 001.Bird_1/a:b.jpg, which leads",
        "or has a : or \\ that Windows takes in no name",
    ),
    "a list that is a folder, below a name of two lines": Case(
        [*BIRDS_DATA[:7], "--data-dir", "{}/a\nb", "--output", "{}/out", "--offline"],
        ["a b/CUB_200_2010/lists/test.txt: Is a directory"],
        lambda f: (
            shutil.move(birds(f).parent, f / "a\nb"),
            (f / "a\nb" / CUB / "lists/test.txt").unlink(),
            (f / "a\nb" / CUB / "lists/test.txt").mkdir(),
        ),
    ),
    "a species of many digits": of_birds(
        lambda f: append(f / "lists/train.txt", f"{'9' * 5000}.Bird/a.jpg\n"), "is not NNN.Species/file.jpg"
    ),
    "a species of a number that would take a million names": of_birds(
        lambda f: (
            picture(f / "images/9999999.Bird/a.jpg"),
            append(f / "lists/train.txt", "9999999.Bird/a.jpg\n"),
        ),
        "'9999999.Bird/a.jpg' in",
        "is not NNN.Species/file.jpg",
    ),
    "a list that clears the terminal": of_birds(
        lambda f: append(f / "lists/train.txt", "001.Bird_1/\x1b[2J.jpg\n"), r"001.Bird_1/\x1b[2J.jpg is missing"
    ),
    "a list of a million letters": of_birds(
        lambda f: append(f / "lists/train.txt", "x" * 1_000_000), "'xxx", " ... ", "get the data again"
    ),
    "a species of two names": of_birds(
        lambda f: (
            picture(f / "images/001.Other/a.jpg"),
            append(f / "lists/train.txt", "001.Other/a.jpg\n"),
        ),
        "calls species 001 001.Bird_1 and 001.Other",
    ),
    "images without lists": of_birds(lambda f: shutil.rmtree(f / "lists"), "holds images/ and no lists/"),
    "2011: a list that is missing": of_birds_2011(lambda f: (f / "classes.txt").unlink(), "lacks classes.txt"),
    "2011: a label without a name": of_birds_2011(
        lambda f: edit(f / "image_class_labels.txt", lambda c: c.replace(b"9 3", b"9 4")), "without a name"
    ),
    "2011: a split that is none": of_birds_2011(
        lambda f: edit(f / "train_test_split.txt", lambda c: c.replace(b"9 0", b"9 2")), "has the line '9 2'"
    ),
    "2011: an image that leaves": of_birds_2011(
        lambda f: edit(f / "images.txt", lambda c: c.replace(b"003.Bird_3/b_3_2.jpg", b"../classes.txt")),
        "names ../classes.txt, which leads out of images/",
    ),
    "2011: a number of many digits": of_birds_2011(
        lambda f: append(f / "images.txt", f"{'1' * 5000} a.jpg\n"), "images.txt"
    ),
    "2011: lists of different lengths": of_birds_2011(
        lambda f: append(f / "images.txt", "10 003.Bird_3/b_3_2.jpg\n"), "do not name the same images"
    ),
    "2011: an image twice": of_birds_2011(
        lambda f: (
            append(f / "images.txt", "10 003.Bird_3/b_3_2.jpg\n"),
            append(f / "image_class_labels.txt", "10 3\n"),
            append(f / "train_test_split.txt", "10 1\n"),
        ),
        "twice",
    ),
    # Photographs of one's own.
    "one folder": of_photos(lambda f: shutil.rmtree(f / "bees"), "only one folder, ants"),
    "a folder in a class": of_photos(lambda f: (f / "bees" / "more").mkdir(), "holds a folder, more"),
    "two images in a class": of_photos(
        lambda f: [(f / "bees" / f"{n}.png").unlink() for n in (0, 1)], "class bees has 2 images"
    ),
    "a link to itself in a class": of_photos(
        lambda f: [
            ((f / "bees" / f"{n}.png").unlink(), (f / "bees" / f"{n}.png").symlink_to(f"{n}.png")) for n in (0, 1)
        ],
        "{}/data/bees/",
        "Too many levels of symbolic links",
    ),
    "a test folder without a class": of_photos(
        lambda f: [
            ((f / "train").mkdir(), (f / "test").mkdir()),
            shutil.move(f / "ants", f / "train"),
            shutil.move(f / "bees", f / "train"),
            shutil.copytree(f / "train/ants", f / "test/ants"),
        ],
        "lacks the class bees",
    ),
    "a class in Latin-1": of_photos(lambda f: os.rename(f / "bees", os.fsencode(f) + b"/b\xe9es"), "not UTF-8"),
    "2011: an image from the root": of_birds_2011(
        lambda f: edit(f / "images.txt", lambda c: c.replace(b"003.Bird_3/b_3_2.jpg", b"/etc/passwd")),
        "names /etc/passwd, which leads out of images/",
    ),
    "an image in both lists": of_birds(
        lambda f: append(f / "lists/train.txt", "001.Bird_1/b_1_2.jpg\n"), "is in both lists"
    ),
    # Finished runs.
    "predict: no run": Case([PREDICT, "{}/none", "{}/a.png"], ["{}/none does not exist"], finished_run),
    "predict: no image": Case([*ASK, "{}/b.png"], ["{}/b.png does not exist"], finished_run),
    "predict: not one image": Case([PREDICT, "{}/run/seed-0", "{}/out"], ["holds no image"], finished_run),
    "predict: no configuration": Case(
        ASK, ["is not the folder of a finished run"], damaged(finished_run, lambda r: (r / "config.json").unlink())
    ),
    "predict: a configuration cut short": Case(ASK, ["config.json is damaged"], of_config(lambda c: c[:-9])),
    "predict: a configuration that is nested": Case(ASK, ["config.json is damaged"], of_config(lambda c: DEEP)),
    "predict: a configuration of something else": Case(
        ASK,
        ["is not the configuration of a run"],
        of_config(lambda c: b"{}"),
    ),
    "predict: a configuration that is a list": Case(
        ASK,
        ["is not the configuration of a run"],
        of_config(lambda c: b"[]"),
    ),
    "predict: a configuration in Latin-1": Case(ASK, ["config.json is damaged"], of_config(lambda c: b"\xff" + c)),
    "predict: no network": Case(
        ASK, ["has no model.keras"], damaged(finished_run, lambda r: (r / "model.keras").unlink())
    ),
    "predict: weights that are not needed": Case([*ASK, "--weights", "none"], ["needs no --weights"], finished_run),
    "predict: a network with a lambda layer": of_network({"module": "keras.layers", "class_name": "Lambda"}),
    "predict: a network with a function": of_network({"module": "builtins", "class_name": "function"}),
    "predict: a network with a class of elsewhere": of_network({"module": "os", "class_name": "system"}),
    "predict: a network that reads files": of_network({"module": "keras.layers", "class_name": "StringLookup"}),
    "predict: a network that is nested": of_network(None),
    "predict: an image of a size beyond all": Case(
        ASK,
        ["image_size is 100000"],
        of_config(lambda c: c.replace(b'"options": {', b'"options": {"image_size": 100000')),
    ),
    "begin with a network with a lambda layer": Case(
        BEGIN,
        ["not the folder of a finished run"],
        lambda f: with_layer(f, {"module": "keras.layers", "class_name": "Lambda"}),
    ),
    "begin with a run whose name leads elsewhere": Case(
        BEGIN,
        ["its variant has a name that none has"],
        damaged(
            with_network, lambda r: edit(r / "config.json", lambda c: c.replace(b'"variant": "', b'"variant": "../'))
        ),
    ),
    "predict: a network that asks for a password": Case(
        ASK,
        ["model.keras is damaged"],
        damaged(
            with_network,
            lambda r: edit(r / "model.keras", lambda c: c.replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1")),
        ),
    ),
    "predict: a network of another compression": Case(
        ASK,
        ["model.keras is damaged"],
        damaged(
            with_network,
            lambda r: edit(
                r / "model.keras", lambda c: c.replace(b"PK\1\2\x14\3\x14\0\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x63\0")
            ),
        ),
    ),
    "predict: a mean beyond all numbers": Case(
        ASK,
        ["is not the configuration of a run"],
        of_config(lambda c: c.replace(b'"mean": [', b'"mean": [1' + b"0" * 400 + b", ")),
    ),
    "predict: a network of two channels": Case(
        ASK,
        ["normalization is not that of one or three channels"],
        of_config(lambda c: c.replace(b'"mean": [', b'"mean": [0.5, ')),
    ),
    "predict: a precision that is a list": Case(
        ASK,
        ["is not the configuration of a run"],
        of_config(lambda c: c.replace(b'"precision": "float32"', b'"precision": []')),
    ),
    "begin with no run": Case(BEGIN, ["not the folder of a finished run"]),
    "begin with a nested configuration": Case(
        BEGIN,
        ["not the folder of a finished run"],
        of_config(lambda c: DEEP),
    ),
    "begin with a network that is text": Case(
        BEGIN,
        ["not the folder of a finished run"],
        damaged(finished_run, lambda r: (r / "model.keras").write_text("no network")),
    ),
    "begin with a network without weights": Case(
        BEGIN,
        ["not the folder of a finished run"],
        damaged(finished_run, lambda r: zipfile.ZipFile(r / "model.keras", "w").close()),
    ),
}

LATER = {  # what only TensorFlow can know
    "more memory than there is": flags(
        "--dataset synthetic --classes 0-2 --limit 20 --variant wide --widths 1000000+1000000",
        "not enough memory for this: try --batch-size 32, or --accumulate 2",
        script=BONUS,
    ),
}

DRIVER = """
import contextlib, io, json, os, runpy, sys

class NotNeeded:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras"):
            raise AssertionError(f"imported {name}")

root = os.getcwd()
sys.meta_path.insert(0, NotNeeded())
answers = []
for command, cwd in json.load(sys.stdin):
    os.chdir(cwd or root)
    script, *sys.argv[1:] = command
    sys.argv[0] = os.path.join(root, script)
    out, err, code = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            err.write(f"{type(error).__name__}: {error}")
    answers.append([code, out.getvalue(), err.getvalue()])
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """By case, a folder of its own, prepared."""
    home, made = tmp_path_factory.mktemp("bad"), {}
    for number, (name, case) in enumerate(CASES.items()):
        made[name] = home / str(number)
        (made[name] / "out").mkdir(parents=True)
        (made[name] / "out" / "mine.txt").write_text("mine")
        case.prepare(made[name])
    return made


def kept(folder: Path) -> dict[str, object]:
    """What is in a folder: of files time and bytes, of links where they lead; without lock files."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_dir():
            found[name] = None
        elif not (path.name.startswith(".") and path.name.endswith(".lock")):
            found[name] = path.stat().st_mtime_ns, path.read_bytes()
    return found


@pytest.fixture(scope="module")
def answers(folders) -> dict[str, tuple]:
    """By case: exit code, stdout, stderr, and what was in its folder before the command."""
    before = {name: kept(folder) for name, folder in folders.items()}
    asked = [
        (
            [word.replace("{}", str(folders[name])) for word in case.command],
            case.cwd and str(folders[name] / case.cwd),
        )
        for name, case in CASES.items()
    ]
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps(asked),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert driver.returncode == 0, driver.stderr[-3000:]
    return {name: (*answer, before[name]) for name, answer in zip(CASES, json.loads(driver.stdout))}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_line_before_tensorflow_is_imported_and_changes_nothing(folders, answers, name):
    code, out, err, before = answers[name]
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, (code, out, err)
    for word in CASES[name].words:
        assert word.replace("{}", str(folders[name])) in err, err
    assert kept(folders[name]) == before


@pytest.mark.slow
@pytest.mark.parametrize("name", LATER)
def test_what_only_tensorflow_can_know_is_one_line_too_and_leaves_no_run(tmp_path, name):
    command = [word.replace("{}", str(tmp_path)) for word in LATER[name].command]
    assert_error(run_script(*command), *LATER[name].words)
    assert visible_files(tmp_path) == []
