"""`minicnn evaluate`: a trained model on the images of a data set that it was not trained on."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.console import answer, label, table
from minicnn.data import Dataset
from minicnn.engine.progress import compiling
from minicnn.losses import LOSSES, Loss
from minicnn.metrics import FIGURES, confusion_matrix, precision_recall, tops, words_of
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

#: What --json prints: the figures, those of each class, and how many images of a class (row) were taken for another.
Report = dict[str, Any]


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    add_data(parser)
    add_tta(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    model, tta = load(arguments.run), arguments.tta
    warn_of_views(model, tta)
    settings = settings_of(Path(arguments.run))
    dataset = load_data_for(model, settings, arguments.data, arguments.path, arguments.root)
    report = report_on(model, dataset, loss_of(model, settings, lambda: dataset), tta)
    if arguments.json:
        answer(json.dumps(report, indent=2))
    else:
        answer((f"the mean of {tta} views of each image:\n" if tta > 1 else "") + as_tables(report))
    return 0


def report_on(model: Model, dataset: Dataset, loss: Loss, tta: int = 1) -> Report:
    """The model on the test images of `dataset`, in the same batches as in training: the figures are the same."""
    check_fit(model, dataset)
    labels = dataset.test_labels
    with compiling():
        if tta > 1:
            result = evaluate_scores(model.scores(dataset.test_images, tta), loss, labels)
        else:
            result = evaluate(model.network, loss, model.evaluation_batches(dataset.test_images, labels))
    confusion = confusion_matrix(labels, result.scores.argmax(axis=1), len(dataset.classes))
    figures = {name: values.tolist() for name, values in vars(precision_recall(confusion)).items()}
    return {
        "data_set": dataset.name,
        "held_out": dataset.held_out,
        "images": len(labels),
        **result.figures(),
        "loss_name": next((name for name, kind in LOSSES.items() if kind is type(loss)), repr(loss)),
        "classes": [
            {"class": name, **{key: values[k] for key, values in figures.items()}}
            for k, name in enumerate(dataset.classes)
        ],
        "confusion": confusion.tolist(),
        **({"views": tta} if tta > 1 else {}),
    }


def as_tables(report: Report) -> str:
    """The report for people."""
    classes, confusion = report["classes"], np.array(report["confusion"])
    names = [label(one["class"]) for one in classes]
    others = [name for name in (*FIGURES[2:], *tops(len(names))) if name in report]
    head = (
        f"accuracy {report['accuracy']:.2%}, loss {report['loss']:.4f} ({report['loss_name']}) on the "
        f"{report['images']:,} {report['held_out']} images of {report['data_set']}\n"
    ) + ", ".join(f"{words_of(name)} {report[name]:.2%}" for name in others)
    rows = [
        (name, *(f"{one[key]:.2%}" for key in ("precision", "recall", "f1")), f"{one['support']:,}")
        for name, one in zip(names, classes, strict=True)
    ]
    of_classes = table(rows, "<>>>>", ("class", "precision", "recall", "F1", "images"))
    return f"{head}\n\n{of_classes}\n\n{(_matrix if len(names) <= WIDEST else _worst)(confusion, names)}"


def _matrix(confusion: NDArray[np.int64], names: Sequence[str]) -> str:
    rows = [(name, *(str(n or ".") for n in row)) for name, row in zip(names, confusion.tolist(), strict=True)]
    matrix = table(rows, "<" + len(names) * ">", ("", *(name[:8] for name in names)))
    return f"confusion matrix: a row for each class, a column for what it was taken for\n\n{matrix}"


def _worst(confusion: NDArray[np.int64], names: Sequence[str]) -> str:
    """The most frequent confusions, where the whole matrix would be too wide."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    pairs = [(k, j) for k, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[k, j]]
    lines = [f"{wrong[k, j]:>6,}  {names[k]} taken for {names[j]}" for k, j in pairs]
    return "\n".join(["most frequent confusions (--json gives the whole matrix)", "", *lines])
