"""Is it the same experiment? The report's own way of training beside the suite's, on the same images and seeds.

    python benchmarks/equivalence.py --data-dir data
    python benchmarks/equivalence.py --dataset synthetic --epochs 1 --seed 0 1 --limit 40

The report's way is written here with stock Keras alone: ``ImageDataGenerator`` with the report's settings, layers one
by one as its tables have them, ``model.fit``. The suite's way is its script, in a process of its own. Both leave out
the same validation images and are tested on the same test images. Runs that are in the output folder already are not
done again.

Prints, for each experiment, mean and standard deviation of both and Welch's interval of the difference. The page of
``reproduce_report.py`` shows what ``--json published/equivalence.json`` wrote.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import ex2_improvements  # noqa: E402
from common import process, tensorflow_setup  # noqa: E402
from common.datasets import DATASETS  # noqa: E402
from common.datasets.image_data import DataFolder  # noqa: E402
from common.datasets.loading import load  # noqa: E402
from common.experiment import GradientDescent  # noqa: E402
from common.files import write_json  # noqa: E402
from common.reporting.report.statistics import summarize, welch_difference  # noqa: E402
from common.reporting.run_folder import read_run  # noqa: E402

VARIANTS = ("augment", "depth")
SMALL_IMAGES = {dataset.name: dataset for dataset in DATASETS["small images"]}


def report_network(variant: str, classes: int):
    """BaseNet as the report's tables have it, with batch normalisation and two wider convolutions for "depth"."""
    from keras import Sequential, layers

    def activation():
        return [layers.BatchNormalization(), layers.ReLU()] if variant == "depth" else [layers.ReLU()]

    def wider(filters):
        return [layers.Conv2D(filters, 3, padding="same"), *activation()] if variant == "depth" else []

    narrower = [layers.Conv2D(16, 1), *activation()] if variant == "depth" else []
    return Sequential(
        [
            layers.Input((32, 32, 3)),
            layers.Conv2D(6, 5),
            *activation(),
            *wider(24),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5),
            *activation(),
            *wider(64),
            layers.MaxPooling2D(2),
            *narrower,
            layers.Flatten(),
            layers.Dense(50),
            *activation(),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def train_the_reports_way(arguments, variant: str, seed: int) -> float:
    """Test accuracy of one run with ``ImageDataGenerator``."""
    import keras
    import numpy as np
    import tensorflow as tf

    from common.pipeline import split

    dataset = SMALL_IMAGES[arguments.dataset]
    folder = DataFolder(arguments.data_dir, arguments.data_dir)
    data = load(dataset, folder, dataset.default_classes, arguments.limit, {})
    experiment = ex2_improvements.EXERCISE.experiment(variant)
    assert isinstance(experiment.learning, GradientDescent)
    train, _ = split(data.train_labels, experiment.validation_fraction, seed)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    classes = len(data.class_names)
    model = report_network(variant, classes)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    images = np.asarray(data.train_images[train], "float32") / 255
    labels = keras.utils.to_categorical(data.train_labels[train], classes)
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        featurewise_center=True,
        featurewise_std_normalization=True,
        horizontal_flip=True,
        zoom_range=0.2,
        width_shift_range=0.1,
        height_shift_range=0.1,
        rotation_range=20,
    )
    generator.fit(images)
    flow = generator.flow(images, labels, batch_size=experiment.learning.batch_size, seed=seed)
    model.fit(flow, epochs=arguments.epochs or experiment.learning.epochs, verbose=0)
    test = generator.standardize(np.asarray(data.test_images, "float32") / 255)
    predicted = model.predict(test, verbose=0).argmax(axis=1)
    return float((predicted == data.test_labels).mean())


def reports_way(arguments, variant: str, seed: int) -> float:
    """The same, or what an earlier call left of it."""
    settings = {name: getattr(arguments, name) for name in ("epochs", "limit")}
    path = arguments.output / arguments.dataset / "reports_way" / variant / f"seed-{seed}.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] == settings:
            return found["test_accuracy"]
    accuracy = train_the_reports_way(arguments, variant, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": settings, "test_accuracy": accuracy})
    return accuracy


def suites_way(arguments, variant: str) -> list[float]:
    """Test accuracies of the suite's script, by seed."""
    flags = ["--dataset", arguments.dataset, "--data-dir", arguments.data_dir.resolve(), "--quiet"]
    flags += ["--output", arguments.output.resolve(), "--seed", *arguments.seed, "--variant", variant]
    for name in ("epochs", "limit"):
        if getattr(arguments, name):
            flags += [f"--{name}", getattr(arguments, name)]
    command = [sys.executable, "ex2_improvements.py", *map(str, flags)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    settings = [f"{name}={value}" for name in ("epochs", "limit") if (value := getattr(arguments, name))]
    folder = arguments.output / arguments.dataset / "ex2_improvements" / ",".join([variant, *settings])
    return [read_run(folder / f"seed-{seed}").metrics["test_accuracy"] for seed in arguments.seed]


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset", choices=SMALL_IMAGES, default="cifar100")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seed", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--epochs", type=int, help="in place of the report's 25, for a quick try")
    parser.add_argument("--limit", type=int, help="at most N training images per class, for a quick try")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="where runs go (default: results)")
    parser.add_argument("--json", type=Path, default=Path("equivalence.json"), help="where the accuracies go")
    arguments = parser.parse_args()

    tensorflow_setup.configure(threads=1)
    print("| experiment | report's way | suite | suite minus report's way, points | 95 % interval | report prints |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = []
    for variant in arguments.variant:
        suite = suites_way(arguments, variant)
        stock = [reports_way(arguments, variant, seed) for seed in arguments.seed]
        difference = welch_difference(stock, suite)
        printed = ex2_improvements.EXERCISE.reported[variant].accuracy
        low, high = difference.low, difference.high
        interval = "-" if low is None or high is None else f"{100 * low:+.2f} to {100 * high:+.2f}"
        points = f"{100 * difference.mean:+.2f}"
        print(
            f"| {variant} | {_text(stock)} | {_text(suite)} | {points} | {interval} | {printed:.4f} |",
            flush=True,
        )
        rows.append({"variant": variant, "seeds": arguments.seed, "reports_way": stock, "suite": suite})
    write_json(arguments.json, {"dataset": arguments.dataset, "epochs": arguments.epochs or 25, "rows": rows})


def _text(values: list[float]) -> str:
    summary = summarize(values)
    deviation = "" if summary.deviation is None else f" ± {summary.deviation:.4f}"
    return f"{summary.mean:.4f}{deviation} (n = {summary.n})"


if __name__ == "__main__":
    main()
