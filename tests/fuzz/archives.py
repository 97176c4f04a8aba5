"""Archives: tar files, gzipped or not, whose headers say anything."""

import gzip
import io
import tarfile
from pathlib import Path

from hypothesis import strategies as st

from common.files import extract

from .harness import Target, value_or_error
from .mutation import mutated

PREFIX = "data"
NAMES = st.one_of(
    st.sampled_from(
        ["data/a", "data/b/c", "data", "data/", "./data/a", "data/a/b", "other/x", "", ".", "/", "data//a"]
    ),
    st.sampled_from(["../x", "data/../../x", "/tmp/x", "data\\x", "C:data/x", "data/._a", "data/a\nb", "data/\x1b"]),
    st.sampled_from(["data/" + "n" * 300, "data/" + "d/" * 3000 + "x", "data/\udce9", "data/a\0b"]),
    st.text(max_size=12).map("data/{}".format),
)
KINDS = [b"0", b"\0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"L", b"K", b"S", b"x", b"g", b"X", b"N", b"V", b"D"]
SIZES = st.one_of(st.integers(0, 1200), st.sampled_from([-1, -512, -10_000, 1 << 20, 5 << 30, 1 << 60, 8**11 - 1]))
RECORDS = st.one_of(
    st.builds(
        lambda key, value: (key, value),
        st.sampled_from(
            ["path", "size", "linkpath", "mtime", "uid", "hdrcharset", "GNU.sparse.size", "GNU.sparse.map"]
        ),
        st.one_of(st.text(max_size=6), st.sampled_from(["-512", "99999999999999999999", "BINARY", "../x", "1,2,3"])),
    ),
    st.sampled_from(
        [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "/x"), ("GNU.sparse.realsize", "-9")]
    ),
)


def records(pairs) -> bytes:
    """The content of a pax header."""
    found = b""
    for key, value in pairs:
        body = f" {key}={value}\n".encode("utf-8", "surrogateescape")
        found += str(len(body) + len(str(len(body) + 2))).encode() + body
    return found


def header(name: str, kind: bytes, size: int, sparse: bool = False) -> bytes:
    """A header whose checksum is right, whatever it says."""
    block = bytearray(512)
    encoded = name.encode("utf-8", "surrogateescape")[:100]
    block[: len(encoded)] = encoded
    block[100:108] = b"0000644\0"
    if 0 <= size < 8**11:
        block[124:136] = b"%011o\0" % size
    else:  # base 256, as GNU tar writes it
        block[124:136] = (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True)
    block[156:157] = kind
    block[257:265] = b"ustar  \0"
    if sparse:
        block[482] = 1  # more of the map follows
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 512)


@st.composite
def members(draw) -> bytes:
    kind = draw(st.sampled_from(KINDS))
    if kind in (b"x", b"g", b"X"):
        content = records(draw(st.lists(RECORDS, max_size=4)))
        if draw(st.booleans()):
            content = draw(mutated([content]))
    elif kind in (b"L", b"K"):
        content = draw(NAMES).encode("utf-8", "surrogateescape") + b"\0"
    else:
        content = draw(st.binary(max_size=40))
    size = len(content) if draw(st.integers(0, 3)) else draw(SIZES)
    return header(draw(NAMES), kind, size, draw(st.booleans())) + padded(content)


@st.composite
def cases(draw) -> bytes:
    parts = draw(st.lists(members(), max_size=6))
    if draw(st.integers(0, 9)) == 0:
        parts *= draw(st.integers(1, 1500))
    content = b"".join(parts) + bytes(draw(st.sampled_from([0, 100, 1024])))
    if draw(st.booleans()):
        content = draw(mutated([content or b"x", SOUND]))
    if draw(st.booleans()):
        content = gzip.compress(content, 1, mtime=0)
        if draw(st.booleans()):
            content = draw(mutated([content]))
    return content


def _sound() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (("data/train", b"x" * 700), ("data/" + "é" * 90, b"y")):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


SOUND = _sound()


def check(folder: Path, case: bytes) -> None:
    archive = folder / "archive.tgz"
    archive.write_bytes(case)
    done = value_or_error(lambda: extract(archive, PREFIX, folder / "out") or True)
    there = sorted(path.name for path in folder.iterdir())
    assert there == (["archive.tgz", "out"] if done else ["archive.tgz"])
    for path in folder.rglob("*"):
        assert not path.is_symlink() and (path.is_dir() or path.is_file())
    assert archive.read_bytes() == case


FOUND = (
    header("data/a", b"S", 10, sparse=True),  # a map that does not end
    header("data/a", b"L", 512) * 1500,  # long names of long names
    header("data/\x1b", b"1", 0),
)
TARGET = Target("archives", cases(), check, FOUND)
