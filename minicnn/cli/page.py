"""`minicnn page`: a trained network at work, as one HTML file."""

import argparse
from pathlib import Path

from minicnn.console import answer
from minicnn.errors import MinicnnError
from minicnn.files import write_whole
from minicnn.model import load
from minicnn.runs.data import check_fit, load_data_for, settings_of

from .common import Parser, add_data, add_run

SUMMARY = "write a page that shows a model at work, forward and backward"
DESCRIPTION = """\
Write one HTML file that shows a trained model at work in any browser, forward and backward: draw a digit, see
all maps, look at any unit and its window in numbers, train it a step or from new weights. The file holds all
it needs, the weights, some test images and up to 1,000 training images, and asks no network for anything.
"""
EXAMPLES = """\
examples:
  minicnn page runs/lenet-20250101-120000                   (writes runs/lenet-20250101-120000/page.html)
  minicnn page runs/lenet-20250101-120000 -o lesson.html
"""


def add_arguments(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="the page [page.html in RUN]")
    add_data(parser)


def run(arguments: argparse.Namespace) -> int:
    run_page(Path(arguments.run), arguments.out, arguments.data, arguments.path, arguments.root)
    return 0


def run_page(run: Path, out: Path | None, name: str | None, path: Path | None, root: Path | None) -> None:
    """Writes the page of a run, or of a model file.

    out: the file [page.html in the run's folder]; name, path, root: the data set if it is not the run's own.
    Raises MinicnnError for a model or data that cannot be had or do not fit, and a file that cannot be written.
    """
    from minicnn.page.bundle import page
    from minicnn.page.facts import check, collect

    model = load(run)
    check(model)
    settings = settings_of(run)
    dataset = load_data_for(model, settings, name, path, root)
    check_fit(model, dataset)
    folder = run if run.is_dir() else run.parent
    target = out or folder / "page.html"
    if target.is_dir():
        raise MinicnnError(f"--out: expected a file to write, received the folder {target}")
    epochs = folder / "epochs"
    title = f"{run.resolve().name if run.is_dir() else run.stem} on {dataset.name}"
    facts = collect(model, dataset, settings, epochs if epochs.is_dir() else None)
    write_whole(target, page(title, {"title": title, **facts}).encode())
    answer(str(target))
