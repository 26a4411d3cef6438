"""`minicnn page`: a trained network at work, as one HTML file."""

import argparse
from pathlib import Path

from minicnn.console import answer
from minicnn.errors import MinicnnError
from minicnn.files import write_whole

from .common import Parser, add_data, add_subject, subject_of

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
  minicnn page configs/lenet.yaml data.name=mnist-subset    (with the weights that a training begins with)
"""


def add_arguments(parser: Parser) -> None:
    add_subject(parser)
    parser.add_argument("-o", "--out", metavar="FILE", type=Path, help="the page [page.html in RUN, or CONFIG.html]")
    add_data(parser)


def run(arguments: argparse.Namespace) -> int:
    from minicnn.page.bundle import page
    from minicnn.page.facts import check, collect

    subject = subject_of(arguments)
    check(subject.model)
    name = Path(subject.name)
    target: Path = arguments.out or (subject.folder / "page.html" if subject.trained else Path(f"{name.stem}.html"))
    if target.is_dir():
        raise MinicnnError(f"--out: expected a file to write, received the folder {target}")
    epochs = subject.folder / "epochs"
    title = f"{name.resolve().name if name.is_dir() else name.stem} on {subject.data.name}"
    kept = epochs if subject.trained and epochs.is_dir() else None
    facts = collect(subject.model, subject.data, subject.settings, kept)
    write_whole(target, page(title, {"title": title, **facts}).encode())
    answer(str(target))
    return 0
