"""Images a second through frozen ResNet50: this suite beside ``predict`` of stock Keras.

    python benchmarks/feature_extraction.py
    python benchmarks/feature_extraction.py --weights none --batches 2

Random images of 224×224, in memory; speed depends neither on what they show nor on the weights. The
two ways and a large matrix multiplication of the same precision take turns, after one turn that is not
counted. An image takes 7.7 GFLOP (multiplications and additions counted), so images a second times 7.7
stands beside the rate of the matrix multiplication.

Prints medians, and writes all rates as JSON.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from common import environment, process, tensorflow_setup  # noqa: E402
from common.errors import UserError  # noqa: E402
from common.experiment import PRECISIONS  # noqa: E402

GFLOP_PER_IMAGE = 7.7
SIZE = 224
MATRIX = 4096
STOCK_BATCH_SIZE = 64  # the suite's own is smaller, for memory


def measure(arguments, precision: str) -> dict[str, list[float]]:
    """Rates of each counted turn: images a second of suite and stock, GFLOP/s of the multiplication."""
    import keras
    import numpy as np
    import tensorflow as tf

    from common.models import resnet50
    from common.pipeline import evaluation_batch_size, without_autotune
    from common.transfer.weights import read_weights

    count = STOCK_BATCH_SIZE * arguments.batches
    images = np.random.default_rng(0).uniform(0, 255, (count, SIZE, SIZE, 3)).astype(np.float32)
    weights = read_weights(arguments.weights)
    dtype = tf.bfloat16 if precision == "bfloat16" else tf.float32
    network = resnet50.Frozen(weights, dtype)
    keras.config.set_dtype_policy(PRECISIONS[precision])
    stock = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
    stock.set_weights(list(weights.values()))
    inputs = keras.applications.resnet.preprocess_input(images.copy())
    matrix = tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), (0, 0)), dtype)
    multiply = tf.function(tf.matmul)

    batch_size = evaluation_batch_size((SIZE, SIZE, 3))

    def run_suite():
        for batch in without_autotune(tf.data.Dataset.from_tensor_slices(images).batch(batch_size)):
            tf.reduce_mean(network(batch).fifth, [1, 2]).numpy()

    ways = {
        "suite": (run_suite, count),
        "stock": (lambda: stock.predict(inputs, batch_size=STOCK_BATCH_SIZE, verbose=0), count),
        "matmul": (lambda: tf.reduce_sum(multiply(matrix, matrix)).numpy(), 2 * MATRIX**3 / 1e9),
    }
    rates = {way: [] for way in ways}
    for turn in range(arguments.turns + 1):
        for way, (run, amount) in ways.items():
            start = time.perf_counter()
            run()
            if turn:
                rates[way].append(round(amount / (time.perf_counter() - start), 2))
    return rates


def main() -> None:
    process.prepare()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", default="none", help="imagenet, a file, or none (default: none)")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument(
        "--batches",
        type=int,
        choices=range(1, 17),
        metavar="N",
        default=4,
        help="batches of 64 images a turn (default: 4)",
    )
    parser.add_argument(
        "--turns", type=int, choices=range(1, 101), metavar="N", default=5, help="counted turns (default: 5)"
    )
    parser.add_argument("--json", type=Path, default=Path("feature_extraction.json"), help="where the rates go")
    arguments = parser.parse_args()

    device = f"{tensorflow_setup.configure()}, {environment.processor()}"
    print(f"ResNet50, {SIZE}×{SIZE}, {device}, medians of {arguments.turns} turns\n")
    print("| precision | suite, images/s | stock predict | suite ÷ stock | suite, GFLOP/s | matmul | of matmul |")
    print("|---|---|---|---|---|---|---|", flush=True)
    report = {"device": device, "rates": {}}
    for precision in arguments.precision:
        report["rates"][precision] = rates = measure(arguments, precision)
        suite, stock, matmul = (statistics.median(rates[way]) for way in ("suite", "stock", "matmul"))
        rate = suite * GFLOP_PER_IMAGE
        print(
            f"| {precision} | {suite:.1f} | {stock:.1f} | {suite / stock:.2f} | {rate:.0f} | {matmul:.0f} "
            f"| {rate / matmul:.0%} |",
            flush=True,
        )
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
