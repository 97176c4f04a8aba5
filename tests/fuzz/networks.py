"""Networks and weights of elsewhere: .keras archives, HDF5 files, and the run's configuration beside them."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
from hypothesis import strategies as st

from common.saved_network import SavedRun, check_weights
from common.start import InitialWeights

from .harness import Target, value_or_error
from .mutation import JSON, changed_json, mutated

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "published/cifar100/ex1_basenet/adam/seed-0/config.json"
CONFIG = json.loads(PUBLISHED.read_text(encoding="utf-8"))
NETWORK = {
    "module": "keras",
    "class_name": "Functional",
    "config": {
        "layers": [
            {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 32, 32, 3]}},
            {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2, "activation": "linear"}},
        ]
    },
}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def hdf5(**options) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w", **options) as file:
        file.create_dataset("layers/dense/vars/0", data=np.ones((8, 8), np.float32))
        file.create_dataset("layers/dense/vars/1", data=np.arange(64.0), chunks=(16,), compression="gzip", shuffle=True)
        file["layers/dense/vars"].attrs["name"] = "dense"
    return content.getvalue()


HDF5 = [hdf5(), hdf5(libver="latest")]


def archive(config: bytes, weights: bytes, method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", weights)
    return content.getvalue()


def encoded(value) -> bytes:
    return json.dumps(value).encode()


ARCHIVES = [archive(encoded(NETWORK), HDF5[0], method) for method in METHODS]
DEPTHS = st.sampled_from([10, 990, 20_000])
ENDS = st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")])
NESTED = st.builds(lambda depth, ends: ends[0] * depth + b"1" + ends[1] * depth, DEPTHS, ENDS)


@st.composite
def cases(draw) -> dict[str, bytes]:
    """The contents of config.json, model.keras and w.h5."""
    found = {**SOUND}
    kind = draw(st.sampled_from(["config", "config bytes", "zip", "network", "weights", "bytes"]))
    if kind == "config":
        found["config.json"] = encoded(draw(changed_json(CONFIG)))
    elif kind == "config bytes":
        found["config.json"] = draw(st.one_of(NESTED, st.binary(max_size=40), mutated([encoded(CONFIG)])))
    elif kind == "zip":
        found["model.keras"] = draw(mutated(ARCHIVES))
    elif kind == "network":
        network = draw(st.one_of(changed_json(NETWORK).map(encoded), NESTED, JSON.map(encoded)))
        found["model.keras"] = archive(network, HDF5[0])
    else:
        weights = draw(mutated(HDF5)) if kind == "weights" else draw(st.binary(max_size=200))
        found["model.keras"], found["w.h5"] = archive(encoded(NETWORK), weights), weights
    return found


def check(folder: Path, case: dict[str, bytes]) -> None:
    for name, content in case.items():
        (folder / name).write_bytes(content)
    run = value_or_error(lambda: SavedRun.of(folder))
    if run is not None:
        assert len(run.normalization["mean"]) in (1, 3) and min(run.normalization["standard_deviation"]) > 0
        assert all(isinstance(name, str) for name in run.classes)
        assert {*run.normalization} == {"mean", "standard_deviation"}
        assert run.image_size is None or (type(run.image_size) is int and 1 <= run.image_size <= 1024)
        assert isinstance(run.precision, str) and isinstance(run.resize, str)
        assert run.features is None or isinstance(run.features, str)
        assert run.weights_sha256 is None or isinstance(run.weights_sha256, str)
    weights = value_or_error(lambda: InitialWeights.of(folder))
    if weights is not None:
        assert str(weights).isprintable() and "/" not in str(weights) and len(str(weights)) < 100
    value_or_error(lambda: check_weights(folder / "w.h5"), also=(ValueError,))


SOUND = {"config.json": encoded(CONFIG), "model.keras": ARCHIVES[0], "w.h5": HDF5[0]}
FOUND = (
    SOUND | {"config.json": encoded({**CONFIG, "variant": "../../x"})},
    SOUND | {"config.json": encoded({**CONFIG, "precision": []})},
    SOUND | {"config.json": encoded({**CONFIG, "normalization": {"mean": [10**400], "standard_deviation": [1]}})},
    SOUND | {"model.keras": ARCHIVES[1][:60] + b"\xff" + ARCHIVES[1][61:]},
)
TARGET = Target("networks", cases(), check, FOUND)
