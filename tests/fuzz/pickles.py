"""CIFAR's files: pickles that are damaged, prepared, or programs of any opcodes."""

import pickle
import pickletools
import struct
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from common.datasets import cifar
from common.datasets.image_data import DataFolder

from .harness import Target, value_or_error
from .mutation import SCALARS, mutated

FOLDER = cifar.RELEASE_100.folder
PIXELS = np.arange(4 * 3072, dtype=np.uint8).reshape(4, 3072)
SOUND = {
    "train": {"data": PIXELS, "fine_labels": [0, 1, 2, 3], "batch_label": "training batch 1 of 1"},
    "test": {"data": PIXELS[:2], "fine_labels": [0, 1], "batch_label": "testing batch 1 of 1"},
    "meta": {"fine_label_names": [f"class {number}" for number in range(100)]},
}
SEEDS = {name: [pickle.dumps(content, protocol) for protocol in (2, 4)] for name, content in SOUND.items()}
KEYS = ("data", "fine_labels", "batch_label", "fine_label_names")


def doubled(times: int) -> list:
    """A list of 2 ** times numbers that takes as many bytes as ``times`` lists of two."""
    value: list = [0, 1]
    for _ in range(times):
        value = [value, value]
    return value


class Call:
    """What a prepared pickle calls."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


ARRAYS = st.builds(
    lambda shape, kind: np.zeros(shape, kind),
    st.lists(st.integers(0, 5), max_size=3),
    st.sampled_from(["u1", "i8", "f4", "?", "c8", "U3", "S2", "M8[D]", "O", "V3"]),
)
CALLS = st.builds(
    lambda shape, kind: Call(np.ndarray, tuple(shape), kind),
    st.lists(st.sampled_from([0, 1, 4, 3072, 1 << 22, 1 << 40, -1]), min_size=1, max_size=3),
    st.sampled_from(["u1", "i8", "O", "V9", "U1000"]),
)
VALUES = st.recursive(
    st.one_of(SCALARS, st.binary(max_size=8), ARRAYS, CALLS, st.integers(0, 60).map(doubled)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def prepared(draw, name: str) -> bytes:
    content = dict(SOUND[name])
    for key in draw(st.lists(st.sampled_from([*content, *KEYS]), min_size=1, max_size=2)):
        content[key] = draw(VALUES)
    return pickle.dumps(content, draw(st.sampled_from([2, 4])))


KNOWN = sorted({*cifar._ArrayUnpickler.CALLS, ("_codecs", "encode")})
GLOBALS = [f"{module}\n{name}\n".encode() for module, name in KNOWN]
PARTS = st.one_of(
    st.sampled_from([opcode.code.encode("latin1") for opcode in pickletools.opcodes]),
    st.sampled_from([b"c" + each for each in GLOBALS]),
    st.sampled_from(GLOBALS).map(lambda each: b"c" + each),
    st.integers(0, 2**32 - 1).map(lambda number: b"r" + struct.pack("<I", number)),
    st.integers(-(2**31), 2**31 - 1).map(lambda number: b"J" + struct.pack("<i", number)),
    st.integers(0, 2**64 - 1).map(lambda number: b"\x8e" + struct.pack("<Q", number)),
    st.integers(0, 255).map(lambda number: b"K" + bytes([number])),
    st.binary(max_size=9).map(lambda content: b"U" + bytes([len(content)]) + content),
    st.sampled_from(["u1", "O", "V8", "(3,)u1", "i4,O", "data", "b", ""]).map(
        lambda text: b"X" + struct.pack("<I", len(text)) + text.encode()
    ),
    st.sampled_from([b"(", b")", b"t", b"R", b"b", b"\x81", b"\x85", b"\x86", b"\x87", b"}", b"]", b"s", b"u", b"e"]),
)
PROGRAMS = st.lists(PARTS, max_size=40).map(lambda parts: b"\x80\x02" + b"".join(parts) + b".")


@st.composite
def cases(draw) -> tuple[str, bytes]:
    name = draw(st.sampled_from(sorted(SOUND)))
    return name, draw(st.one_of(mutated(SEEDS[name]), prepared(name), PROGRAMS))


def check(folder: Path, case: tuple[str, bytes]) -> None:
    (folder / FOLDER).mkdir()
    for name, contents in SEEDS.items():
        (folder / FOLDER / name).write_bytes(case[1] if name == case[0] else contents[0])
    data = value_or_error(lambda: cifar.load(cifar.RELEASE_100, DataFolder(folder, folder, offline=True)))
    if data is not None:
        for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
            assert images.shape == (len(labels), 32, 32, 3) and images.values.dtype == np.uint8
            assert len(labels) and labels.dtype == np.int64 and labels.min() >= 0 and labels.max() < 100
        assert len(data.class_names) == 100 and all(isinstance(name, str) for name in data.class_names)


MANY = b"h\1h\0U\6latin1\x86R" * 600  # calls, each of which makes two million bytes
FOUND = (
    ("train", pickle.dumps({**SOUND["train"], "batch_label": doubled(60)}, 2)),
    ("train", pickle.dumps({**SOUND["train"], "fine_labels": doubled(60)}, 2)),
    ("meta", pickle.dumps({"fine_label_names": [doubled(60)] * 100}, 2)),
    ("meta", b"\x80\x02K\x01r" + struct.pack("<I", 1 << 28) + b"."),  # remembered as number 268,435,456
    ("meta", b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s."),  # a key that is hashed for ever
    ("test", SEEDS["test"][1].replace(b"NNNJ", b"NJ", 1)),  # a dtype of a state that ends NumPy's process
    ("train", b"\x80\x02c_codecs\nencode\n}U\x0c__defaults__K\x01\x85s\x86b."),  # a change of a function
    ("train", b"\x80\x02X" + struct.pack("<I", 1 << 21) + b"a" * (1 << 21) + b"q\0c_codecs\nencode\nq\1" + MANY + b"."),
)
TARGET = Target("pickles", cases(), check, FOUND)
