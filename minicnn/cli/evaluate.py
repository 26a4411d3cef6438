"""`minicnn evaluate`: a trained model on the images of a data set that it was not trained on."""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn import data
from minicnn.config.experiment import EVALUATION_BATCH, build_loss, load_data
from minicnn.config.settings import Settings, load_settings
from minicnn.console import answer, label, warn
from minicnn.data import Batches, Dataset
from minicnn.engine.progress import compiling
from minicnn.errors import ConfigError, DataError
from minicnn.inspect.metrics import confusion_matrix, precision_recall
from minicnn.losses import LOSSES, Loss
from minicnn.model import Model, load
from minicnn.training.step import evaluate

from .common import Parser, add_run

SUMMARY = "print a model's accuracy, precision, recall and confusions"
DESCRIPTION = """\
Evaluate a model on the test images of its data set, or on the validation images if the run held some out.
Print accuracy, loss, the precision, recall and F1 of each class, and the confusion matrix.
"""
EXAMPLES = """\
examples:
  minicnn evaluate runs/lenet-20250101-120000
  minicnn evaluate runs/lenet-20250101-120000 --json
  minicnn evaluate runs/lenet-20250101-120000 --data mnist --root ~/data
  minicnn evaluate runs/lenet-20250101-120000 --data folder --path my-digits
"""

WIDEST = 20  # classes: a larger confusion matrix does not fit on a screen


@dataclass(frozen=True)
class Report:
    """What a model did on a data set; `confusion` counts images of a class (row) taken for another (column)."""

    dataset: Dataset
    loss_name: str
    loss: float
    accuracy: float
    confusion: NDArray[np.int64]


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("--data", metavar="NAME", help="a data set [the run's own]")
    parser.add_argument("--path", type=Path, help="where the data set folder or arrays lies")
    parser.add_argument("--root", type=Path, help="the folder of downloaded data sets [the run's, or data]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(arguments: argparse.Namespace) -> int:
    run_evaluate(Path(arguments.run), arguments.data, arguments.path, arguments.root, arguments.json)
    return 0


def run_evaluate(run: Path, name: str | None, path: Path | None, root: Path | None, as_json: bool) -> None:
    """Prints accuracy, loss, figures of each class and the confusion matrix, as tables or as JSON.

    run: a run's folder, or a model file; name, path, root: the data set if it is not the run's own (see load_dataset).
    Raises MinicnnError for a model or data that cannot be had or do not fit each other.
    """
    model = load(run)
    settings = _settings_of(run)
    dataset = _load_data(model, settings, name, path, root)
    loss = build_loss(settings) if settings else LOSSES[model.loss]()
    report = make_report(model, dataset, loss)
    answer(json.dumps(as_tree(report), indent=2) if as_json else as_tables(report))


def make_report(model: Model, dataset: Dataset, loss: Loss) -> Report:
    """The model on the test images of `dataset`, in the same batches as in training: the figures are the same."""
    _check_fit(model, dataset)
    batches = Batches(
        dataset.test_images, dataset.test_labels, EVALUATION_BATCH, model.mean, model.std, padding=model.padding
    )
    with compiling():
        result = evaluate(model.network, loss, batches)
    predictions = result.scores.argmax(axis=1)
    confusion = confusion_matrix(dataset.test_labels, predictions, len(dataset.classes))
    return Report(dataset, model.loss, result.loss, result.accuracy, confusion)


def _settings_of(run: Path) -> Settings | None:
    """The settings of a run's folder, or of the run that has this checkpoint; None where there are none."""
    path = (run.parent.parent if run.parent.name == "checkpoints" else run) / "config.yaml"
    if not path.is_file():
        return None
    try:
        return load_settings(path)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def _load_data(
    model: Model, settings: Settings | None, name: str | None, path: Path | None, root: Path | None
) -> Dataset:
    own = name is None and path is None
    if name is None:
        name = model.data_set if path is None or model.data_set in data.OWN else "folder"
    if name is None:
        raise ConfigError("--data: expected a data set, since the model does not name its own")
    if name in data.OWN and root is not None:
        raise ConfigError(f"--root: expected none with the data set {name}, received {root}")
    root = root or (settings.data.root if settings else Path("data"))
    if own and settings and settings.data.name == name:
        chosen = settings.data.model_copy(update={"root": root, "if_unavailable": "error"})
        return load_data(settings.model_copy(update={"data": chosen}), warn)
    options: dict[str, Any] = {"root": root}
    if name in data.OWN:
        if path is None:
            raise ConfigError(f"--path: expected the place of the data set {name}, received none")
        options |= {"path": path, "test_on_all": True}
        if name == "folder":
            options |= {"resize": model.input_shape[1:], "grey": model.input_shape[0] == 1}
    elif path is not None:
        raise ConfigError(f"--path: expected none with --data {name}, received {path}")
    return data.load_dataset(name, warn=warn, **options)


def _check_fit(model: Model, dataset: Dataset) -> None:
    shape = dataset.test_images.shape[1:]
    if model.input_shape != shape:
        raise DataError(
            f"data set {dataset.name}: expected images of {model.input_shape} like those that the "
            f"model was trained on, received {shape}"
        )
    if model.output_shape != (len(dataset.classes),):
        raise DataError(
            f"data set {dataset.name}: expected {model.output_shape[0]} classes like the model's, "
            f"received {len(dataset.classes)}"
        )
    if model.classes is not None and model.classes != dataset.classes:
        raise DataError(
            f"data set {dataset.name}: expected the model's classes {_listed(model.classes)}, "
            f"received {_listed(dataset.classes)}"
        )


def _listed(classes: tuple[str, ...]) -> str:
    return ", ".join(map(label, classes if len(classes) <= 10 else (*classes[:9], "...")))


def as_tree(report: Report) -> dict[str, Any]:
    """The report for JSON."""
    figures = precision_recall(report.confusion)
    return {
        "data_set": report.dataset.name,
        "held_out": report.dataset.held_out,
        "images": len(report.dataset.test_labels),
        "accuracy": report.accuracy,
        "loss": report.loss,
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
    wide = max(5, *map(len, names))
    lines = [
        f"accuracy {report.accuracy:.2%}, loss {report.loss:.4f} ({report.loss_name}) on the "
        f"{len(dataset.test_labels):,} {dataset.held_out} images of {dataset.name}",
        "",
        f"{'class':<{wide}}  precision   recall       F1   images",
    ]
    for k, name in enumerate(names):
        shares = (figures.precision[k], figures.recall[k], figures.f1[k])
        precision, recall, f1 = (f"{share:.2%}" for share in shares)
        lines.append(f"{name:<{wide}}  {precision:>9}  {recall:>7}  {f1:>7}  {figures.support[k]:>7,}")
    lines.append("")
    lines += _matrix(confusion, names, wide) if len(names) <= WIDEST else _worst(confusion, names)
    return "\n".join(lines)


def _matrix(confusion: NDArray[np.int64], names: tuple[str, ...], wide: int) -> list[str]:
    heads = [name[:8] for name in names]
    column = max(*map(len, heads), len(str(confusion.max())))
    head = "  ".join(f"{name:>{column}}" for name in heads)
    lines = ["confusion matrix: a row for each class, a column for what it was taken for", ""]
    lines.append(f"{'':<{wide}}  {head}")
    for name, row in zip(names, confusion.tolist(), strict=True):
        lines.append(f"{name:<{wide}}  " + "  ".join(f"{n or '.':>{column}}" for n in row))
    return lines


def _worst(confusion: NDArray[np.int64], names: tuple[str, ...]) -> list[str]:
    """The most frequent confusions, where the whole matrix would be too wide."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:10]
    lines = ["most frequent confusions (--json gives the whole matrix)", ""]
    for k, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[k, j]:
            lines.append(f"{wrong[k, j]:>6,}  {names[k]} taken for {names[j]}")
    return lines
