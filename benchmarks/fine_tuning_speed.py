"""Images a second of fine-tuning, beside the convolutions of its training steps alone.

    python benchmarks/fine_tuning_speed.py --data-dir data
    python benchmarks/fine_tuning_speed.py --variant finetune --precision float32

Each variant trains every layer of ResNet50 on real photographs of 224×224, which are decoded and augmented meanwhile.
It and the convolutions of as many steps, forward and both gradients, take turns, after one turn that is not counted.
The weights are random, since speed does not depend on them.

Prints medians, and writes all rates as JSON.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from shared import ROOT, seconds

import ex3_resnet_birds
from common import environment, process, tensorflow_setup
from common.datasets.cub200 import CUB200
from common.datasets.image_data import DataFolder
from common.datasets.loading import load
from common.errors import UserError
from common.experiment import PRECISIONS, FineTuning

VARIANTS = [each.name for each in ex3_resnet_birds.EXERCISE.experiments if isinstance(each.learning, FineTuning)]


def measure(arguments, variant: str, precision: str) -> dict[str, list[float]]:
    """Images a second of each counted turn, by way."""
    import keras
    import numpy as np
    import tensorflow as tf
    from convolutions import training_step

    from common.pipeline import Normalization, TrainingBatches
    from common.training.fit import compile_model, free_memory
    from common.transfer import fine_tuning
    from common.trial import build_network

    experiment = ex3_resnet_birds.EXERCISE.experiment(variant)
    learning = experiment.learning
    assert isinstance(learning, FineTuning)
    keras.backend.clear_session()
    keras.config.set_dtype_policy(PRECISIONS[precision])
    folder = DataFolder(arguments.data_dir, arguments.data_dir)
    data = load(CUB200, folder, CUB200.default_classes, None, {flag.destination: flag.default for flag in CUB200.flags})
    images = learning.batch_size * arguments.steps
    chosen = np.random.default_rng(0).permutation(len(data.train_labels))[:images]
    batches = TrainingBatches(
        data.train_images[chosen],
        data.train_labels[chosen],
        len(data.class_names),
        Normalization.none(),
        learning.batch_size,
        experiment.augmentation if experiment.augment else None,
        cutmix=experiment.cutmix or 0.0,
        seed=0,
        accumulate=learning.accumulate,
    )
    model = build_network(experiment, data.train_images.shape[1:], len(data.class_names))
    compile_model(model, learning, fine_tuning.phases(learning)[-1], arguments.steps, steps_per_execution=1)
    micro_batch = learning.batch_size // learning.accumulate
    step = training_step(model, micro_batch, tf.as_dtype(keras.config.dtype_policy().compute_dtype))
    ways = {
        "suite": lambda number: model.fit(batches.epoch(number), shuffle=False, verbose=0),
        "convolutions": lambda number: [step() for _ in range(batches.steps)],
    }
    rates = {way: [] for way in ways}
    for turn in range(arguments.turns + 1):
        for way, run in ways.items():
            taken = seconds(run, turn)
            if turn:
                rates[way].append(round(images / taken, 2))
    free_memory()
    return rates


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=VARIANTS[-1:])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["float32", "bfloat16"])
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps a turn (default: 20)")
    parser.add_argument("--turns", type=int, default=3, help="counted turns (default: 3)")
    parser.add_argument("--json", type=Path, default=Path("fine_tuning_speed.json"), help="where the rates go")
    arguments = parser.parse_args()

    device = f"{tensorflow_setup.configure()}, {environment.processor()}"
    print(f"fine-tuning of ResNet50, {device}, medians of {arguments.turns} turns\n")
    print("| variant | precision | suite, images/s | convolutions, images/s | share of it, by turn | median |")
    print("|---|---|---|---|---|---|", flush=True)
    report = {"device": device, "rates": {}}
    for variant in arguments.variant:
        for precision in arguments.precision:
            rates = report["rates"][f"{variant}, {precision}"] = measure(arguments, variant, precision)
            suite, convolutions = (statistics.median(rates[way]) for way in ("suite", "convolutions"))
            shares = [ours / bound for ours, bound in zip(rates["suite"], rates["convolutions"])]
            print(
                f"| {variant} | {precision} | {suite:.1f} | {convolutions:.1f} "
                f"| {', '.join(f'{share:.2f}' for share in shares)} | {statistics.median(shares):.2f} |",
                flush=True,
            )
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
