"""`minicnn evaluate`: a trained model on the images of a data set that it was not trained on."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.console import answer, label, table
from minicnn.data import Dataset
from minicnn.engine.progress import compiling
from minicnn.losses import LOSSES, Loss
from minicnn.metrics import FIGURES, confusion_matrix, precision_recall, words_of
from minicnn.model import Model, load
from minicnn.model.tta import evaluate_scores
from minicnn.runs.data import check_fit, load_data_for, loss_of, settings_of
from minicnn.training.step import evaluate

from .common import Parser, add_data, add_run, add_tta, warn_of_views

SUMMARY = "print a model's accuracy, precision, recall and confusions"
DESCRIPTION = """\
Evaluate a model on the test images of its data set, or on the validation images if the run held some out.
Print accuracy, loss, balanced accuracy, macro F1 and top-k accuracy, the precision, recall and F1 of each class, and
the confusion matrix. The loss is that of the training, with its label smoothing and class weights.
"""
EXAMPLES = """\
examples:
  minicnn evaluate runs/lenet-20250101-120000
  minicnn evaluate runs/lenet-20250101-120000 --json
  minicnn evaluate runs/lenet-20250101-120000 --tta 16
  minicnn evaluate runs/lenet-20250101-120000 --data mnist --root ~/data
  minicnn evaluate runs/lenet-20250101-120000 --data folder --path my-digits
"""

WIDEST = 20  # classes: a larger confusion matrix does not fit on a screen


@dataclass(frozen=True)
class Report:
    """What a model did on a data set; `figures` are those of `Evaluation.figures`, and `confusion` counts images of a
    class (row) taken for another (column)."""

    dataset: Dataset
    loss_name: str
    figures: Mapping[str, float]
    confusion: NDArray[np.int64]


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    add_data(parser)
    add_tta(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    words = arguments.data, arguments.path, arguments.root, arguments.json, arguments.tta
    run_evaluate(Path(arguments.run), *words)
    return 0


def run_evaluate(
    run: Path, name: str | None, path: Path | None, root: Path | None, as_json: bool, tta: int = 1
) -> None:
    """Prints accuracy, loss, figures of each class and the confusion matrix, as tables or as JSON.

    run: a run's folder, or a model file; name, path, root: the data set if it is not the run's own (see load_dataset).
    tta: how many views of each image count. Raises MinicnnError for a model or data that cannot be had or do not fit
    each other.
    """
    model = load(run)
    warn_of_views(model, tta)
    settings = settings_of(run)
    dataset = load_data_for(model, settings, name, path, root)
    loss = loss_of(model, settings, lambda: dataset)
    report = make_report(model, dataset, loss, tta)
    if as_json:
        answer(json.dumps(as_tree(report) | ({"views": tta} if tta > 1 else {}), indent=2))
        return
    if tta > 1:
        answer(f"the mean of {tta} views of each image:")
    answer(as_tables(report))


def make_report(model: Model, dataset: Dataset, loss: Loss, tta: int = 1) -> Report:
    """The model on the test images of `dataset`, in the same batches as in training: the figures are the same."""
    check_fit(model, dataset)
    batches = model.evaluation_batches(dataset.test_images, dataset.test_labels)
    with compiling():
        if tta > 1:
            result = evaluate_scores(model.scores(dataset.test_images, tta), loss, dataset.test_labels)
        else:
            result = evaluate(model.network, loss, batches)
    predictions = result.scores.argmax(axis=1)
    confusion = confusion_matrix(dataset.test_labels, predictions, len(dataset.classes))
    name = next((name for name, kind in LOSSES.items() if kind is type(loss)), repr(loss))
    return Report(dataset, name, result.figures(), confusion)


def as_tree(report: Report) -> dict[str, Any]:
    """The report for JSON."""
    figures = precision_recall(report.confusion)
    return {
        "data_set": report.dataset.name,
        "held_out": report.dataset.held_out,
        "images": len(report.dataset.test_labels),
        **report.figures,
        "loss_name": report.loss_name,
        "classes": [
            {
                "class": name,
                "precision": float(figures.precision[k]),
                "recall": float(figures.recall[k]),
                "f1": float(figures.f1[k]),
                "support": int(figures.support[k]),
            }
            for k, name in enumerate(report.dataset.classes)
        ],
        "confusion": report.confusion.tolist(),
    }


def as_tables(report: Report) -> str:
    """The report for people."""
    dataset, confusion = report.dataset, report.confusion
    names, figures = tuple(map(label, dataset.classes)), precision_recall(confusion)
    accuracy, loss = report.figures["accuracy"], report.figures["loss"]
    head = (
        f"accuracy {accuracy:.2%}, loss {loss:.4f} ({report.loss_name}) on the "
        f"{len(dataset.test_labels):,} {dataset.held_out} images of {dataset.name}\n"
    ) + ", ".join(f"{words_of(name)} {value:.2%}" for name, value in report.figures.items() if name not in FIGURES[:2])
    shares = zip(figures.precision, figures.recall, figures.f1, strict=True)
    rows = [
        (name, *(f"{share:.2%}" for share in three), f"{count:,}")
        for name, three, count in zip(names, shares, figures.support, strict=True)
    ]
    of_classes = table(rows, "<>>>>", ("class", "precision", "recall", "F1", "images"))
    return f"{head}\n\n{of_classes}\n\n{(_matrix if len(names) <= WIDEST else _worst)(confusion, names)}"


def _matrix(confusion: NDArray[np.int64], names: tuple[str, ...]) -> str:
    rows = [(name, *(str(n or ".") for n in row)) for name, row in zip(names, confusion.tolist(), strict=True)]
    matrix = table(rows, "<" + len(names) * ">", ("", *(name[:8] for name in names)))
    return f"confusion matrix: a row for each class, a column for what it was taken for\n\n{matrix}"


def _worst(confusion: NDArray[np.int64], names: tuple[str, ...]) -> str:
    """The most frequent confusions, where the whole matrix would be too wide."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    pairs = [(k, j) for k, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[k, j]]
    lines = [f"{wrong[k, j]:>6,}  {names[k]} taken for {names[j]}" for k, j in pairs]
    return "\n".join(["most frequent confusions (--json gives the whole matrix)", "", *lines])
