"""How many whole lines of handwritten digits a network of single digits reads.

    python examples/read_line.py --run runs/lenet-20250101-120000
    python examples/read_line.py                (trains a LeNet-5 first, on digits between others)

Lines of 3 to 8 test digits are put together at random, the gaps between the ink of neighbours drawn evenly from --gap.
A line is right if all its digits are, none too many and none too few. Last, the pass over a line is timed against
cutting out the same windows and evaluating them in bulk.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from minicnn import SGD, Batches, Model, SoftmaxCrossEntropy, lenet5, load, load_dataset, train_step
from minicnn.data import Dataset
from minicnn.model.lines import REACH, LineReader

LENGTHS = range(3, 9)
MARGIN = 14  # columns of paper before the first digit and behind the last


def make_line(images: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """One line (28, w) of len(gaps) + 1 digits (28, 28); gaps are columns between the ink of neighbours."""
    inked = [image[:, image.any(axis=0)] for image in images]
    paper = [np.zeros((len(inked[0]), width), np.uint8) for width in (MARGIN, *gaps, MARGIN)]
    parts = [part for pair in zip(paper, inked, strict=False) for part in pair]
    return np.concatenate([*parts, paper[-1]], axis=1)


def distance(read: str, written: str) -> int:
    """The fewest digits to change, add or remove that make one of the other (Levenshtein, 1966)."""
    row = list(range(len(written) + 1))
    for i, digit in enumerate(read, 1):
        corner, row[0] = row[0], i
        for j, wanted in enumerate(written, 1):
            corner, row[j] = row[j], min(corner + (digit != wanted), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def flanked(images: np.ndarray, rng: np.random.Generator, gaps: tuple[int, int]) -> np.ndarray:
    """Each image (28, 28) again, with parts of neighbours beside its digit, as a window in a line has them.

    Source: LeCun et al. (1998), section VII.B, where the network for lines was trained on such images.
    """
    windows = np.zeros_like(images)
    beside = images[rng.integers(0, len(images), (2, len(images)))]
    for window, image, before, behind in zip(windows, images, *beside, strict=True):
        between = rng.integers(gaps[0], gaps[1] + 1, 2)
        line = make_line(np.stack([before, image, behind]), between)
        ink = MARGIN + before.any(axis=0).sum() + between[0]  # the column where that of `image` begins
        left = ink - np.flatnonzero(image.any(axis=0))[0]
        window[...] = np.pad(line, ((0, 0), (28, 28)))[:, left + 28 : left + 56]
    return windows


def train(data: Dataset, gaps: tuple[int, int], epochs: int) -> Model:
    """A LeNet-5, trained on the digits alone and between others."""
    print("putting digits between others ...", flush=True)
    images = data.train_images[:, 0]
    images = np.concatenate([images, flanked(images, np.random.default_rng(1), gaps)])[:, np.newaxis]
    labels = np.concatenate([data.train_labels, data.train_labels])
    network = lenet5().initialize("kaiming", rng=0)
    loss, optimizer = SoftmaxCrossEntropy(), SGD(network.parameters(), lr=0.02, momentum=0.9)
    batches = Batches(images, labels, 64, data.mean, data.std, seed=0)
    for epoch in range(epochs):
        optimizer.lr = 0.01 * (1 + np.cos(np.pi * epoch / epochs))
        losses = [train_step(network, loss, optimizer, batch).loss for batch in batches.epoch(epoch)]
        print(f"epoch {epoch + 1}/{epochs}   loss {np.mean(losses):.4f}", flush=True)
    return Model(network, (1, 28, 28), data.mean, data.std, data.classes, data.name)


def least_times(works: list[Callable[[], object]], rounds: int = 20) -> list[float]:
    """Seconds of the fastest of several rounds, in turn, after one that may compile kernels."""
    times = np.zeros((rounds + 1, len(works)))
    for row in times:
        for k, work in enumerate(works):
            start = time.perf_counter()
            work()
            row[k] = time.perf_counter() - start
    return list(times[1:].min(axis=0))


def cut_out(line: np.ndarray) -> np.ndarray:
    """The windows (n, 28, 28) around the same pixels as those of LineReader.windows."""
    padded = np.pad(line, ((REACH, REACH), (14, 14)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (28, 28))[:, : line.shape[1]]
    return np.ascontiguousarray(windows.reshape(-1, 28, 28))


def main(argv: list[str] | None = None) -> dict[int, float]:
    """Prints the table; returns the share of lines read right for each length."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", help="the folder of a run, or a model file [train one now]")
    parser.add_argument("--data", default="mnist", help="mnist or mnist-subset [%(default)s]")
    parser.add_argument("--root", default="data", help="the folder of data sets [%(default)s]")
    parser.add_argument("--part", choices=("test", "train"), default="test")
    parser.add_argument("--lines", type=int, default=200, help="of each length [%(default)s]")
    parser.add_argument("--gap", type=int, nargs=2, default=(2, 12), metavar=("LEAST", "MOST"))
    parser.add_argument("--epochs", type=int, default=5, help="if there is no --run [%(default)s]")
    parser.add_argument("--save", metavar="FILE", help="write the trained model, for minicnn read-line")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    data = load_dataset(arguments.data, arguments.root, if_unavailable="mnist-subset", warn=print)
    model = load(arguments.run) if arguments.run else train(data, arguments.gap, arguments.epochs)
    if arguments.save:
        model.save(arguments.save)
    reader = LineReader(model)
    images, labels = (
        (data.test_images, data.test_labels) if arguments.part == "test" else (data.train_images, data.train_labels)
    )
    rng = np.random.default_rng(arguments.seed)
    least, most = arguments.gap
    print(
        f"\nlines of {arguments.part} digits of {data.name}, gaps of {least} to {most} pixels, seed {arguments.seed}\n"
        "digits   lines   read right   right number of digits   digit error rate"
    )
    shares = {}
    for length in LENGTHS:
        right = right_number = wrong_digits = 0
        for _ in range(arguments.lines):
            chosen = rng.integers(0, len(images), length)
            line = make_line(images[chosen, 0], rng.integers(least, most + 1, length - 1))
            read = "".join(found.label for found in reader.read(line))
            written = "".join(data.classes[label] for label in labels[chosen])
            right += read == written
            right_number += len(read) == length
            wrong_digits += distance(read, written)
        shares[length] = right / arguments.lines
        print(
            f"{length:>6}   {arguments.lines:>5}   {shares[length]:>10.1%}   "
            f"{right_number / arguments.lines:>22.1%}   {wrong_digits / arguments.lines / length:>16.2%}",
            flush=True,
        )

    windows = cut_out(line)
    once, each = least_times([lambda: reader.windows(line), lambda: model.predict_proba(windows)])
    print(
        f"\n{len(windows):,} windows of a line of {line.shape[1]} pixels: in one pass {1000 * once:.1f} ms, "
        f"cut out and in bulk {1000 * each:.1f} ms, {each / once:.1f} times as long"
    )
    return shares


if __name__ == "__main__":
    main()
