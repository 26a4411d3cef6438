"""Pictures of a training run: curves, confusion matrix, misclassified images, augmentation.

Each function writes one PNG, which appears under its name only when it is complete. Lengths are in
pixels of that PNG.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from minicnn.console import label
from minicnn.errors import DataError, ShapeError
from minicnn.inspect.plots.canvas import (
    BLUE,
    DPI,
    GREY,
    INK,
    PALE,
    VERMILION,
    Array,
    PathLike,
    Sheet,
    charts,
    mosaic_of,
    plural,
    text_width,
    write_png,
)
from minicnn.metrics import confusion_matrix

#: Of Okabe and Ito, for networks.
PALETTE = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", INK)
SETS = {"train": VERMILION, "test": BLUE, "validation": BLUE}
MISTAKES = LinearSegmentedColormap.from_list("mistakes", ["#FFF0E0", "#F5A668", VERMILION])
CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}
MARGINS = {"left": 0.085, "right": 0.92, "bottom": 0.12, "top": 0.91, "wspace": 0.42}


def plot_curves(path: PathLike, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Loss and accuracy on the training and the test (or validation) set, over the epochs.

    `metrics` has one mapping per epoch with the keys epoch, train_loss, train_accuracy, test_loss
    and test_accuracy, or validation_loss and validation_accuracy for the last two (accuracies as
    fractions; NaN or None where nothing was measured). The accuracy axis is logarithmic in the
    distance to 100 %: 99.0 % and 99.2 % are as easy to tell apart there as 90 % and 92 %.
    """
    figure, (left, right) = charts(1575, 690, MARGINS, columns=2)
    epochs = np.array([row["epoch"] for row in metrics], dtype=float)
    held_out = _held_out(metrics)
    loss, accuracy = (
        {name: np.array([row[f"{name}_{what}"] for row in metrics], dtype=float) for name in ("train", held_out)}
        for what in ("loss", "accuracy")
    )
    _lines(left, "Loss", epochs, loss, SETS)
    _lines(right, "Accuracy", epochs, accuracy, SETS, as_accuracy=True)
    test = accuracy[held_out]
    if np.isfinite(test).any():
        best = int(np.nanargmax(test))
        text = f"best on {held_out}: {100 * test[best]:.2f} % after epoch {epochs[best]:g}"
        right.set_title(text, loc="right", fontsize=9, color=GREY)
    write_png(figure, path)


def plot_comparison(path: PathLike, metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Accuracy on the training and on the test (or validation) images over the epochs, a curve for each network.

    `metrics` has for each network what `plot_curves` takes; their numbers of epochs may differ.
    """
    figure, (left, right) = charts(1575, 690, MARGINS, columns=2)
    epochs = np.arange(1.0, 1 + max(map(len, metrics.values())))
    colours = dict(zip(metrics, itertools.cycle(PALETTE), strict=False))
    held_out = _held_out(itertools.chain(*metrics.values()))
    for axes, part, images in (
        (left, "train", "training images, during the epoch"),
        (right, held_out, f"{held_out} images"),
    ):
        curves = {name: np.full(len(epochs), np.nan) for name in metrics}
        for name, rows in metrics.items():
            curves[name][: len(rows)] = [row[f"{part}_accuracy"] for row in rows]
        _lines(axes, f"Accuracy on {images}", epochs, curves, colours, as_accuracy=True)
    write_png(figure, path)


def _held_out(rows: Iterable[Mapping[str, Any]]) -> str:
    return "validation" if any("validation_loss" in row for row in rows) else "test"


def _lines(
    axes: Axes,
    title: str,
    epochs: Array,
    curves: Mapping[str, Array],
    colours: Mapping[str, str],
    as_accuracy: bool = False,
) -> None:
    """Curves on a log axis, each named at its right end with its last value."""
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set(xlabel="epoch", ylabel="accuracy (log scale towards 100 %)" if as_accuracy else "loss (log scale)")
    heights = {name: 1 - y if as_accuracy else y for name, y in curves.items()}
    known = np.concatenate([y[np.isfinite(y)] for y in heights.values()])
    if not known.size:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "nothing measured yet", transform=axes.transAxes, ha="center")
        return

    # Exactly 0 (an accuracy of 100 %) has no place on a log axis: it is drawn at the axis' end.
    positive = known[known > 0]
    end = positive.min() / 2 if positive.size else 1e-3
    low, high = max(known.min(), end), max(known.max(), end)
    room = 1.1 * (high / low) ** 0.06
    low, high = low / room, min(high * room, 1.0) if as_accuracy else high * room
    ticks = {t: f"{100 * (1 - t):.6g} %" if as_accuracy else f"{t:.6g}" for t in _ticks(low, high)}
    if known.min() <= 0:
        zero = {end: "100 %" if as_accuracy else "0"}
        ticks = zero | {t: text for t, text in ticks.items() if t > 1.3 * end}
    axes.set_yscale("log")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylim(*((high, low) if as_accuracy else (low, high)))
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    margin = max(0.3, 0.03 * float(np.ptp(epochs)))
    axes.set_xlim(epochs.min() - margin, epochs.max() + margin)

    names = []
    for name, y in heights.items():
        measured = np.isfinite(y)
        x, y = epochs[measured], np.maximum(y[measured], end)
        axes.plot(x, y, color=colours[name], lw=1.8, marker="o", ms=4 if len(x) <= 40 else 0)
        if len(y):
            value = curves[name][measured][-1]
            text = f"{100 * value:.2f} %" if as_accuracy else f"{value:#.3g}"
            height = float(np.log(y[-1] / low) / np.log(high / low))
            names.append((1 - height if as_accuracy else height, f"{name}\n{text}", colours[name]))
    names.sort()
    places = _apart(np.array([height for height, _, _ in names]), 0.13)  # of two lines of text each
    for place, (_, text, colour) in zip(places, names, strict=True):
        axes.text(1.02, place, text, transform=axes.transAxes, color=colour, va="center")


def _apart(places: Array, least: float) -> Array:
    """Ascending places moved as little as it takes for neighbours to be `least` apart.

    That is an isotonic regression, here as a maximum of minima of means (scipy.optimize takes long to import).
    """
    k = np.arange(len(places))
    sums = np.cumsum([0.0, *(places - least * k)])
    means = (sums[1:] - sums[:-1, None]) / (k - k[:, None] + 1).clip(1)  # from a place (row) to a later one
    moved: Array = least * k + np.array([means[: i + 1, i:].min(axis=1).max() for i in k])
    return moved


def _ticks(low: float, high: float) -> list[float]:
    """At most 8 round numbers between `low` and `high`, for a log axis."""
    if high / low < 4:
        return [t for t in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= t <= high]
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    fine = [s * 10.0**d for d in decades for s in (1, 2, 5) if low <= s * 10.0**d <= high]
    whole = [10.0**d for d in decades if low <= 10.0**d <= high]
    return fine if len(fine) <= 8 else whole[:: 1 + len(whole) // 8]


def plot_confusion(path: PathLike, labels: Array, predictions: Array, classes: Sequence[str]) -> None:
    """The confusion matrix with its counts, the share correct per class, the worst confusions.

    `labels` and `predictions` are (N,) class indices into `classes`.
    """
    _check("plot_confusion", classes, labels=labels, predictions=predictions)
    k, names = len(classes), [_shorten(name) for name in classes]
    counts = confusion_matrix(labels, predictions, k)
    hits, seen = counts.diagonal(), counts.sum(axis=1)
    mistakes = counts - np.diag(hits)
    worst = np.argsort(-mistakes, axis=None, kind="stable")[:12]
    lines = [
        f"{names[i]} predicted as {names[j]}: {plural(mistakes[i, j], 'time')}"
        for i, j in zip(*np.unravel_index(worst, mistakes.shape), strict=True)
        if mistakes[i, j]
    ]

    cell = 84 if k <= 12 else max(34, 1000 // k)
    points = 72 / DPI * cell  # the cell's size in the unit of font sizes
    number_size = min(10, 0.5 * points, 1.3 * points / len(str(counts.max())))
    name_size = min(10, 0.55 * points)
    longest = max(text_width(name, name_size) for name in names)
    tilted = longest > 0.9 * cell
    size, left, top = k * cell, 95 + longest, 165
    right, bottom = left + size, top + size
    below = 75 + (round(0.75 * longest) if tilted else 20)
    panel = right + 130  # where the list in words begins
    height = max(size, 60 + 36 * len(lines))
    widest = max(text_width(line, 10) for line in [*lines, 20 * " "])
    misclassified = f"{_share(mistakes.sum(), seen.sum())} misclassified"
    sheet = Sheet(panel + widest + 40, top + height + below, "Confusion matrix", misclassified)

    # The scale is for the mistakes: on one with the diagonal all of them would look like zero.
    cells = MISTAKES(mistakes / max(mistakes.max(), 1))[..., :3]
    cells[mistakes == 0] = 1
    cells[np.diag(hits > 0)] = to_rgb("#D3E6F3")
    sheet.put(cells.repeat(cell, axis=0).repeat(cell, axis=1), left, top)
    axes, edges = sheet.axes, cell * np.arange(k + 1)
    axes.hlines(top + edges, left, right, color=PALE, linewidth=0.7)
    axes.vlines(left + edges, top, bottom, color=PALE, linewidth=0.7)
    middles = edges[:-1] + cell / 2
    for i, j in zip(*np.nonzero(counts), strict=True):
        ink = "white" if mistakes[i, j] > 0.7 * mistakes.max() else INK
        place = left + middles[j], top + middles[i]
        axes.text(*place, str(counts[i, j]), fontsize=number_size, color=ink, **CENTRED)
    gap = 12
    turned: dict[str, Any] = {"ha": "center"}
    if tilted:
        turned = {"ha": "right", "rotation": 45, "rotation_mode": "anchor"}
    for i, name in enumerate(names):
        axes.text(left - gap, top + middles[i], name, ha="right", va="center", fontsize=name_size)
        share = f"{100 * hits[i] / seen[i]:.1f} %" if seen[i] else "unseen"
        axes.text(right + gap, top + middles[i], share, va="center", fontsize=min(name_size, 9), color=GREY)
        axes.text(left + middles[i], bottom + gap, name, va="top", fontsize=name_size, **turned)
    axes.text(right + gap, top - gap, "correct", va="bottom", fontsize=9, color=GREY)
    axes.text(45, (top + bottom) / 2, "true class", rotation=90, **CENTRED)
    axes.text((left + right) / 2, bottom + below - 30, "predicted as", **CENTRED)

    axes.text(panel, top, "Worst confusions" if lines else "No confusions", fontweight="bold", va="top")
    for row, line in enumerate(lines, start=1):
        axes.text(panel, top + 12 + 36 * row, line, va="top")
    sheet.write(path)


def plot_errors(
    path: PathLike,
    images: NDArray[np.uint8],
    labels: Array,
    predictions: Array,
    probabilities: Array,
    classes: Sequence[str],
) -> None:
    """The misclassified images, the most confident errors first, each with prediction and truth.

    `images` is uint8 (N, C, H, W) with one channel or three; `labels`, `predictions` and
    `probabilities` (the network's confidence in its prediction) are (N,).
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ShapeError(f"plot_errors: expected images (N, 1 or 3, H, W), received {images.shape}")
    given = {"labels": labels, "predictions": predictions}
    _check("plot_errors", classes, images=images, probabilities=probabilities, **given)
    wrong = np.flatnonzero(labels != predictions)
    wrong = wrong[np.argsort(-probabilities[wrong], kind="stable")]
    if not len(wrong):
        count = plural(len(images), "image")
        Sheet(1000, 160, "No misclassified images", f"{count}, and every prediction is right").write(path)
        return

    names = [_shorten(name) for name in classes]
    captions = [f"predicted as {names[predictions[i]]} ({_percent(probabilities[i])})" for i in wrong]
    widest = max(text_width(text, 8.5) for text in captions)
    largest = max(images.shape[2:])
    zoom = max(1, round(min(max(widest, 190), 330) / largest))
    step = -(-largest // 330)  # a photograph larger than its place is thinned out
    h, w = (zoom * -(-side // step) for side in images.shape[2:])
    pitch = max(w, widest) + 20
    columns = max(1, min(len(wrong), 1760 // pitch))
    shown = wrong[: 4 * columns]
    tiles = np.moveaxis(images[shown, :, ::step, ::step], 1, -1) / 255
    mosaic, corners = mosaic_of(tiles, zoom, columns, (85, pitch - w))
    height, width = mosaic.shape[:2]

    some = len(shown) < len(wrong)
    order = f"shown: the {len(shown)} most confident" if some else "the most confident first"
    subtitle = f"{_share(len(wrong), len(images))}; {order} (confidence in brackets)"
    left, top = 40 + max(widest - w, 0) // 2, 130
    sheet = Sheet(2 * left + width, top + height + 100, "Misclassified images", subtitle)
    sheet.put(mosaic, left, top)
    small: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8.5}
    for i, caption, (y, x) in zip(shown, captions, corners, strict=False):
        middle, below = left + x + w / 2, top + y + h + 8
        sheet.axes.text(middle, below, caption, color=VERMILION, **small)
        sheet.axes.text(middle, below + 29, f"true: {names[labels[i]]}", **small)
    sheet.write(path)


def plot_augmentation(path: PathLike, images: NDArray[np.uint8], variants: NDArray[np.uint8]) -> None:
    """A row for each image: itself, then its variants.

    `images` is uint8 (N, C, H, W) with one channel or three, `variants` (N, K, C, H, W).
    """
    n, k = variants.shape[:2]
    if images.shape != (n, *variants.shape[2:]) or images.shape[1] not in (1, 3):
        raise ShapeError(
            "plot_augmentation: expected images (N, 1 or 3, H, W) and variants (N, K, ...) of "
            f"them, received {images.shape} and {variants.shape}"
        )
    largest = max(images.shape[2:])
    zoom, step = max(1, round(112 / largest)), -(-largest // 224)
    rows = np.concatenate([images[:, None], variants], axis=1).reshape(-1, *images.shape[1:])
    tiles = np.moveaxis(rows[..., ::step, ::step], 1, -1) / 255
    w, gap = zoom * tiles.shape[2], 12
    mosaic, _ = mosaic_of(tiles, zoom, 1 + k, (gap, gap))
    left, top, apart = 40, 165, 30  # the originals stand apart
    height, width = mosaic.shape[:2]
    subtitle = "each epoch of training draws new variants of every image; these are some"
    sheet = Sheet(2 * left + width + apart, top + height + 40, "Augmentation", subtitle)
    for name, part, x in (("image", mosaic[:, :w], left), ("variants", mosaic[:, w + gap :], left + w + gap + apart)):
        sheet.put(part, x, top)
        sheet.axes.text(x, top - 10, name, fontsize=9, color=GREY, va="bottom")
    sheet.write(path)


def _check(where: str, classes: Sequence[str], **arrays: Array) -> None:
    """All arrays have one length, and labels and predictions are indices into `classes`."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"{where}: expected arrays of one length, received {lengths}")
    for name in ("labels", "predictions"):
        array = arrays[name]
        if array.size and not (array.min() >= 0 and array.max() < len(classes)):
            raise DataError(
                f"{where}: expected {name} from 0 to {len(classes) - 1}, received {array.min()} to {array.max()}"
            )


def _shorten(name: str) -> str:
    name = label(name)
    return name if len(name) <= 18 else name[:17] + "…"


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {plural(whole, 'image')} ({100 * part / max(whole, 1):.2f} %)"


def _percent(probability: float) -> str:
    return f"{100 * min(probability, 0.999):.1f} %"  # 99.98 % would round to certainty
