"""Run folders: what collects them and the page's text read whatever their files hold."""

import json
from pathlib import Path

from hypothesis import strategies as st

import ex2_improvements
from common import collect
from common.reporting import publishing
from common.reporting.report import content
from common.reporting.report.runs import read_runs
from common.reporting.run_folder import check_whole, read_run

from .harness import Target, value_or_error
from .mutation import changed_json, mutated

ROOT = Path(__file__).parents[2]
PLACE = Path("cifar100/ex2_improvements/early-stopping/seed-0")
SOUND = {path.name: path.read_bytes() for path in (ROOT / "published" / PLACE).iterdir()}
VALUES = {name: json.loads(text) for name, text in SOUND.items() if name.endswith(".json")}
NESTED = st.sampled_from([b"[" * 20_000 + b"]" * 20_000, b'{"a":' * 20_000 + b"1" + b"}" * 20_000])
ROWS = st.lists(
    st.lists(st.sampled_from(["1", "0.5", "nan", "-1", "x", '"', "", "1e999", "9" * 5000, "a" * 200_000, "\0"])).map(
        ",".join
    ),
    max_size=6,
).map("\n".join)
MANIFESTS = changed_json({"config.json": {"size": 1, "sha256": "0"}})


@st.composite
def cases(draw) -> dict[str, bytes]:
    """The files that are not as the run left them."""
    found = {}
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["value", "value", "value", "bytes", "nested", "history", "manifest"]))
        if kind == "value":
            name = draw(st.sampled_from(sorted(VALUES)))
            found[name] = json.dumps(draw(changed_json(VALUES[name]))).encode()
        elif kind == "bytes":
            name = draw(st.sampled_from(sorted(SOUND)))
            found[name] = draw(st.one_of(mutated([SOUND[name]]), st.binary(max_size=40)))
        elif kind == "nested":
            found[draw(st.sampled_from(sorted(VALUES)))] = draw(NESTED)
        elif kind == "history":
            head = SOUND["history.csv"].partition(b"\n")[0] if draw(st.booleans()) else b""
            found["history.csv"] = head + b"\n" + draw(ROWS).encode()
        else:
            found[".manifest"] = json.dumps(draw(MANIFESTS)).encode()
    return found


def check(folder: Path, case: dict[str, bytes]) -> None:
    run_folder = folder / PLACE
    run_folder.mkdir(parents=True)
    for name, text in {**SOUND, **case}.items():
        (run_folder / name).write_bytes(text)
    value_or_error(lambda: check_whole(run_folder))
    run = value_or_error(lambda: read_run(run_folder))
    if run is not None:
        assert all(isinstance(each, str) for each in (run.script, run.variant, run.name, run.dataset))
        assert isinstance(run.seed, int) and isinstance(run.evaluated_epoch, int)
    found = value_or_error(lambda: collect.collect([folder]))
    if found is not None:
        collect.write(found[0], folder / "all.csv")
    if found is not None and found[0]:
        publishing.write_csv(found[0], lambda run: publishing.code_status(run, {}, {}), folder / "results.csv")
        publishing.results_table(found[0], ex2_improvements.EXERCISE)
    page = read_runs(folder, ["cifar100"])
    assert len(page.found) + len(page.damaged) == 1
    json.dumps(content.collect(content.Request([ex2_improvements.EXERCISE]), page))


FOUND = (
    {"config.json": b"null"},
    {"layer_table.md": b"\xff"},
    {"per_class.json": b"[" + b"[]," * 10_000_000 + b"[]]"},
    {"history.csv": b"," * 20_000_000},
    {"environment.json": b"[]"},
    {"timing.json": json.dumps({**VALUES["timing.json"], "epoch_seconds": []}).encode()},
    {"history.csv": SOUND["history.csv"] + b"a" * 200_000},
    {"history.csv": SOUND["history.csv"].partition(b"\n")[0]},
    {"config.json": json.dumps({**VALUES["config.json"], "name": "../../x"}).encode()},
    {"config.json": json.dumps({**VALUES["config.json"], "experiment": {}}).encode()},
    {"config.json": json.dumps({**VALUES["config.json"], "experiment": {"epochs": None}}).encode()},
    {"config.json": json.dumps({**VALUES["config.json"], "experiment": {"label_smoothing": "x"}}).encode()},
)
TARGET = Target("runs", cases(), check, FOUND)
