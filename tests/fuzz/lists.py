"""The birds' lists, of both releases."""

import re
from pathlib import Path

from hypothesis import strategies as st

from common.datasets import cub200, cub200_2011

from .harness import Target, value_or_error
from .mutation import mutated

NAMES = [f"{k:03d}.Bird_{k}/b_{k}_{n}.jpg" for k in (1, 2, 3) for n in (0, 1)]
LISTS_2010 = {"lists/train.txt": NAMES[::2], "lists/test.txt": NAMES[1::2]}
LISTS_2011 = {
    "images.txt": [f"{number} {name}" for number, name in enumerate(NAMES, 1)],
    "image_class_labels.txt": [f"{number} {int(name[:3])}" for number, name in enumerate(NAMES, 1)],
    "train_test_split.txt": [f"{number} {number % 2}" for number, name in enumerate(NAMES, 1)],
    "classes.txt": [f"{k} {k:03d}.Bird_{k}" for k in (1, 2, 3)],
}
PLAIN = re.compile(r"[\w.-]{1,60}/[\w.-]{1,60}")
PIECES = st.one_of(
    st.sampled_from(
        ["001", "1", "0", ".", "/", "..", " ", "\t", "\r", "\0", "\\", ":", "._", "Bird", ".jpg", "-1", "٣"]
    ),
    st.sampled_from(
        ["\ufeff", "\x1b[31m", "\x85", "\u2028", "9" * 9, "9" * 5000, "x" * 300, "²", "True", "1e3", "1_0"]
    ),
    st.text(max_size=4),
)
NUMBERS = st.one_of(st.integers(0, 12).map(str), st.sampled_from(["0001", "99999999", "٣", "-3", "9" * 30]))
LINES = st.one_of(
    st.lists(PIECES, max_size=6).map("".join),
    st.sampled_from(NAMES),
    st.builds("{}.{}/{}.jpg".format, NUMBERS, st.text("ab _.é", max_size=5), st.text("ab.", max_size=3)),
    st.builds("{} {}".format, NUMBERS, st.one_of(NUMBERS, st.sampled_from(NAMES), st.text(max_size=5))),
)


@st.composite
def changed(draw, lines: list[str]) -> bytes:
    kept = draw(st.lists(st.one_of(st.sampled_from(lines), LINES), max_size=9))
    end = draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = end.join(draw(st.permutations([*lines, *kept])) if draw(st.booleans()) else kept)
    return text.encode("utf-8", "surrogatepass")


@st.composite
def cases(draw) -> dict[str, bytes]:
    release = draw(st.sampled_from([LISTS_2010, LISTS_2011]))
    sound = {name: "\n".join([*lines, ""]).encode() for name, lines in release.items()}
    for name in draw(st.lists(st.sampled_from(sorted(release)), min_size=1, max_size=2)):
        sound[name] = draw(st.one_of(changed(release[name]), mutated([sound[name]]), st.binary(max_size=60)))
    return sound


def check(folder: Path, case: dict[str, bytes]) -> None:
    named = [text for content in case.values() for text in PLAIN.findall(content.decode(errors="ignore"))]
    for name in {*NAMES, *named}:
        if ".." not in name.split("/") and "." not in name.split("/"):
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "images" / name).touch()
    (folder / "lists").mkdir()
    for name, content in case.items():
        (folder / name).write_bytes(content)
    if "images.txt" in case:
        data = value_or_error(lambda: cub200_2011.read(folder, 224, "squash"))
    else:
        data = value_or_error(lambda: cub200.read(folder, "cub200", 224, "squash"))
    if data is not None:
        for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
            assert len(images) == len(labels)
            assert all(0 <= label < len(data.class_names) for label in labels)
            inside = [(folder / "images" / str(name)).resolve() for name in images.names]
            assert all(path.is_relative_to((folder / "images").resolve()) and path.is_file() for path in inside)
        assert not {*data.train_images.names} & {*data.test_images.names}
        assert len(data.class_names) < 100_000 and all(data.class_names)


SOUND_2010 = {name: "\n".join(lines).encode() for name, lines in LISTS_2010.items()}
FOUND = (
    SOUND_2010 | {"lists/train.txt": b"9" * 5000 + b".Bird/a.jpg"},
    SOUND_2010 | {"lists/train.txt": b"99999999.Bird/a.jpg"},
    SOUND_2010 | {"lists/train.txt": b"001.Bird_1/\x1b[2J.jpg"},
)
TARGET = Target("lists", cases(), check, FOUND)
