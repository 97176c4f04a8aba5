"""Seconds an epoch: this suite beside the way the report trained, on the same network and images.

    python benchmarks/training_speed.py --data-dir data
    python benchmarks/training_speed.py --dataset synthetic --precision float32

Three ways, and a part of the work, take turns, an epoch each (training and validation), after one epoch
that is not counted:

- suite: this repository.
- stock: ``ImageDataGenerator``, Keras's own layers, ``model.fit``, in the same process and so with the
  same TensorFlow settings (oneDNN and deterministic kernels on).
- stock, defaults: the same in a process of its own with TensorFlow as it comes. On processors without
  VNNI or AMX instructions TensorFlow leaves oneDNN off.
- convolutions: those of the epoch's training steps alone, forward and both gradients, on random numbers,
  as many beside each other as TensorFlow likes: a lower bound.

Prints medians and their ratios, and writes all seconds as JSON.
"""

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path

from shared import NETWORKS, EpochProcess, add_data_flags, answer, load_images, seconds

from common import environment, process, tensorflow_setup
from common.errors import UserError
from common.experiment import PRECISIONS, GradientDescent

BATCH_SIZE = 64
WAYS = ("suite", "stock", "stock, defaults", "convolutions")


def prepare(arguments, network: str, precision: str):
    """The experiment, the images split as in a run, and Keras set to the precision."""
    import keras

    from common.pipeline import split

    experiment, data = NETWORKS[network], load_images(arguments)
    keras.config.set_dtype_policy(PRECISIONS[precision])
    keras.utils.set_random_seed(0)
    return experiment, data, split(data.train_labels, experiment.validation_fraction, seed=0)


def suite_epochs(arguments, network: str, precision: str):
    """A function that trains one more epoch the way of this suite."""
    from common.pipeline import Normalization, TrainingBatches, evaluation_batches
    from common.training.fit import Phase, compile_model
    from common.trial import build_network

    experiment, data, (train, validation) = prepare(arguments, network, precision)
    normalization = Normalization.of(data.train_images[train])
    model = build_network(experiment, data.train_images.shape[1:], 25)
    batches = TrainingBatches(
        data.train_images[train], data.train_labels[train], 25, normalization, BATCH_SIZE, "affine", seed=0
    )
    compile_model(model, GradientDescent(batch_size=BATCH_SIZE), Phase(1), batches.steps)  # at a constant rate
    held_out = evaluation_batches(data.train_images[validation], data.train_labels[validation], 25, normalization)
    return lambda number: model.fit(batches.epoch(number), shuffle=False, validation_data=held_out, verbose=0)


def stock_epochs(arguments, network: str, precision: str):
    """A function that trains one more epoch the way of the report."""
    import keras
    import numpy as np
    import tensorflow as tf

    from common.models.layers import portable
    from common.trial import build_network

    experiment, data, (train, validation) = prepare(arguments, network, precision)
    model = portable(build_network(experiment, data.train_images.shape[1:], 25))
    model.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    images, labels = np.asarray(data.train_images, "float32") / 255, keras.utils.to_categorical(data.train_labels, 25)
    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        featurewise_center=True,
        featurewise_std_normalization=True,
        horizontal_flip=True,
        zoom_range=0.2,
        width_shift_range=0.1,
        height_shift_range=0.1,
        rotation_range=20,
    )
    generator.fit(images[train])
    flow = generator.flow(images[train], labels[train], batch_size=BATCH_SIZE)
    held_out = (generator.standardize(images[validation]), labels[validation])
    return lambda number: model.fit(flow, validation_data=held_out, verbose=0)


def convolution_epochs(arguments, network: str, precision: str):
    """A function that computes an epoch's convolutions, forward and both gradients, and nothing else."""
    import keras
    import tensorflow as tf
    from convolutions import training_step

    from common.trial import build_network

    experiment, data, (train, _) = prepare(arguments, network, precision)
    model = build_network(experiment, data.train_images.shape[1:], 25)
    step = training_step(model, BATCH_SIZE, tf.as_dtype(keras.config.dtype_policy().compute_dtype))

    def run_epoch(number: int):
        for _ in range(math.ceil(len(train) / BATCH_SIZE)):
            step()

    return run_epoch


def with_defaults(network: str, precision: str) -> EpochProcess:
    """The stock way in a process with TensorFlow as it comes."""
    variables = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    return EpochProcess([__file__, *sys.argv[1:], "--worker", network, precision], variables)


def measure(arguments, network: str, precision: str) -> dict[str, list[float]]:
    """Seconds of each counted epoch, by way."""
    ways = (suite_epochs, stock_epochs, convolution_epochs)
    suite, stock, convolutions = (make(arguments, network, precision) for make in ways)
    defaults = with_defaults(network, precision)
    result = {way: [] for way in WAYS}
    for number in range(arguments.epochs + 1):
        turn = (
            seconds(suite, number),
            seconds(stock, number),
            defaults.epoch_seconds(),
            seconds(convolutions, number),
        )
        if number:
            for way, value in zip(WAYS, turn):
                result[way].append(round(value, 3))
    defaults.close()
    return result


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_data_flags(parser)
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument(
        "--epochs",
        type=int,
        choices=range(1, 101),
        metavar="N",
        default=5,
        help="counted epochs of each way (default: 5)",
    )
    parser.add_argument("--json", type=Path, default=Path("training_speed.json"), help="where the seconds go")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        answer(stock_epochs(arguments, *arguments.worker))
        return

    device = f"{tensorflow_setup.configure()}, {environment.processor()}"
    print(f"{arguments.dataset}, {device}, median seconds of {arguments.epochs} epochs\n")
    print(
        "| network | precision | suite | stock | stock, defaults | convolutions | stock ÷ suite | defaults ÷ suite "
        "| float32 stock ÷ suite |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    report = {"dataset": arguments.dataset, "device": device, "epochs": arguments.epochs, "rows": []}
    for network in arguments.network:
        float32_stock = None
        for precision in arguments.precision:
            times = measure(arguments, network, precision)
            suite, stock, defaults, convolutions = (statistics.median(times[way]) for way in WAYS)
            if precision == "float32":
                float32_stock = stock
            over_float32 = f"{float32_stock / suite:.2f}" if float32_stock else "-"
            report["rows"].append(
                {
                    "network": network,
                    "precision": precision,
                    "seconds": times,
                    "stock_over_suite": round(stock / suite, 3),
                    "defaults_over_suite": round(defaults / suite, 3),
                }
            )
            print(
                f"| {network} | {precision} | {suite:.2f} | {stock:.2f} | {defaults:.2f} | {convolutions:.2f} "
                f"| {stock / suite:.2f} | {defaults / suite:.2f} | {over_float32} |",
                flush=True,
            )
            arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
